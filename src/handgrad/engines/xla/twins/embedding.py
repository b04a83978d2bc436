"""The twin of `ops.embedding`: the formula's backward multiplies by one-hot rows, which are many."""

from typing import NamedTuple

import jax.numpy as jnp

from handgrad import ops
from handgrad.engines.xla.twins.wide import widened
from handgrad.shapes import Array, Float, Int


class Embedding:
    """As `ops.embedding`; backward adds each position's gradient to its token's row."""

    class Saved(NamedTuple):
        inner: ops.embedding.Saved

    def forward(
        self, weight: Float[Array, "V D"], token_ids: Int[Array, "B T"], *, scale: float = 1.0
    ) -> tuple[Float[Array, "B T D"], Saved]:
        y, saved = ops.embedding.forward(weight, token_ids, scale=scale)
        return y, self.Saved(saved)

    def backward(self, dy: Float[Array, "B T D"], saved: Saved) -> tuple[Float[Array, "V D"]]:
        weight, token_ids, scale = saved.inner
        dy = widened(dy)
        return (scale * jnp.zeros(weight.shape, dy.dtype).at[token_ids].add(dy),)

    def join(self, dweight: Float[Array, "V D"], dhead: Float[Array, "V D"]) -> Float[Array, "V D"]:
        """The gradient of a table that is the output head as well."""
        return dweight + dhead
