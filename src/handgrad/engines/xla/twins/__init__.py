"""The ops as this engine runs them: the formulas, and twins where the formulas alone would be slow or coarse.

In bfloat16, products alone are narrow: norms, softmax, activations, losses compute in float32 (`wide.Wide`).
With `Fused`, attention, norms and the loss are the device's own kernels; of several devices, each runs them
on its part of the batch.
"""

import copy
from typing import NamedTuple

from handgrad import ops
from handgrad.engines.xla.placement import ALONE, Placement
from handgrad.engines.xla.twins.attention import FormulaAttention, FusedAttention
from handgrad.engines.xla.twins.embedding import Embedding
from handgrad.engines.xla.twins.feed_forward import FeedForward
from handgrad.engines.xla.twins.multi_head_attention import MultiHeadAttention
from handgrad.engines.xla.twins.next_token_loss import FormulaLoss, FusedLoss, NextTokenLoss
from handgrad.engines.xla.twins.norm import FusedNorm
from handgrad.engines.xla.twins.wide import Wide
from handgrad.gradcheck import Op
from handgrad.shapes import Array


class Fused(NamedTuple):
    """Which kernels take a formula's place."""

    attention: str | None = "cudnn"
    """An implementation of `jax.nn.dot_product_attention`; None is the formula."""
    interpret: bool = False
    """Run kernels as plain array code: on any device, slowly."""


class Twins:
    """All ops that a transformer calls, by name. Without `fused` they are the formulas in every step."""

    def __init__(self, fused: Fused | None = None, placement: Placement = ALONE):
        self.dropout, self.residual = ops.dropout, ops.residual
        self.learned_position, self.sinusoidal_position = ops.learned_position, ops.sinusoidal_position
        self.linear, self.unembedding = ops.linear, ops.unembedding
        self.embedding, self.feed_forward = Embedding(), FeedForward()
        attention: Op = FormulaAttention()
        self.layer_norm: Op = Wide(ops.layer_norm)
        self.rms_norm: Op = Wide(ops.rms_norm)
        entropy: FormulaLoss | FusedLoss = FormulaLoss()
        if fused is not None:
            self.layer_norm = FusedNorm(centred=True, interpret=fused.interpret, placement=placement)
            self.rms_norm = FusedNorm(centred=False, interpret=fused.interpret, placement=placement)
            if placement.size("model") == 1:  # the kernel reads whole rows of logits
                entropy = FusedLoss(interpret=fused.interpret, placement=placement)
            if fused.attention:
                attention = FusedAttention(fused.attention, interpret=fused.interpret, placement=placement)
        self.next_token_loss = NextTokenLoss(entropy, placement.n_devices)
        self.multi_head_attention = MultiHeadAttention(attention)

    def turning(self, turned: Array) -> "Twins":
        """The same ops for a layer of which only the device knows whether it turns queries and keys."""
        ops = copy.copy(self)
        ops.multi_head_attention = MultiHeadAttention(self.multi_head_attention.attention, turned)
        return ops
