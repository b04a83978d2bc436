r"""The hyperbolic tangent, element by element.

$$f(x) = \frac{e^x-e^{-x}}{e^x+e^{-x}} = 2\,\sigma(2x)-1,\qquad f'(x) = 1-f(x)^2$$

by the quotient rule, $((e^x+e^{-x})^2-(e^x-e^{-x})^2)/(e^x+e^{-x})^2$. It is centred on zero and has slope
one there. Like the sigmoid it saturates on both sides.

Source: LeCun, Bottou, Orr & Müller, "Efficient BackProp" (1998).
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

from handgrad.shapes import Array, Float


class Saved(NamedTuple):
    y: Float[Array, "*B"]


def forward(x: Float[Array, "*B"]) -> tuple[Float[Array, "*B"], Saved]:
    y = x.__array_namespace__().tanh(x)
    return y, Saved(y)


def backward(dy: Float[Array, "*B"], saved: Saved) -> tuple[Float[Array, "*B"]]:
    (y,) = saved
    return (dy * (1.0 - y * y),)


def cases(rng: Any) -> Iterator[dict[str, Any]]:
    yield {"x": 2 * rng.normal(size=(3, 7))}
