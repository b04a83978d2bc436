r"""Layer normalization, over the last axis: each row to mean 0, variance 1, then a learned scale and shift.

$$\mu = \langle x\rangle,\quad r = \big(\langle (x-\mu)^2\rangle+\epsilon\big)^{-1/2},\quad
\hat x = (x-\mu)\,r,\quad
y = \gamma\hat x+\beta$$

where $\langle\cdot\rangle$ is the mean over the row.

Backward. Let $g$ be the gradient of $\hat x$. $x$ acts on $\hat x$ in three ways: directly, with the
factor $r$; through $\mu$, which subtracts the mean of $g$; and through $r$, where
$\partial r/\partial x = -r^2\hat x/D$ subtracts the part of $g$ along $\hat x$:

$$g = \gamma\,dy,\qquad
dx = r\,\big(g-\langle g\rangle-\hat x\,\langle g\,\hat x\rangle\big),\qquad
d\gamma=\sum dy\,\hat x,\qquad d\beta=\sum dy$$

The variance is taken in two passes: $\langle x^2\rangle-\mu^2$ loses its digits where the mean is large. A
row whose squares overflow becomes NaN.

Source: Ba, Kiros & Hinton, "Layer normalization" (2016), arXiv:1607.06450.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

from handgrad.shapes import Array, Float, average, inverse_root, sum_to


class Saved(NamedTuple):
    x: Float[Array, "*B D"]
    gamma: Float[Array, " D"]
    beta: Float[Array, " D"] | None
    mean: Float[Array, "*B 1"]
    rstd: Float[Array, "*B 1"]


def forward(
    x: Float[Array, "*B D"],
    gamma: Float[Array, " D"],
    beta: Float[Array, " D"] | None = None,
    *,
    eps: float = 1e-5,
) -> tuple[Float[Array, "*B D"], Saved]:
    mean = average(x)
    centred = x - mean
    rstd = inverse_root(average(centred * centred) + eps)
    y = gamma * (centred * rstd)
    return (y if beta is None else y + beta), Saved(x, gamma, beta, mean, rstd)


def backward(
    dy: Float[Array, "*B D"], saved: Saved
) -> tuple[Float[Array, "*B D"], Float[Array, " D"], Float[Array, " D"] | None]:
    x, gamma, beta, mean, rstd = saved
    x_hat = (x - mean) * rstd  # recomputed, not saved: one array of x's size less to keep
    g = gamma * dy
    dx = rstd * (g - average(g) - x_hat * average(g * x_hat))
    dbeta = None if beta is None else sum_to(dy, beta.shape)
    return dx, sum_to(dy * x_hat, gamma.shape), dbeta


def cases(rng: Any) -> Iterator[dict[str, Any]]:
    yield {"x": rng.normal(size=(2, 3, 5)), "gamma": rng.normal(size=5), "beta": rng.normal(size=5)}
    yield {"x": rng.normal(3, 2, size=(4, 6)), "gamma": rng.normal(size=6), "eps": 0.1}
