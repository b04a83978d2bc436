"""The ops of a transformer, on taps: what they compute passes there, forward and backward.

Attention and feed-forward are written out once more, since what lies inside them is tapped too: the same
steps as in their ops, in the same order, so that the numbers are the same bits.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from handgrad import ops as formulas
from handgrad import parameters as p
from handgrad.model.block import Past
from handgrad.ops import activation as activation_op
from handgrad.ops import (
    attention,
    dropout,
    feed_forward,
    gated,
    linear,
    multi_head_attention,
    rms_norm,
    rope,
    softmax,
    unembedding,
)
from handgrad.shapes import Array, Float, UniformSource, merge_heads, split_heads
from handgrad.trace.taps import Taps


def affine_backward(dz: Array, saved: linear.Saved, learns: bool) -> tuple[Array, Array | None, Array | None]:
    """`linear.backward`; unless it `learns` without the gradients of weight and bias, half of its work."""
    return linear.backward(dz, saved) if learns else (np.matmul(dz, saved.weight.T), None, None)


def unembedding_backward(dz: Array, saved: unembedding.Saved) -> tuple[Array, None]:
    """`unembedding.backward`, without the gradient of the table."""
    return _by_rows(dz, saved.weight), None


def head_backward(dz: Array, saved: linear.Saved) -> tuple[Array, None, None]:
    """`linear.backward` of a head, without the gradients of weight and bias."""
    return _by_rows(dz, saved.weight.T), None, None


def _by_rows(dz: Array, weight: Array) -> Array:
    """`dz @ weight`; rows of zeros, which the loss of one token has at all other positions, cost nothing."""
    counts = np.any(dz, axis=-1)
    if counts.all():
        return np.matmul(dz, weight)
    dx = np.zeros((*dz.shape[:-1], weight.shape[-1]), dz.dtype)
    dx[counts] = np.matmul(dz[counts], weight)
    return dx


class Named(NamedTuple):
    """What a tapped op saved, and where its result was tapped."""

    site: str
    inner: Any


@dataclass
class TappedOp:
    """A formula whose results are tapped, one after the other at the given sites."""

    op: Any
    taps: Taps
    sites: Iterator[str]
    inner_backward: Callable[..., tuple[Any, ...]] | None = None
    """By default the formula's."""

    def forward(self, *inputs: Any, **settings: Any) -> tuple[Array, Named]:
        y, saved = self.op.forward(*inputs, **settings)
        site = next(self.sites)
        return self.taps.forward(site, y), Named(site, saved)

    def backward(self, dy: Array, saved: Named) -> tuple[Any, ...]:
        backward = self.inner_backward or self.op.backward
        return backward(self.taps.backward(saved.site, dy), saved.inner)

    def join(self, dx: Array | None, dh: Array | None) -> Array | None:
        """As the formula joins two gradients, where they are known."""
        return None if dx is None or dh is None else self.op.join(dx, dh)


