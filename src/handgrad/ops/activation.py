r"""An activation chosen by name: $y = f(x)$ for the $f$ in `ACTIVATIONS`.

Every one has a file of its own; this is the switch by which networks of any activation share one code. The
parametric ReLU alone takes a learned slope, `alpha`. Backward is the chosen one's: $dx = dy * f'(x)$, and
$d\alpha$ where it exists.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

from handgrad.ops import gelu, gelu_tanh, leaky_relu, prelu, relu, relu_squared, sigmoid, silu, softmax, tanh
from handgrad.shapes import Array, Float

ACTIVATIONS: dict[str, Any] = {
    "sigmoid": sigmoid,
    "tanh": tanh,
    "relu": relu,
    "leaky_relu": leaky_relu,
    "prelu": prelu,
    "gelu": gelu,
    "gelu_tanh": gelu_tanh,
    "silu": silu,
    "relu_squared": relu_squared,
    "softmax": softmax,
}


class Saved(NamedTuple):
    name: str
    inner: Any
    """What the chosen activation saved."""


def forward(
    x: Float[Array, "*B D"], alpha: Float[Array, "*A"] | None = None, *, name: str
) -> tuple[Float[Array, "*B D"], Saved]:
    inputs = (x,) if alpha is None else (x, alpha)
    y, inner = ACTIVATIONS[name].forward(*inputs)
    return y, Saved(name, inner)


def backward(
    dy: Float[Array, "*B D"], saved: Saved
) -> tuple[Float[Array, "*B D"], Float[Array, "*A"] | None]:
    gradients = ACTIVATIONS[saved.name].backward(dy, saved.inner)
    return gradients[0], (gradients[1] if len(gradients) > 1 else None)


def cases(rng: Any) -> Iterator[dict[str, Any]]:
    x = rng.normal(size=(3, 5))
    x = x + 0.1 * (x > 0) - 0.1 * (x < 0)  # away from the kinks
    for name in ACTIVATIONS:
        yield {"x": x, "alpha": rng.normal(size=5) if name == "prelu" else None, "name": name}
