r"""The error function, element by element: the integral under the bell curve, which the exact GELU needs.

$$\operatorname{erf}(x) = \frac{2}{\sqrt\pi}\int_0^x e^{-u^2}\,du,\qquad
\operatorname{erf}'(x) = \frac{2}{\sqrt\pi}\,e^{-x^2}$$

No elementary formula exists, and the array API has no such function. It is computed from the complement
$\operatorname{erfc} = 1-\operatorname{erf}$, which falls off like $e^{-z^2}$; the factor that remains is
smooth. With $t = 3/(3+z)$, which maps $z \in [0,\infty)$ onto $(0, 1]$,

$$\operatorname{erfc}(z) = t\,e^{-z^2}\,P(2t-1),\qquad \operatorname{erf}(-z) = -\operatorname{erf}(z)$$

$P$ is a polynomial fitted at Chebyshev points with 40 digits and written in powers: 24 terms reach the
rounding of float64, 11 that of float32. Near zero, where $1-\operatorname{erfc}$ would lose its digits, the
series

$$\operatorname{erf}(x) = \frac{2}{\sqrt\pi}\sum_n \frac{(-1)^n}{n!\,(2n+1)}\,x^{2n+1}$$

keeps them. The derivative needs none of this: it is the integrand.

Source of the form: Schonfelder, "Chebyshev expansions for the error and related functions", Math. Comp. 32
(1978).
"""

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

from handgrad.shapes import Array, Float

TWO_OVER_SQRT_PI = 1.1283791670955126
NEAR, TERMS = 0.5, 13
"""Below `NEAR` the next term of the series is less than the rounding of float64."""


class Saved(NamedTuple):
    x: Float[Array, "*B"]


def forward(x: Float[Array, "*B"]) -> tuple[Float[Array, "*B"], Saved]:
    xp = x.__array_namespace__()
    tail = complement(xp.abs(x))
    far = xp.where(x >= 0, 1.0 - tail, tail - 1.0)
    return xp.where(xp.abs(x) < NEAR, _series(xp.clip(x, -NEAR, NEAR)), far), Saved(x)


def backward(dy: Float[Array, "*B"], saved: Saved) -> tuple[Float[Array, "*B"]]:
    (x,) = saved
    return (dy * TWO_OVER_SQRT_PI * x.__array_namespace__().exp(-x * x),)


def complement(z: Float[Array, "*B"]) -> Float[Array, "*B"]:
    """erfc(z) = 1 - erf(z) for z >= 0; tiny values lose the digits that rounding z^2 costs."""
    xp = z.__array_namespace__()
    t = 3.0 / (3.0 + z)
    s = 2.0 * t - 1.0
    highest, *lower = P_FLOAT64 if z.dtype == xp.float64 else P_FLOAT32
    p = highest * s
    for coefficient in lower[:-1]:
        p = (p + coefficient) * s
    return t * (p + lower[-1]) * xp.exp(-z * z)


def _series(x: Float[Array, "*B"]) -> Float[Array, "*B"]:
    """erf(x) for |x| <= `NEAR`, with the relative accuracy of the type, down to the smallest numbers."""
    square, total = x * x, 0.0 * x
    for n in reversed(range(TERMS)):
        total = total * square + (-1) ** n / (math.factorial(n) * (2 * n + 1))
    return TWO_OVER_SQRT_PI * x * total


def cases(rng: Any) -> Iterator[dict[str, Any]]:
    yield {"x": 2 * rng.normal(size=(3, 7))}


# Coefficients of P, highest power first.
P_FLOAT64 = (
    -2.703562432063331e-10,
    2.3183140775046786e-12,
    2.897924756345276e-09,
    -1.1893885619092368e-09,
    -1.7060807323373566e-08,
    1.6652640553590825e-08,
    7.795122669713508e-08,
    -1.3722842699705352e-07,
    -3.3293900476369915e-07,
    9.225829640201406e-07,
    1.5830094253678585e-06,
    -5.823857407636006e-06,
    -1.0132683861908937e-05,
    3.585392363681283e-05,
    9.225927134071366e-05,
    -0.00018276991424949872,
    -0.001011353998686046,
    -0.00040413887394316183,
    0.008942411541350472,
    0.039842587095666314,
    0.1034890873001944,
    0.19674278570136933,
    0.29446481772329447,
    0.3580023023627799,
)
P_FLOAT32 = (
    2.260987852402578e-05,
    7.030988922803929e-05,
    -0.00016928352617058944,
    -0.0009911235675145347,
    -0.0004107903472013445,
    0.008933907198412055,
    0.03984410023021237,
    0.10349057075351656,
    0.19674265853470232,
    0.29446474467980094,
    0.3580023041045045,
)
