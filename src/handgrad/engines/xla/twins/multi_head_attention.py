"""The twin of `ops.multi_head_attention`."""

from typing import Any, NamedTuple

import jax.numpy as jnp

from handgrad import ops
from handgrad.engines.xla.twins.attention import swapped
from handgrad.engines.xla.twins.wide import Wide
from handgrad.gradcheck import Op
from handgrad.ops import linear, rope
from handgrad.ops.rope import RopeScaling
from handgrad.parameters import Linear, RMSNorm
from handgrad.shapes import Array, Float, UniformSource


class MultiHeadAttention:
    """As `ops.multi_head_attention`; heads stay where the products leave them: (B, T, H, K)."""

    class Saved(NamedTuple):
        n_heads: int
        query: linear.Saved
        key: linear.Saved
        value: linear.Saved
        query_norm: Wide.Saved | None
        key_norm: Wide.Saved | None
        query_turn: Wide.Saved | None
        key_turn: Wide.Saved | None
        attention: Any
        output: linear.Saved

    def __init__(self, attention: Op, turned: Array | None = None):
        """`turned`, of the device: whether this layer turns at all, where layers differ."""
        self.attention, self.rms_norm = attention, Wide(ops.rms_norm)
        self.rope = Wide(ops.rope if turned is None else Rope(turned))

    def forward(
        self,
        x: Float[Array, "B T D"],
        query: Linear,
        key: Linear,
        value: Linear,
        output: Linear,
        query_norm: RMSNorm | None = None,
        key_norm: RMSNorm | None = None,
        *,
        n_heads: int,
        n_kv_heads: int,
        rope_base: float | None = None,
        rope_scaling: RopeScaling | None = None,
        norm_eps: float = 1e-5,
        past: None = None,
        dropout: float = 0.0,
        rng: UniformSource | None = None,
    ) -> tuple[Float[Array, "B T D"], Saved]:
        """`past` is None: this engine trains, and the reference writes."""
        q, saved_q = linear.forward(x, *query)
        k, saved_k = linear.forward(x, *key)
        v, saved_v = linear.forward(x, *value)
        q, k, v = (heads(a, n) for a, n in ((q, n_heads), (k, n_kv_heads), (v, n_kv_heads)))
        q_norm = k_norm = q_turn = k_turn = None
        if query_norm is not None and key_norm is not None:
            q, q_norm = self.rms_norm.forward(q, *query_norm, eps=norm_eps)
            k, k_norm = self.rms_norm.forward(k, *key_norm, eps=norm_eps)
        if rope_base is not None:
            q, q_turn = self.rope.forward(swapped(q), base=rope_base, scaling=rope_scaling)
            k, k_turn = self.rope.forward(swapped(k), base=rope_base, scaling=rope_scaling)
            q, k = swapped(q), swapped(k)
        y, saved_a = self.attention.forward(q, k, v, dropout=dropout, rng=rng)
        y, saved_o = linear.forward(merged(y), *output)
        turned = q_norm, k_norm, q_turn, k_turn
        return y, self.Saved(n_heads, saved_q, saved_k, saved_v, *turned, saved_a, saved_o)

    def backward(self, dy: Float[Array, "B T D"], saved: Saved) -> tuple[Any, ...]:
        dy, *doutput = linear.backward(dy, saved.output)
        dq, dk, dv = self.attention.backward(heads(dy, saved.n_heads), saved.attention)
        if saved.query_turn is not None and saved.key_turn is not None:
            (dq,) = self.rope.backward(swapped(dq), saved.query_turn)
            (dk,) = self.rope.backward(swapped(dk), saved.key_turn)
            dq, dk = swapped(dq), swapped(dk)
        dq_norm = dk_norm = None
        if saved.query_norm is not None and saved.key_norm is not None:
            dq, *dq_norm = self.rms_norm.backward(dq, saved.query_norm)
            dk, *dk_norm = self.rms_norm.backward(dk, saved.key_norm)
        dx_q, *dquery = linear.backward(merged(dq), saved.query)
        dx_k, *dkey = linear.backward(merged(dk), saved.key)
        dx_v, *dvalue = linear.backward(merged(dv), saved.value)
        return (
            dx_q + dx_k + dx_v,
            *(Linear(*d) for d in (dquery, dkey, dvalue, doutput)),
            *(None if d is None else RMSNorm(*d) for d in (dq_norm, dk_norm)),
        )


class Rope:
    """`ops.rope`, unless `turned` says that nothing turns: it is known when the function runs."""

    def __init__(self, turned: Array):
        self.turned = turned

    def forward(
        self, x: Float[Array, "*B T K"], **settings: Any
    ) -> tuple[Float[Array, "*B T K"], rope.Saved]:
        _, angles = rope.forward(x, **settings)
        saved = rope.Saved(*either(self.turned, angles.cos, angles.sin))
        return rope.turn(x, *saved), saved

    def backward(self, dy: Float[Array, "*B T K"], saved: rope.Saved) -> tuple[Float[Array, "*B T K"]]:
        return rope.backward(dy, saved)


def either(turned: Array, cos: Array, sin: Array) -> tuple[Array, Array]:
    """These angles, or those that turn nothing."""
    return jnp.where(turned, cos, 1), jnp.where(turned, sin, 0)


def heads(x: Float[Array, "B T D"], n_heads: int) -> Float[Array, "B T H K"]:
    return jnp.reshape(x, (*x.shape[:2], n_heads, -1))


def merged(x: Float[Array, "B T H K"]) -> Float[Array, "B T D"]:
    return jnp.reshape(x, (*x.shape[:2], -1))