@dataclass(frozen=True)
class TappedAttention:
    """`ops.multi_head_attention` and `ops.attention`, with a tap after every step."""

    taps: Taps
    at: str
    """The block's part of the names."""
    learns: bool

    def forward(
        self,
        x: Float[Array, "B T D"],
        query: p.Linear,
        key: p.Linear,
        value: p.Linear,
        output: p.Linear,
        query_norm: p.RMSNorm | None = None,
        key_norm: p.RMSNorm | None = None,
        *,
        n_heads: int,
        n_kv_heads: int,
        rope_base: float | None = None,
        rope_scaling: rope.RopeScaling | None = None,
        norm_eps: float = 1e-5,
        past: Past | None = None,
        dropout: float = 0.0,
        rng: UniformSource | None = None,
    ) -> tuple[Float[Array, "B T D"], multi_head_attention.Saved]:
        tap = self._tap
        q, saved_q = linear.forward(x, *query)
        k, saved_k = linear.forward(x, *key)
        v, saved_v = linear.forward(x, *value)
        q = tap("query", split_heads(q, n_heads))
        k, v = tap("key", split_heads(k, n_kv_heads)), tap("value", split_heads(v, n_kv_heads))
        q_norm = k_norm = q_turn = k_turn = None
        if query_norm is not None and key_norm is not None:
            q, q_norm = rms_norm.forward(q, *query_norm, eps=norm_eps)
            k, k_norm = rms_norm.forward(k, *key_norm, eps=norm_eps)
            q, k = tap("query_norm", q), tap("key_norm", k)
        if rope_base is not None:
            q, q_turn = rope.forward(q, base=rope_base, scaling=rope_scaling)
            k, k_turn = rope.forward(k, base=rope_base, scaling=rope_scaling)
            q, k = tap("query_turn", q), tap("key_turn", k)
        y, saved_a = self._attend(q, k, v)
        y, saved_o = linear.forward(merge_heads(tap("heads", y)), *output)
        saved = multi_head_attention.Saved(
            saved_q, saved_k, saved_v, q_norm, k_norm, q_turn, k_turn, saved_a, saved_o
        )
        return tap("output", y), saved

    def _attend(
        self, q: Float[Array, "B H T K"], k: Float[Array, "B G S K"], v: Float[Array, "B G S K"]
    ) -> tuple[Float[Array, "B H T K"], attention.Saved]:
        scale = 1.0 / math.sqrt(q.shape[-1])
        grouped = q.reshape(q.shape[0], k.shape[1], -1, *q.shape[2:])
        scores = np.matmul(grouped, np.expand_dims(np.matrix_transpose(k), axis=2)) * scale
        scores = self._by_head("scores", scores)
        earlier = np.tri(q.shape[2], dtype=bool)
        probs, saved_probs = softmax.forward(np.where(earlier, scores, -np.inf))
        probs = self._by_head("probs", probs)
        y = np.matmul(probs, np.expand_dims(v, axis=2)).reshape(q.shape)
        _, kept = dropout.forward(probs, rate=0.0, rng=None)
        return y, attention.Saved(q, k, v, saved_probs, probs, kept, scale)

    def backward(self, dy: Float[Array, "B T D"], saved: multi_head_attention.Saved) -> tuple[Any, ...]:
        back = self._back
        dy, *doutput = affine_backward(back("output", dy), saved.output, self.learns)
        n_heads = saved.attention.q.shape[1]
        dq, dk, dv = self._attend_backward(back("heads", split_heads(dy, n_heads)), saved.attention)
        if saved.query_turn is not None and saved.key_turn is not None:
            (dq,) = rope.backward(back("query_turn", dq), saved.query_turn)
            (dk,) = rope.backward(back("key_turn", dk), saved.key_turn)
        dq_norm = dk_norm = None
        if saved.query_norm is not None and saved.key_norm is not None:
            dq, *dq_norm = rms_norm.backward(back("query_norm", dq), saved.query_norm)
            dk, *dk_norm = rms_norm.backward(back("key_norm", dk), saved.key_norm)
        dx_q, *dquery = affine_backward(merge_heads(back("query", dq)), saved.query, self.learns)
        dx_k, *dkey = affine_backward(merge_heads(back("key", dk)), saved.key, self.learns)
        dx_v, *dvalue = affine_backward(merge_heads(back("value", dv)), saved.value, self.learns)
        return (
            dx_q + dx_k + dx_v,
            *(p.Linear(*d) for d in (dquery, dkey, dvalue, doutput)),
            *(None if d is None else p.RMSNorm(*d) for d in (dq_norm, dk_norm)),
        )

    def _attend_backward(
        self, dy: Float[Array, "B H T K"], saved: attention.Saved
    ) -> tuple[Float[Array, "B H T K"], Float[Array, "B G S K"], Float[Array, "B G S K"]]:
        q, k, v, probs, tapped, _, scale = saved
        grouped = q.reshape(q.shape[0], k.shape[1], -1, *q.shape[2:])
        dy = dy.reshape(grouped.shape)
        dv = np.sum(np.matmul(np.matrix_transpose(tapped), dy), axis=2)
        dprobs = np.matmul(dy, np.expand_dims(np.matrix_transpose(v), axis=2))
        (dscores,) = softmax.backward(self._by_head_back("probs", dprobs), probs)
        dscores = self._by_head_back("scores", dscores) * scale
        dq = np.matmul(dscores, np.expand_dims(k, axis=2)).reshape(q.shape)
        dk = np.sum(np.matmul(np.matrix_transpose(dscores), grouped), axis=2)
        return dq, dk, dv

    def _tap(self, part: str, value: Array) -> Array:
        return self.taps.forward(f"{self.at}.attention.{part}", value)

    def _back(self, part: str, gradient: Array) -> Array:
        return self.taps.backward(f"{self.at}.attention.{part}", gradient)

    def _by_head(self, part: str, value: Float[Array, "B G R T S"]) -> Float[Array, "B G R T S"]:
        """Tapped with one axis of heads instead of two."""
        return self._tap(part, _ungrouped(value)).reshape(value.shape)

    def _by_head_back(self, part: str, gradient: Float[Array, "B G R T S"]) -> Float[Array, "B G R T S"]:
        return self._back(part, _ungrouped(gradient)).reshape(gradient.shape)


