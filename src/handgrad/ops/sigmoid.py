r"""The logistic sigmoid, element by element.

$$f(x) = \frac{1}{1+e^{-x}},\qquad f'(x) = f(x)\,(1-f(x))$$

since $f' = e^{-x}/(1+e^{-x})^2$ and $1-f = e^{-x}/(1+e^{-x})$. The code uses $e^{-|x|}$, which is at most
one, so nothing overflows: $f(x) = 1/(1+e^{-|x|})$ for $x \ge 0$, else $e^{-|x|}/(1+e^{-|x|})$. The derivative
is at most 1/4 and vanishes on both sides: the sigmoid saturates.

Source: Verhulst's logistic function (1845); as a unit's activation, Rumelhart, Hinton & Williams (1986).
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

from handgrad.shapes import Array, Float


class Saved(NamedTuple):
    y: Float[Array, "*B"]


def forward(x: Float[Array, "*B"]) -> tuple[Float[Array, "*B"], Saved]:
    xp = x.__array_namespace__()
    decay = xp.exp(-xp.abs(x))
    y = xp.where(x >= 0, 1.0, decay) / (1.0 + decay)
    return y, Saved(y)


def backward(dy: Float[Array, "*B"], saved: Saved) -> tuple[Float[Array, "*B"]]:
    (y,) = saved
    return (dy * y * (1.0 - y),)


def cases(rng: Any) -> Iterator[dict[str, Any]]:
    yield {"x": 3 * rng.normal(size=(3, 7))}
