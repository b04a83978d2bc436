r"""The rectified linear unit, element by element.

$$f(x) = \max(0, x),\qquad f'(x) = 1\ \text{if}\ x>0,\ 0\ \text{if}\ x<0$$

At the kink, $x = 0$, any slope in [0, 1] is a subgradient; we take 0, as most frameworks do. A unit whose
inputs are all negative gets no gradient at all: it is dead until something else moves it.

Source: Nair & Hinton, "Rectified linear units improve restricted Boltzmann machines" (ICML 2010).
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

from handgrad.shapes import Array, Float


class Saved(NamedTuple):
    y: Float[Array, "*B"]


def forward(x: Float[Array, "*B"]) -> tuple[Float[Array, "*B"], Saved]:
    y = x.__array_namespace__().maximum(x, 0.0)
    return y, Saved(y)


def backward(dy: Float[Array, "*B"], saved: Saved) -> tuple[Float[Array, "*B"]]:
    (y,) = saved
    return (y.__array_namespace__().where(y > 0, dy, 0.0),)


def cases(rng: Any) -> Iterator[dict[str, Any]]:
    x = rng.normal(size=(3, 7))
    yield {"x": x + 0.1 * (x > 0) - 0.1 * (x < 0)}  # away from the kink, where no derivative exists
