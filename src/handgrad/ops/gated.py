r"""A gated linear unit's product: one projection, through an activation, opens or closes another.

$$y = f(g) * u$$

with $g = xW_{gate}$ and $u = xW_{up}$. The activation names the family: with the sigmoid it is GLU,
with ReLU ReGLU, with GELU GEGLU, with SiLU SwiGLU.

Backward, by the product rule:

$$dg = (dy * u) * f'(g),\qquad du = dy * f(g)$$

Source: Dauphin et al. (2016), arXiv:1612.08083; Shazeer, "GLU variants improve transformer" (2020),
arXiv:2002.05202.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

from handgrad.ops import activation as activation_op
from handgrad.shapes import Array, Float


class Saved(NamedTuple):
    up: Float[Array, "*B F"]
    opened: Float[Array, "*B F"]
    act: activation_op.Saved


def forward(
    gate: Float[Array, "*B F"],
    up: Float[Array, "*B F"],
    alpha: Float[Array, "*A"] | None = None,
    *,
    activation: activation_op.Elementwise,
) -> tuple[Float[Array, "*B F"], Saved]:
    opened, act = activation_op.forward(gate, alpha, name=activation)
    return opened * up, Saved(up, opened, act)


def backward(
    dy: Float[Array, "*B F"], saved: Saved
) -> tuple[Float[Array, "*B F"], Float[Array, "*B F"], Float[Array, "*A"] | None]:
    dgate, dalpha = activation_op.backward(dy * saved.up, saved.act)
    return dgate, dy * saved.opened, dalpha


def cases(rng: Any) -> Iterator[dict[str, Any]]:
    gate, up = rng.normal(size=(2, 3, 5)), rng.normal(size=(2, 3, 5))
    gate = gate + 0.1 * (gate > 0) - 0.1 * (gate < 0)  # away from the kinks
    for activation in ("sigmoid", "relu", "gelu", "silu"):
        yield {"gate": gate, "up": up, "activation": activation}
    yield {"gate": gate, "up": up, "alpha": rng.normal(size=5), "activation": "prelu"}