def _ungrouped(value: Float[Array, "B G R T S"]) -> Float[Array, "B H T S"]:
    return value.reshape(value.shape[0], -1, *value.shape[3:])


@dataclass(frozen=True)
class TappedFeedForward:
    """`ops.feed_forward`, with a tap after every step."""

    taps: Taps
    at: str
    learns: bool

    def forward(
        self,
        x: Float[Array, "B T D"],
        up: p.Linear,
        down: p.Linear,
        gate: p.Linear | None = None,
        alpha: Float[Array, "*A"] | None = None,
        *,
        activation: activation_op.Elementwise,
    ) -> tuple[Float[Array, "B T D"], feed_forward.Saved]:
        act: activation_op.Saved | feed_forward.Gate
        z, saved_up = linear.forward(x, *up)
        z = self._tap("up", z)
        if gate is None:
            h, act = activation_op.forward(z, alpha, name=activation)
        else:
            g, saved_gate = linear.forward(x, *gate)
            h, product = gated.forward(self._tap("gate", g), z, alpha, activation=activation)
            act = feed_forward.Gate(saved_gate, product)
        y, saved_down = linear.forward(self._tap("hidden", h), *down)
        return self._tap("down", y), feed_forward.Saved(saved_up, act, saved_down)

    def backward(self, dy: Float[Array, "B T D"], saved: feed_forward.Saved) -> tuple[Any, ...]:
        dh, *ddown = affine_backward(self._back("down", dy), saved.down, self.learns)
        dh = self._back("hidden", dh)
        if not isinstance(saved.act, feed_forward.Gate):
            dz, dalpha = activation_op.backward(dh, saved.act)
            dx, *dup = affine_backward(self._back("up", dz), saved.up, self.learns)
            return dx, p.Linear(*dup), p.Linear(*ddown), None, dalpha
        dg, dz, dalpha = gated.backward(dh, saved.act.product)
        dx_gate, *dgate = affine_backward(self._back("gate", dg), saved.act.affine, self.learns)
        dx_up, *dup = affine_backward(self._back("up", dz), saved.up, self.learns)
        return dx_gate + dx_up, p.Linear(*dup), p.Linear(*ddown), p.Linear(*dgate), dalpha

    def _tap(self, part: str, value: Array) -> Array:
        return self.taps.forward(f"{self.at}.feed_forward.{part}", value)

    def _back(self, part: str, gradient: Array) -> Array:
        return self.taps.backward(f"{self.at}.feed_forward.{part}", gradient)


class TappedOps:
    """All ops of a transformer, for one block or what is around them, once forward and once back."""

    dropout = formulas.dropout
    next_token_loss = formulas.next_token_loss

    def __init__(self, taps: Taps, block: str = "", *, learns: bool = True):
        """`block` is its part of the names; empty before and after the blocks.

        Where nothing `learns`, gradients of matrices are None.
        """
        norms = iter([f"{block}.norm1", f"{block}.norm2"] if block else ["norm"])
        sums, logits = iter([f"{block}.residual1", f"{block}.residual2"]), iter(["logits"])
        self.embedding = TappedOp(
            formulas.embedding, taps, iter(["embedding"]), None if learns else lambda dy, saved: (None,)
        )
        self.learned_position = TappedOp(formulas.learned_position, taps, iter(["positions"]))
        self.sinusoidal_position = TappedOp(formulas.sinusoidal_position, taps, iter(["positions"]))
        self.layer_norm = TappedOp(formulas.layer_norm, taps, norms)
        self.rms_norm = TappedOp(formulas.rms_norm, taps, norms)
        self.residual = TappedOp(formulas.residual, taps, sums)
        self.multi_head_attention = TappedAttention(taps, block, learns)
        self.feed_forward = TappedFeedForward(taps, block, learns)
        self.linear = TappedOp(formulas.linear, taps, logits, None if learns else head_backward)
        self.unembedding = TappedOp(
            formulas.unembedding, taps, logits, None if learns else unembedding_backward
        )
