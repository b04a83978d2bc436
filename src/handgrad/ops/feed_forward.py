r"""The feed-forward block of a transformer: two affine layers with an activation between, at each position.

$$y = f(x W_1 + b_1)\,W_2 + b_2,\qquad f(z) = \max(0, z)\ \text{in the original}$$

and, gated, $y = \big(f(x W_g + b_g) * (x W_1 + b_1)\big)\,W_2 + b_2$. Any activation of `ops.activation`
can be $f$.

Backward: the three steps in reverse. With $h = f(z)$: $dh = dy\,W_2^\top$, $dz = dh * f'(z)$, $dx =
dz\,W_1^\top$, and the weights' gradients as for every affine layer. Gated, $x$ feeds two products and its
gradient is the sum of both.

Source: Vaswani et al. (2017), arXiv:1706.03762, section 3.3; gated: Shazeer (2020), arXiv:2002.05202.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

from handgrad.ops import activation as activation_op
from handgrad.ops import gated, linear
from handgrad.parameters import Linear
from handgrad.shapes import Array, Float


class Gate(NamedTuple):
    affine: linear.Saved
    product: gated.Saved


class Saved(NamedTuple):
    up: linear.Saved
    act: activation_op.Saved | Gate
    down: linear.Saved


def forward(
    x: Float[Array, "*B D"],
    up: Linear,
    down: Linear,
    gate: Linear | None = None,
    alpha: Float[Array, "*A"] | None = None,
    *,
    activation: activation_op.Elementwise = "relu",
) -> tuple[Float[Array, "*B D"], Saved]:
    act: activation_op.Saved | Gate
    z, saved_up = linear.forward(x, *up)
    if gate is None:
        h, act = activation_op.forward(z, alpha, name=activation)
    else:
        g, saved_gate = linear.forward(x, *gate)
        h, product = gated.forward(g, z, alpha, activation=activation)
        act = Gate(saved_gate, product)
    y, saved_down = linear.forward(h, *down)
    return y, Saved(saved_up, act, saved_down)


def backward(
    dy: Float[Array, "*B D"], saved: Saved
) -> tuple[Float[Array, "*B D"], Linear, Linear, Linear | None, Float[Array, "*A"] | None]:
    dh, *ddown = linear.backward(dy, saved.down)
    if not isinstance(saved.act, Gate):
        dz, dalpha = activation_op.backward(dh, saved.act)
        dx, *dup = linear.backward(dz, saved.up)
        return dx, Linear(*dup), Linear(*ddown), None, dalpha
    dg, dz, dalpha = gated.backward(dh, saved.act.product)
    dx_gate, *dgate = linear.backward(dg, saved.act.affine)
    dx_up, *dup = linear.backward(dz, saved.up)
    return dx_gate + dx_up, Linear(*dup), Linear(*ddown), Linear(*dgate), dalpha


def cases(rng: Any) -> Iterator[dict[str, Any]]:
    def layer(m: int, n: int) -> Linear:
        return Linear(rng.normal(size=(m, n)) / m**0.5, rng.normal(size=n))

    def inputs() -> dict[str, Any]:
        return {"x": rng.normal(size=(2, 3, 4)), "up": layer(4, 6), "down": layer(6, 4)}

    yield inputs()
    yield {**inputs(), "activation": "gelu"}
    yield {**inputs(), "alpha": rng.normal(size=6), "activation": "prelu"}
    yield {**inputs(), "gate": layer(4, 6), "activation": "silu"}
