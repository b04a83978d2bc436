r"""The Gaussian error linear unit with a hyperbolic tangent in place of the error function, as GPT-2 uses it.

$$f(x) = \tfrac12\,x\,(1+\tanh u),\qquad u = \sqrt{2/\pi}\,\big(x + 0.044715\,x^3\big)$$

Backward, by product and chain rule, with $t = \tanh u$ and $u' = \sqrt{2/\pi}\,(1+3\cdot0.044715\,x^2)$:

$$f'(x) = \tfrac12(1+t) + \tfrac12\,x\,(1-t^2)\,u'$$

It differs from the exact form by less than 0.0005 anywhere.

Source: Hendrycks & Gimpel, "Gaussian error linear units" (2016), arXiv:1606.08415.
"""

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

from handgrad.shapes import Array, Float

SLOPE, CUBIC = math.sqrt(2.0 / math.pi), 0.044715


class Saved(NamedTuple):
    x: Float[Array, "*B"]
    t: Float[Array, "*B"]


def forward(x: Float[Array, "*B"]) -> tuple[Float[Array, "*B"], Saved]:
    t = x.__array_namespace__().tanh(SLOPE * (x + CUBIC * x * x * x))
    return 0.5 * x * (1.0 + t), Saved(x, t)


def backward(dy: Float[Array, "*B"], saved: Saved) -> tuple[Float[Array, "*B"]]:
    x, t = saved
    du = SLOPE * (1.0 + 3.0 * CUBIC * x * x)
    return (dy * 0.5 * (1.0 + t + x * (1.0 - t * t) * du),)


def cases(rng: Any) -> Iterator[dict[str, Any]]:
    yield {"x": 2 * rng.normal(size=(3, 7))}
