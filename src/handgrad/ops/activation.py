r"""An activation chosen by name, from `ACTIVATIONS`.

$$y = f(x),\qquad dx = dy * f'(x)$$

Each activation has a file of its own. This op chooses among them, so that networks of any activation share
one code. The parametric ReLU alone takes a learned slope, `alpha`, and returns its gradient too. Softmax
mixes its inputs, so its backward is a product with its Jacobian. Backward finds the chosen activation by the
type of what was saved.
"""

from collections.abc import Iterator
from types import ModuleType
from typing import Any, Literal, NamedTuple

from handgrad.ops import gelu, gelu_tanh, leaky_relu, prelu, relu, relu_squared, sigmoid, silu, softmax, tanh
from handgrad.shapes import Array, Float

Fixed = Literal["tanh", "sigmoid", "relu", "leaky_relu", "relu_squared", "gelu", "gelu_tanh", "silu"]
"""Element by element, with nothing to learn."""

Elementwise = Literal[Fixed, "prelu"]
"""Element by element: what a feed-forward block can have."""

Name = Literal[Elementwise, "softmax"]

KINKED: tuple[Name, ...] = ("relu", "leaky_relu", "prelu")
"""Those whose slope jumps at zero, where no derivative exists."""

SILENT: tuple[Name, ...] = ("relu", "relu_squared")
"""Those that are zero below zero: a unit that every token makes negative learns nothing."""

ACTIVATIONS: dict[Name, ModuleType] = {
    "tanh": tanh,
    "sigmoid": sigmoid,
    "relu": relu,
    "leaky_relu": leaky_relu,
    "relu_squared": relu_squared,
    "gelu": gelu,
    "gelu_tanh": gelu_tanh,
    "silu": silu,
    "prelu": prelu,
    "softmax": softmax,
}


class Saved(NamedTuple):
    inner: (
        tanh.Saved
        | sigmoid.Saved
        | relu.Saved
        | leaky_relu.Saved
        | relu_squared.Saved
        | gelu.Saved
        | gelu_tanh.Saved
        | silu.Saved
        | prelu.Saved
        | softmax.Saved
    )
    """What the chosen activation saved."""


CHOSEN = {op.Saved: op for op in ACTIVATIONS.values()}
"""The activation by the type of what it saved."""


def forward(
    x: Float[Array, "*B D"], alpha: Float[Array, "*A"] | None = None, *, name: Name
) -> tuple[Float[Array, "*B D"], Saved]:
    inputs = (x,) if alpha is None else (x, alpha)
    y, inner = ACTIVATIONS[name].forward(*inputs)
    return y, Saved(inner)


def backward(
    dy: Float[Array, "*B D"], saved: Saved
) -> tuple[Float[Array, "*B D"], Float[Array, "*A"] | None]:
    gradients = CHOSEN[type(saved.inner)].backward(dy, saved.inner)
    return gradients[0], (gradients[1] if len(gradients) > 1 else None)


def cases(rng: Any) -> Iterator[dict[str, Any]]:
    x = rng.normal(size=(3, 5))
    x = x + 0.1 * (x > 0) - 0.1 * (x < 0)  # away from the kinks
    for name in ACTIVATIONS:
        yield {"x": x, "alpha": rng.normal(size=5) if name == "prelu" else None, "name": name}
