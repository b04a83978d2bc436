"""All layers by one compiled layer: `lax.scan` runs the same block over weights stacked along a first axis.

So compiling takes as long for 48 layers as for 12. Forward hands backward what each op saved; of that, every
array is kept once, however many ops saved it, and the weights not at all: backward has them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from handgrad.engines.xla import random
from handgrad.engines.xla.placement import ALONE, Placement
from handgrad.model.block import Block, Past
from handgrad.model.transformer import Transformer
from handgrad.shapes import Array, Float, UniformSource

Layers = Literal["separate", "scanned", "rematerialized"]
"""How layers are compiled: each on its own; one for all; one for all, and computed again before its backward.

Separate, their arrays stay where they were computed: that saves copies, a fifth of a step's time on a GPU.
But compiling takes longer with every layer."""

GIVEN, KEPT, CONSTANT = range(3)
"""Where a part of what was saved comes from: the weights, the arrays kept, or the program itself."""


class Kept:
    """How what one layer saved is put together again, found out while forward is traced."""

    def take(self, saved: Any, given: Any) -> list[Array]:
        """The arrays of `saved`, each once, without those of `given`."""
        leaves, self._form = jax.tree.flatten(saved)
        pools: tuple[list[Any], ...] = (jax.tree.leaves(given), [], [])
        places = {id(leaf): (GIVEN, n) for n, leaf in enumerate(pools[GIVEN])}
        for leaf in leaves:
            if id(leaf) not in places:
                pool = KEPT if isinstance(leaf, jax.core.Tracer) else CONSTANT
                places[id(leaf)] = (pool, len(pools[pool]))
                pools[pool].append(leaf)
        self._places = [places[id(leaf)] for leaf in leaves]
        self._constants = pools[CONSTANT]
        return pools[KEPT]

    def whole(self, kept: list[Array], given: Any) -> Any:
        """What the layer saved, from what was kept of it."""
        pools = (jax.tree.leaves(given), kept, self._constants)
        return jax.tree.unflatten(self._form, [pools[pool][n] for pool, n in self._places])


class Saved(NamedTuple):
    """What all layers saved, along a first axis."""

    weights: Any
    keys: Array | None
    arrays: Any
    """What each layer kept; where layers are computed again, the stream they were given."""
    kept: Kept


@dataclass(frozen=True)
class Scanned(Transformer):
    """The transformer, its blocks' weights stacked: `p.Transformer.blocks` is one `p.Block` of arrays
    (L, ...).

    `rematerialize`: keep only the stream between layers, and compute a layer again before its backward. That
    is a third more arithmetic for a fraction of the memory.
    """

    rematerialize: bool = False
    placement: Placement = ALONE

    def layers(
        self,
        x: Float[Array, "B T D"],
        weights: Any,
        *,
        past: Sequence[Past] | None = None,
        rng: UniformSource | None = None,
    ) -> tuple[Float[Array, "B T D"], Any]:
        random.require_keyed(rng)
        keys = rng.of_layers(self.config.n_layers) if isinstance(rng, random.Keyed) else None
        kept = Kept()

        def run(x: Array, layer: Any) -> tuple[Array, Any]:
            layer_weights, keys, turned = layer
            used = self.placement.used(layer_weights)
            y, saved = self._forward(x, used, keys, turned)
            return y, x if self.rematerialize else kept.take(saved, used)

        x, arrays = lax.scan(run, x, (weights, keys, self._turned()))
        return x, Saved(weights, keys, arrays, kept)

    def layers_backward(self, dx: Float[Array, "B T D"], saved: Any) -> tuple[Float[Array, "B T D"], Any]:
        def undo(dx: Array, layer: Any) -> tuple[Array, Any]:
            weights, keys, turned, arrays = layer
            used = self.placement.used(weights)
            if self.rematerialize:
                _, one = self._forward(arrays, used, keys, turned)
            else:
                one = saved.kept.whole(arrays, used)
            dx, gradients = self.block.backward(dx, one)
            return dx, self.placement.summed(gradients)

        layers = saved.weights, saved.keys, self._turned(), saved.arrays
        return lax.scan(undo, dx, layers, reverse=True)

    def _forward(self, x: Array, weights: Any, keys: Array | None, turned: Array | None) -> tuple[Array, Any]:
        ops: Any = self.ops
        block = self.block if turned is None else Block(self.config, ops.turning(turned))
        return block.forward(x, weights, rng=None if keys is None else random.Keyed(keys))

    def _turned(self) -> Array | None:
        """Of each layer, whether it turns queries and keys; None where all do alike."""
        if self.config.unturned_every is None:
            return None
        return jnp.array([self.config.turns(layer) for layer in range(self.config.n_layers)])
