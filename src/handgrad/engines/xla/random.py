"""Dropout's numbers, by counting: inside a compiled function too, they follow from a key and a place alone.

The keys are drawn outside, by `counted.Counted`, and so is the rule: from the same seed this engine drops
what the others drop. A NumPy generator would be asked once, while the function is compiled, and its mask
would be the same in every step: these ops are handed keys and no generator.
"""

import functools
import math
import operator

import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from handgrad.counted import FIRST, GOLDEN, SECOND, UNIT, Counted
from handgrad.engines import micro_batches
from handgrad.errors import UserError
from handgrad.model.config import ModelConfig

BEFORE_LAYERS, PER_LAYER = 1, 3
"""Draws of the embedding's dropout; and of a layer's attention and two residual connections."""


class Keyed:
    """Draws of uniform numbers, one key (2 x uint32) a draw: a `UniformSource` for the ops."""

    def __init__(self, keys: Array):
        self.keys = keys
        self._next = 0

    def random(self, size: tuple[int, ...]) -> Array:
        """The next draw's uniform numbers in [0, 1)."""
        low, high = self.key()
        x = _mix(_places(size) * np.uint32(GOLDEN) + low)
        bits = _mix(x ^ high) >> np.uint32(8)
        return bits.astype(float) * UNIT

    def key(self) -> Array:
        """The next draw's key, for a kernel that draws by itself."""
        key = self.keys[self._next]
        self._next += 1
        return key

    def of_layers(self, n_layers: int) -> Array:
        """The keys of all layers (L, 3, 2): nothing draws after them."""
        return jnp.reshape(self.keys[self._next :], (n_layers, PER_LAYER, 2))


def keys(
    config: ModelConfig, rng: np.random.Generator | None, n_parts: int, shape: tuple[int, int]
) -> np.ndarray | None:
    """Keys for each part (B, T) = `shape` of a batch (n_parts, 1 + 3 L, 2); None where nothing is dropped.

    As in every engine, one seed is drawn from `rng`, and each part counts on from the sequences before it.
    """
    if config.dropout == 0.0 or (seed := micro_batches.seed(rng)) is None:
        return None
    n_sequences, T = shape
    stream, scores = T * config.d_model, config.n_heads * T * T
    numbers = [stream, *[scores, stream, stream] * config.n_layers]
    parts = [Counted(seed, before=n_sequences * part) for part in range(n_parts)]
    drawn = [[part.key(n) for n in numbers] for part in parts]
    return np.array([[(key & 0xFFFFFFFF, key >> 32) for key in part] for part in drawn], np.uint32)


def require_keyed(rng: object) -> None:
    """Raise `UserError` for a source of numbers that a compiled function would ask only once."""
    if rng is not None and not isinstance(rng, Keyed):
        raise UserError(
            f"Inside jax.jit dropout takes its numbers from keys; a {type(rng).__name__} would drop the same "
            f"in every step. Hand the keys to the compiled function: handgrad.engines.xla.random.Keyed(keys)."
        )


def _places(size: tuple[int, ...]) -> Array:
    """The place of each number in a draw, 0, 1, 2, ...: counted axis by axis, so that where devices divide a
    draw each computes its part alone."""
    steps = [math.prod(size[axis + 1 :]) for axis in range(len(size))]
    each = (lax.broadcasted_iota(np.uint32, size, n) * np.uint32(step) for n, step in enumerate(steps))
    return functools.reduce(operator.add, each)


def _mix(x: Array) -> Array:
    x = (x ^ (x >> np.uint32(16))) * np.uint32(FIRST)
    x = (x ^ (x >> np.uint32(15))) * np.uint32(SECOND)
    return x ^ (x >> np.uint32(16))
