"""The twins of `ops.layer_norm` and `ops.rms_norm`, by kernels: in backward, one walk over the tokens."""

from typing import Any, NamedTuple

import jax.numpy as jnp

from handgrad.engines.xla import kernels
from handgrad.engines.xla.placement import ALONE, Placement
from handgrad.engines.xla.sharding import BATCH, WHOLE
from handgrad.shapes import Array, Float


class FusedNorm:
    """A norm; `centred`: layer norm. y and dx are stored as x is."""

    class Saved(NamedTuple):
        x: Float[Array, "N D"]
        gamma: Float[Array, " D"]
        beta: Float[Array, " D"] | None
        mean: Float[Array, " N"]
        rstd: Float[Array, " N"]

    def __init__(self, *, centred: bool, interpret: bool = False, placement: Placement = ALONE):
        self.centred, self.interpret, self.placement = centred, interpret, placement

    def forward(
        self,
        x: Float[Array, "*B D"],
        gamma: Float[Array, " D"],
        beta: Float[Array, " D"] | None = None,
        *,
        eps: float = 1e-5,
    ) -> tuple[Float[Array, "*B D"], Saved]:
        rows = jnp.reshape(x, (-1, x.shape[-1]))
        shift = jnp.zeros_like(gamma) if beta is None else beta

        def run(rows: Array, gamma: Array, shift: Array) -> tuple[Array, Array, Array]:
            return kernels.norm_forward(
                rows, gamma, shift, eps=eps, centred=self.centred, interpret=self.interpret
            )

        each = self.placement.on_each(run, takes=(BATCH, WHOLE, WHOLE), gives=(BATCH, BATCH, BATCH))
        y, mean, rstd = each(rows, gamma, shift)
        return jnp.reshape(y, x.shape), self.Saved(rows, gamma, beta, mean, rstd)

    def backward(self, dy: Float[Array, "*B D"], saved: Saved) -> tuple[Any, ...]:
        x, gamma, beta, mean, rstd = saved

        def run(*arrays: Array) -> tuple[Array, Array, Array]:
            dx, *sums = kernels.norm_backward(*arrays, centred=self.centred, interpret=self.interpret)
            return dx, *self.placement.sum_of_batch(sums)

        each = self.placement.on_each(
            run, takes=(BATCH, BATCH, WHOLE, BATCH, BATCH), gives=(BATCH, WHOLE, WHOLE)
        )
        dx, dgamma, dbeta = each(jnp.reshape(dy, x.shape), x, gamma, mean, rstd)
        dweights = (dgamma, None if beta is None else dbeta) if self.centred else (dgamma,)
        return jnp.reshape(dx, dy.shape), *dweights
