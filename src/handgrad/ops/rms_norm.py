r"""Root-mean-square normalization, over the last axis: each row gets mean square 1, then a learned scale.

$$r = \big(\langle x^2\rangle+\epsilon\big)^{-1/2},\qquad \hat x = x\,r,\qquad y = \gamma\hat x$$

Backward, with $g = \gamma\,dy$ and $\partial r/\partial x = -r^2\hat x/D$: as in layer normalization, without
the mean,

$$dx = r\,\big(g-\hat x\,\langle g\,\hat x\rangle\big),\qquad d\gamma=\sum dy\,\hat x$$

A row whose squares overflow becomes NaN.

Source: Zhang & Sennrich, "Root mean square layer normalization" (2019), arXiv:1910.07467.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

from handgrad.shapes import Array, Float, average, inverse_root, sum_to


class Saved(NamedTuple):
    x: Float[Array, "*B D"]
    gamma: Float[Array, " D"]
    rrms: Float[Array, "*B 1"]


def forward(
    x: Float[Array, "*B D"], gamma: Float[Array, " D"], *, eps: float = 1e-5
) -> tuple[Float[Array, "*B D"], Saved]:
    rrms = inverse_root(average(x * x) + eps)
    return gamma * (x * rrms), Saved(x, gamma, rrms)


def backward(dy: Float[Array, "*B D"], saved: Saved) -> tuple[Float[Array, "*B D"], Float[Array, " D"]]:
    x, gamma, rrms = saved
    x_hat = x * rrms
    g = gamma * dy
    return rrms * (g - x_hat * average(g * x_hat)), sum_to(dy * x_hat, gamma.shape)


def cases(rng: Any) -> Iterator[dict[str, Any]]:
    yield {"x": rng.normal(size=(2, 3, 5)), "gamma": rng.normal(size=5)}
    yield {"x": rng.normal(3, 2, size=(4, 6)), "gamma": rng.normal(size=6), "eps": 0.1}
