"""Writing on the device: texts in progress, whose keys and values stay there.

The cache has its whole length from the beginning, so what is compiled for one token serves for all of them.
Pieces of about one length are read together, filled up to a power of two, and few shapes are compiled.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from handgrad import parameters as p
from handgrad.engines import texts as in_progress
from handgrad.engines.xla import device
from handgrad.engines.xla import weights as stacking
from handgrad.engines.xla.twins import Twins
from handgrad.engines.xla.twins.cached_attention import CachedAttention, rows_of
from handgrad.model.block import Block
from handgrad.model.config import ModelConfig
from handgrad.model.init import require_weights_of
from handgrad.ops import sinusoidal_position
from handgrad.shapes import Array, Float, Int


class Cache(NamedTuple):
    """Of all layers, along a first axis: (L, B, G, S, K)."""

    keys: Any
    values: Any


class Group(NamedTuple):
    """Pieces that are read together."""

    members: list[int]
    """Their numbers among the pieces."""
    texts: np.ndarray
    """(B,): where each is written. What fills the batch up is written to no text: its number is too large."""
    token_ids: np.ndarray
    """(B, T), filled up with zeros."""
    positions: np.ndarray
    """(B, T): of what fills up, one that the cache does not have."""
    last: np.ndarray
    """(B,): the number of each piece's last token."""


class Decoding:
    """Texts in progress, with the keys and values of their tokens so far: the KV cache."""

    def __init__(
        self,
        config: ModelConfig,
        weights: p.Transformer,
        precision: str = "auto",
        n_texts: int = 1,
        capacity: int | None = None,
        compiling: Callable[[str], object] = lambda function: None,
    ):
        """`compiling` is told what is about to be compiled."""
        require_weights_of(config, weights)
        n_texts, self.capacity = in_progress.require_room(config, n_texts, capacity)
        self.config, self.dtype = config, device.dtype(precision)
        self.lengths = np.zeros(n_texts, np.int64)
        self._compiling = compiling
        self._compiled: set[tuple[Any, ...]] = set()
        stacked = stacking.to_device(weights, stacked=True, dtype=np.float32)
        self.weights = jax.jit(lambda weights: stacking.narrowed(weights, self.dtype))(stacked)
        self._read = device.compiled(
            self._logits, self.dtype, donate_argnums=1, static_argnames=("every", "whole")
        )
        shape = config.n_layers, n_texts, config.kv_heads, self.capacity, config.head_width
        self._cache = Cache(jnp.zeros(shape, self.dtype), jnp.zeros(shape, self.dtype))

    def read(
        self, pieces: Sequence[np.ndarray], texts: Sequence[int] | None = None, *, every: bool = False
    ) -> np.ndarray:
        """Read each piece at the end of its text; return the logits (n, V) of what follows, as `Decoding` in
        `engine` has it."""
        pieces, numbers = in_progress.require_pieces(self.config, pieces, texts, self.lengths, self.capacity)
        found: dict[int, np.ndarray] = {}
        for group in self._groups(pieces, numbers):
            logits = self._read_group(group, every)
            for i, rows in zip(group.members, logits, strict=False):
                found[i] = rows[: len(pieces[i])]
        self.lengths[numbers] += [len(piece) for piece in pieces]
        return np.concatenate([found[i] for i in range(len(pieces))])

    def cut(self, text: int, length: int) -> None:
        """Keep the first `length` tokens of a text."""
        in_progress.require_cut(self.lengths, text, length)
        self.lengths[text] = length

    def _groups(self, pieces: list[np.ndarray], numbers: np.ndarray) -> Iterator[Group]:
        """Pieces by their lengths, filled up."""
        by_length: dict[int, list[int]] = {}
        for i, piece in enumerate(pieces):
            by_length.setdefault(min(_power_of_two(len(piece)), self.capacity), []).append(i)
        for T, members in by_length.items():
            B = min(_power_of_two(len(members)), len(self.lengths))
            texts = np.full(B, len(self.lengths), np.int32)
            token_ids = np.zeros((B, T), np.int32)
            positions = np.full((B, T), self.capacity, np.int32)
            last = np.zeros(B, np.int32)
            for row, i in enumerate(members):
                n = len(pieces[i])
                texts[row], last[row] = numbers[i], n - 1
                token_ids[row, :n] = pieces[i]
                positions[row, :n] = self.lengths[numbers[i]] + np.arange(n)
            yield Group(members, texts, token_ids, positions, last)

    def _read_group(self, group: Group, every: bool) -> np.ndarray:
        """The logits (B, 1, V), or (B, T, V) of every token."""
        whole = np.array_equal(group.texts, np.arange(len(self.lengths)))
        form = (*group.token_ids.shape, every, whole)
        if form not in self._compiled:
            self._compiled.add(form)
            self._compiling(f"reading {group.token_ids.shape[1]}")
        logits, self._cache = self._read(self.weights, self._cache, group[1:], every=every, whole=whole)
        return np.asarray(logits)

    def _logits(
        self, weights: Any, cache: Cache, group: tuple[Array, ...], *, every: bool, whole: bool
    ) -> tuple[Float[Array, "B T V"], Cache]:
        """What is compiled. `whole`: the pieces are of all texts, in order."""
        texts, token_ids, positions, last = group
        config = self.config
        ops: Any = Twins()
        scale = config.d_model**0.5 if config.scale_embedding else 1.0
        x, _ = ops.embedding.forward(weights.embedding, token_ids, scale=scale)
        x = x + self._positions(weights, positions).astype(x.dtype)

        def run(x: Array, layer: Any) -> tuple[Array, Cache]:
            layer_weights, turned, *past = layer
            block: Any = Block(config, _Twins(positions, turned))
            taken = past if whole else [rows_of(array, texts) for array in past]
            x, saved = block.forward(x, layer_weights, past=tuple(taken))
            if whole:
                return x, Cache(*saved.attention)
            pairs = zip(past, saved.attention, strict=True)
            return x, Cache(*(array.at[texts].set(rows, mode="drop") for array, rows in pairs))

        turned = jnp.array([config.turns(layer) for layer in range(config.n_layers)])
        x, cache = lax.scan(run, x, (weights.blocks, turned, *cache))
        if not every:
            x = jnp.take_along_axis(x, last[:, None, None], axis=1)
        if weights.norm is not None:
            x, _ = Block(config, ops).norm(x, weights.norm)
        if weights.head is None:
            logits, _ = ops.unembedding.forward(x, weights.embedding)
        else:
            logits, _ = ops.linear.forward(x, *weights.head)
        return logits.astype(jnp.float32), cache

    def _positions(self, weights: Any, positions: Int[Array, "B T"]) -> Array:
        """What is added to the embeddings."""
        if self.config.position == "learned":
            return rows_of(weights.positions, positions)
        if self.config.position == "sinusoidal":
            return rows_of(
                sinusoidal_position.table(self.config.context_length, self.config.d_model), positions
            )
        return jnp.zeros((), jnp.float32)


def _power_of_two(n: int) -> int:
    """The next one."""
    return 1 << (n - 1).bit_length()


class _Twins(Twins):
    """The ops of training, but for attention."""

    def __init__(self, positions: Int[Array, "B T"], turned: Array):
        super().__init__()
        self.multi_head_attention: Any = CachedAttention(positions, turned)
