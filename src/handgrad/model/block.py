r"""One layer of the transformer: attention, then feed-forward, each around a residual connection.

$$\text{pre: } x \leftarrow x + \operatorname{Layer}(\operatorname{Norm}(x)),\qquad
\text{post: } x \leftarrow \operatorname{Norm}(x + \operatorname{Layer}(x))$$

The original (Vaswani et al., 2017) normalizes after the sum, GPT-2 and its successors before the layer:
then the residual stream runs from end to end untouched, and so does its gradient (Xiong et al., 2020,
arXiv:2002.04745).

Read `forward` downwards and `backward` upwards: line for line, each undoes the other.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

from handgrad import ops as formulas
from handgrad import parameters as p
from handgrad.model.config import ModelConfig
from handgrad.model.ops import Op, Ops
from handgrad.shapes import Array, Float, UniformSource

Past = tuple[Float[Array, "B G P K"], Float[Array, "B G P K"]]
"""Keys and values of the positions before, as a cache hands them to a layer."""


Norm = p.LayerNorm | p.RMSNorm
NormSaved = formulas.layer_norm.Saved | formulas.rms_norm.Saved


class Saved(NamedTuple):
    """What each op saved: the formulas as said here, an engine's twins their own."""

    norm1: NormSaved
    attention: formulas.multi_head_attention.Saved
    residual1: formulas.residual.Saved
    norm2: NormSaved
    feed_forward: formulas.feed_forward.Saved
    residual2: formulas.residual.Saved


@dataclass(frozen=True)
class Block:
    """A layer shaped by `config`, computed by `ops`: the formulas, or an engine's twins of them."""

    config: ModelConfig
    ops: Ops = formulas
    turned: bool = True
    """With rope: whether this layer turns queries and keys."""

    def forward(
        self,
        x: Float[Array, "B T D"],
        weights: p.Block,
        *,
        past: Past | None = None,
        rng: UniformSource | None = None,
    ) -> tuple[Float[Array, "B T D"], Saved]:
        run = self._forward_pre if self.config.norm_placement == "pre" else self._forward_post
        return run(x, weights, past, rng)

    def backward(self, dx: Float[Array, "B T D"], saved: Saved) -> tuple[Float[Array, "B T D"], p.Block]:
        run = self._backward_pre if self.config.norm_placement == "pre" else self._backward_post
        return run(dx, saved)

    def norm(self, x: Float[Array, "B T D"], weights: Norm) -> tuple[Float[Array, "B T D"], Any]:
        return self._norm_op.forward(x, *weights, eps=self.config.norm_eps)

    def norm_backward(self, dy: Float[Array, "B T D"], saved: Any) -> tuple[Float[Array, "B T D"], Norm]:
        dx, *dweights = self._norm_op.backward(dy, saved)
        return dx, (p.RMSNorm if self.config.norm == "rms_norm" else p.LayerNorm)(*dweights)

    @property
    def _norm_op(self) -> Op:
        return self.ops.rms_norm if self.config.norm == "rms_norm" else self.ops.layer_norm

    def _forward_pre(
        self, x: Array, w: p.Block, past: Past | None, rng: UniformSource | None
    ) -> tuple[Array, Saved]:
        ops, rate = self.ops, self.config.dropout
        h, norm1 = self.norm(x, w.norm1)
        h, attention = self._attention(h, w.attention, past, rng)
        x, residual1 = ops.residual.forward(x, h, dropout=rate, rng=rng)
        h, norm2 = self.norm(x, w.norm2)
        h, feed_forward = ops.feed_forward.forward(h, *w.feed_forward, activation=self.config.activation)
        x, residual2 = ops.residual.forward(x, h, dropout=rate, rng=rng)
        return x, Saved(norm1, attention, residual1, norm2, feed_forward, residual2)

    def _backward_pre(self, dx: Array, saved: Saved) -> tuple[Array, p.Block]:
        ops = self.ops
        dx, dh = ops.residual.backward(dx, saved.residual2)
        dh, *dfeed_forward = ops.feed_forward.backward(dh, saved.feed_forward)
        dh, dnorm2 = self.norm_backward(dh, saved.norm2)
        dx = ops.residual.join(dx, dh)  # two paths, one sum
        dx, dh = ops.residual.backward(dx, saved.residual1)
        dh, *dattention = ops.multi_head_attention.backward(dh, saved.attention)
        dh, dnorm1 = self.norm_backward(dh, saved.norm1)
        dx = ops.residual.join(dx, dh)
        return dx, p.Block(dnorm1, p.MultiHeadAttention(*dattention), dnorm2, p.FeedForward(*dfeed_forward))

    def _forward_post(
        self, x: Array, w: p.Block, past: Past | None, rng: UniformSource | None
    ) -> tuple[Array, Saved]:
        ops, rate = self.ops, self.config.dropout
        h, attention = self._attention(x, w.attention, past, rng)
        x, residual1 = ops.residual.forward(x, h, dropout=rate, rng=rng)
        x, norm1 = self.norm(x, w.norm1)
        h, feed_forward = ops.feed_forward.forward(x, *w.feed_forward, activation=self.config.activation)
        x, residual2 = ops.residual.forward(x, h, dropout=rate, rng=rng)
        x, norm2 = self.norm(x, w.norm2)
        return x, Saved(norm1, attention, residual1, norm2, feed_forward, residual2)

    def _backward_post(self, dx: Array, saved: Saved) -> tuple[Array, p.Block]:
        ops = self.ops
        dx, dnorm2 = self.norm_backward(dx, saved.norm2)
        dx, dh = ops.residual.backward(dx, saved.residual2)
        dh, *dfeed_forward = ops.feed_forward.backward(dh, saved.feed_forward)
        dx = ops.residual.join(dx, dh)  # two paths, one sum
        dx, dnorm1 = self.norm_backward(dx, saved.norm1)
        dx, dh = ops.residual.backward(dx, saved.residual1)
        dh, *dattention = ops.multi_head_attention.backward(dh, saved.attention)
        dx = ops.residual.join(dx, dh)
        return dx, p.Block(dnorm1, p.MultiHeadAttention(*dattention), dnorm2, p.FeedForward(*dfeed_forward))

    def _attention(
        self, x: Array, weights: p.MultiHeadAttention, past: Past | None, rng: UniformSource | None
    ) -> tuple[Array, Any]:
        config = self.config
        return self.ops.multi_head_attention.forward(
            x,
            *weights,
            n_heads=config.n_heads,
            n_kv_heads=config.kv_heads,
            rope_base=config.rope_base if config.position == "rope" and self.turned else None,
            rope_scaling=config.rope_scaling,
            norm_eps=config.norm_eps,
            past=past,
            dropout=config.dropout,
            rng=rng,
        )
