"""Attention on heads where products leave them, (B, T, H, K): the formula's, and the device's own."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from handgrad import ops
from handgrad.engines.xla.twins.wide import Wide
from handgrad.shapes import Array, Float, UniformSource


class FormulaAttention:
    """`ops.attention` on heads where products leave them: (B, T, H, K)."""

    class Saved(NamedTuple):
        inner: Wide.Saved

    def __init__(self) -> None:
        self.op = Wide(ops.attention)

    def forward(
        self,
        q: Float[Array, "B T H K"],
        k: Float[Array, "B S G K"],
        v: Float[Array, "B S G K"],
        *,
        dropout: float = 0.0,
        rng: UniformSource | None = None,
    ) -> tuple[Float[Array, "B T H K"], Saved]:
        y, saved = self.op.forward(*map(swapped, (q, k, v)), dropout=dropout, rng=rng)
        return swapped(y), self.Saved(saved)

    def backward(self, dy: Float[Array, "B T H K"], saved: Saved) -> tuple[Array, ...]:
        dq, dk, dv = self.op.backward(swapped(dy), saved.inner)
        return swapped(dq), swapped(dk), swapped(dv)


class FusedAttention:
    """Causal attention by `jax.nn.dot_product_attention`, which never holds (T, T): cuDNN's, with its own
    backward. With dropout, which it does not know, the formula's."""

    class Saved(NamedTuple):
        pull: Any
        """cuDNN's backward and what it needs."""

    def __init__(self, implementation: str = "cudnn"):
        self.implementation, self.formula = implementation, FormulaAttention()

    def forward(
        self,
        q: Float[Array, "B T H K"],
        k: Float[Array, "B S G K"],
        v: Float[Array, "B S G K"],
        *,
        dropout: float = 0.0,
        rng: UniformSource | None = None,
    ) -> tuple[Float[Array, "B T H K"], Saved | FormulaAttention.Saved]:
        if dropout and rng is not None:
            return self.formula.forward(q, k, v, dropout=dropout, rng=rng)

        def attend(q: Array, k: Array, v: Array) -> Array:
            implementation: Any = self.implementation
            return jax.nn.dot_product_attention(q, k, v, is_causal=True, implementation=implementation)

        y, pull = jax.vjp(attend, q, k, v)
        return y, self.Saved(pull)

    def backward(self, dy: Float[Array, "B T H K"], saved: Saved | FormulaAttention.Saved) -> Any:
        if isinstance(saved, FormulaAttention.Saved):
            return self.formula.backward(dy, saved)
        return saved.pull(dy)


def swapped(x: Float[Array, "B T H K"]) -> Float[Array, "B H T K"]:
    return jnp.swapaxes(x, 1, 2)
