"""A transformer whose every value passes through a tap, forward and backward.

It is the transformer of the formulas: model/block.py and model/transformer.py run as they stand, on the ops
of `tapped_ops`. Unless it `keeps` what blocks save, each is computed again on the way back, so that only one
block's saved values are held at a time.
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from handgrad import parameters as p
from handgrad.model import block
from handgrad.model.block import Block
from handgrad.model.config import ModelConfig
from handgrad.model.transformer import Saved, Transformer
from handgrad.shapes import Array, Float, Int, UniformSource
from handgrad.trace.tapped_ops import TappedOps
from handgrad.trace.taps import Taps


@dataclass(frozen=True)
class Tapped(Transformer):
    """A transformer that is run once forward and once back, past taps."""

    taps: Taps = field(default_factory=Taps)
    learns: bool = True
    """Whether the gradients of weights are computed."""
    keeps: bool = False
    """Whether what blocks save is kept for the way back."""
    known: tuple[int, Float[Array, "1 T D"]] | None = None
    """A block and its input, where those before it need not be computed; then there is no way back."""
    inputs: list[tuple[Float[Array, "B T D"], p.Block]] = field(default_factory=list)
    """After forward: what each block was given, and its weights."""
    saved: dict[int, block.Saved] = field(default_factory=dict)
    """After forward, where it is kept; backward takes it away."""
    gradients: list[Float[Array, "B T D"]] = field(default_factory=list)
    """After backward: the gradient of what each block gave on."""

    @classmethod
    def of(cls, config: ModelConfig, taps: Taps, *, learns: bool = True, **how: Any) -> "Tapped":
        """The transformer of `config`, without dropout."""
        return cls(config.replace(dropout=0.0), TappedOps(taps, learns=learns), taps, learns, **how)

    def last(
        self, weights: p.Transformer, token_ids: Int[Array, "B T"]
    ) -> tuple[Float[Array, "B 1 V"], Saved]:
        """`forward`, with the logits of the last position alone."""
        x, saved = self.hidden(weights, token_ids)
        logits, head = self.head(x[:, -1:], weights)
        return logits, saved._replace(head=head)

    def hidden_backward(
        self, dx: Float[Array, "B t D"], dhead: p.Linear, saved: Saved
    ) -> tuple[p.Transformer]:
        """Also from the gradient of the last position alone."""
        n_earlier = self.inputs[0][0].shape[1] - dx.shape[1]
        if n_earlier:
            dx = np.concatenate([np.zeros((len(dx), n_earlier, dx.shape[2]), dx.dtype), dx], axis=1)
        return super().hidden_backward(dx, dhead, saved)

    def layers(
        self,
        x: Float[Array, "B T D"],
        weights: tuple[p.Block, ...],
        *,
        past: Any = None,
        rng: UniformSource | None = None,
    ) -> tuple[Float[Array, "B T D"], tuple[block.Saved, ...]]:
        """All blocks; what they save is kept here, or not at all."""
        first = 0
        if self.known is not None:
            first, given = self.known
            x = np.broadcast_to(given, x.shape)
        for layer, block_weights in enumerate(weights[first:], first):
            self.inputs.append((x, block_weights))
            x, saved = self.tapped_block(layer, self.taps).forward(x, block_weights)
            if self.keeps:
                self.saved[layer] = saved
        return x, ()

    def layers_backward(
        self, dx: Float[Array, "B T D"], saved: tuple[block.Saved, ...]
    ) -> tuple[Float[Array, "B T D"], tuple[p.Block, ...]]:
        dblocks: list[p.Block] = []
        for layer, (x, weights) in reversed(list(enumerate(self.inputs))):
            self.gradients.insert(0, dx)
            again = self.tapped_block(layer, self.taps)
            saved_block = self.saved.pop(layer, None) or again.forward(x, weights)[1]
            dx, dblock = again.backward(dx, saved_block)
            if self.learns:
                dblocks.insert(0, dblock)
        return dx, tuple(dblocks)

    def tapped_block(self, layer: int, taps: Taps) -> Block:
        """A block, for one way forward and back past `taps`."""
        return Block(
            self.config, TappedOps(taps, f"blocks.{layer}", learns=self.learns), self.config.turns(layer)
        )
