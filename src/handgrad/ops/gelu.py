r"""The Gaussian error linear unit, exact: $x$ times the chance that a standard normal number is below it.

$$f(x) = x\,\Phi(x),\qquad \Phi(x) = \tfrac12\big(1+\operatorname{erf}(x/\sqrt2)\big)$$

Backward, by the product rule, with the normal density $\varphi = \Phi'$:

$$f'(x) = \Phi(x) + x\,\varphi(x),\qquad \varphi(x) = \frac{e^{-x^2/2}}{\sqrt{2\pi}}$$

$\Phi$ is computed from the tail, $\tfrac12\operatorname{erfc}(|x|/\sqrt2)$, so that it stays accurate far
below zero.

Source: Hendrycks & Gimpel, "Gaussian error linear units" (2016), arXiv:1606.08415.
"""

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

from handgrad.ops import erf
from handgrad.shapes import Array, Float


class Saved(NamedTuple):
    x: Float[Array, "*B"]
    cdf: Float[Array, "*B"]


def forward(x: Float[Array, "*B"]) -> tuple[Float[Array, "*B"], Saved]:
    xp = x.__array_namespace__()
    tail = 0.5 * erf.complement(xp.abs(x) * math.sqrt(0.5))
    positive = xp.astype(x > 0, x.dtype)
    cdf = positive + (1.0 - 2.0 * positive) * tail  # 1 - tail above zero, tail below; faster than a choice
    return x * cdf, Saved(x, cdf)


def backward(dy: Float[Array, "*B"], saved: Saved) -> tuple[Float[Array, "*B"]]:
    x, cdf = saved
    density = x.__array_namespace__().exp(-0.5 * x * x) * (1.0 / math.sqrt(2.0 * math.pi))
    return (dy * (cdf + x * density),)


def cases(rng: Any) -> Iterator[dict[str, Any]]:
    yield {"x": 2 * rng.normal(size=(3, 7))}
