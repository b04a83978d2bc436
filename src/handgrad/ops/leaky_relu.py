r"""The leaky rectified linear unit, element by element: a small fixed slope $\alpha$ below zero.

$$f(x) = \max(0,x) + \alpha\min(0,x),\qquad f'(x) = 1\ \text{if}\ x>0,\ \alpha\ \text{if}\ x<0$$

At the kink, $x = 0$, we take $\alpha$, the slope from the left. A negative input still passes some
gradient, so no unit dies.

Source: Maas, Hannun & Ng, "Rectifier nonlinearities improve neural network acoustic models" (ICML 2013).
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

from handgrad.shapes import Array, Float


class Saved(NamedTuple):
    x: Float[Array, "*B"]
    alpha: float


def forward(x: Float[Array, "*B"], *, alpha: float = 0.01) -> tuple[Float[Array, "*B"], Saved]:
    return x.__array_namespace__().where(x > 0, x, alpha * x), Saved(x, alpha)


def backward(dy: Float[Array, "*B"], saved: Saved) -> tuple[Float[Array, "*B"]]:
    x, alpha = saved
    return (x.__array_namespace__().where(x > 0, dy, alpha * dy),)


def cases(rng: Any) -> Iterator[dict[str, Any]]:
    x = rng.normal(size=(3, 7))
    x = x + 0.1 * (x > 0) - 0.1 * (x < 0)  # away from the kink
    yield {"x": x}
    yield {"x": x, "alpha": 0.3}
