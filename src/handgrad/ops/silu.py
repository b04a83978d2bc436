r"""The sigmoid linear unit, also called swish, element by element.

$$f(x) = x\,\sigma(x),\qquad f'(x) = \sigma(x)\,\big(1 + x\,(1-\sigma(x))\big)$$

by the product rule with $\sigma' = \sigma(1-\sigma)$. It is smooth everywhere; its least value is about
-0.28.

Source: Elfwing, Uchibe & Doya (2017), arXiv:1702.03118; Hendrycks & Gimpel (2016), arXiv:1606.08415.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

from handgrad.ops import sigmoid
from handgrad.shapes import Array, Float


class Saved(NamedTuple):
    x: Float[Array, "*B"]
    sigma: Float[Array, "*B"]


def forward(x: Float[Array, "*B"]) -> tuple[Float[Array, "*B"], Saved]:
    sigma, _ = sigmoid.forward(x)
    return x * sigma, Saved(x, sigma)


def backward(dy: Float[Array, "*B"], saved: Saved) -> tuple[Float[Array, "*B"]]:
    x, sigma = saved
    return (dy * sigma * (1.0 + x * (1.0 - sigma)),)


def cases(rng: Any) -> Iterator[dict[str, Any]]:
    yield {"x": 3 * rng.normal(size=(3, 7))}
