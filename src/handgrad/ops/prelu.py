r"""The parametric ReLU: the slope $\alpha$ below zero is learned, one for all or one a channel.

$$f(x) = \max(0,x) + \alpha\min(0,x)$$

Backward: in $x$ as for the leaky ReLU; in $\alpha$ from $\partial f/\partial\alpha = \min(0,x)$:

$$dx = dy * (1\ \text{if}\ x>0\ \text{else}\ \alpha),\qquad d\alpha = \sum dy * \min(0, x)$$

The sum is over everything that shares a slope: all elements for one $\alpha$, all rows for one $\alpha$ a
channel (the last axis). At the kink, $x = 0$, we take $\alpha$.

Source: He, Zhang, Ren & Sun, "Delving deep into rectifiers" (2015), arXiv:1502.01852.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

from handgrad.shapes import Array, Float, sum_to


class Saved(NamedTuple):
    x: Float[Array, "*B D"]
    alpha: Float[Array, "*A"]


def forward(x: Float[Array, "*B D"], alpha: Float[Array, "*A"]) -> tuple[Float[Array, "*B D"], Saved]:
    return x.__array_namespace__().where(x > 0, x, alpha * x), Saved(x, alpha)


def backward(dy: Float[Array, "*B D"], saved: Saved) -> tuple[Float[Array, "*B D"], Float[Array, "*A"]]:
    x, alpha = saved
    xp = x.__array_namespace__()
    dx = xp.where(x > 0, dy, alpha * dy)
    dalpha = sum_to(dy * xp.minimum(x, 0.0), alpha.shape)
    return dx, dalpha


def cases(rng: Any) -> Iterator[dict[str, Any]]:
    x = rng.normal(size=(2, 3, 5))
    x = x + 0.1 * (x > 0) - 0.1 * (x < 0)  # away from the kink
    yield {"x": x, "alpha": rng.normal(size=5)}
    yield {"x": x, "alpha": rng.normal(size=1)}
