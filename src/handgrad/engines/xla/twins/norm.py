"""The twins of `ops.layer_norm` and `ops.rms_norm`, by kernels: in backward, one walk over the tokens."""

from typing import Any, NamedTuple

import jax.numpy as jnp

from handgrad.engines.xla import kernels
from handgrad.shapes import Array, Float


class FusedNorm:
    """A norm; `centred`: layer norm. y and dx are stored as x is."""

    class Saved(NamedTuple):
        x: Float[Array, "N D"]
        gamma: Float[Array, " D"]
        beta: Float[Array, " D"] | None
        mean: Float[Array, " N"]
        rstd: Float[Array, " N"]

    def __init__(self, *, centred: bool, interpret: bool = False):
        self.centred, self.interpret = centred, interpret

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
        y, mean, rstd = kernels.norm_forward(
            rows, gamma, shift, eps=eps, centred=self.centred, interpret=self.interpret
        )
        return jnp.reshape(y, x.shape), self.Saved(rows, gamma, beta, mean, rstd)

    def backward(self, dy: Float[Array, "*B D"], saved: Saved) -> tuple[Any, ...]:
        x, gamma, beta, mean, rstd = saved
        dx, dgamma, dbeta = kernels.norm_backward(
            jnp.reshape(dy, x.shape), x, gamma, mean, rstd, centred=self.centred, interpret=self.interpret
        )
        dweights = (dgamma, None if beta is None else dbeta) if self.centred else (dgamma,)
        return jnp.reshape(dx, dy.shape), *dweights
