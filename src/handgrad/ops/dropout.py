r"""Dropout, element by element: a fraction `rate` becomes zero, the rest grows so that the mean stays.

$$y = \frac{x * m}{1-\text{rate}},\qquad m = 1\ \text{with probability}\ 1-\text{rate},\ \text{else}\ 0;\qquad
dx = \frac{dy * m}{1-\text{rate}}$$

The mask $m$ is drawn from `rng`. Without `rng`, or at rate zero, nothing is dropped: that is inference.

Source: Srivastava et al., "Dropout: a simple way to prevent neural networks from overfitting", JMLR 15
(2014).
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

from handgrad.shapes import Array, Bool, Float, UniformSource


class Saved(NamedTuple):
    kept: Bool[Array, "*B"] | None
    rate: float


def forward(
    x: Float[Array, "*B"], *, rate: float, rng: UniformSource | None
) -> tuple[Float[Array, "*B"], Saved]:
    if rng is None or rate == 0.0:
        return x, Saved(None, rate)
    xp = x.__array_namespace__()
    kept = xp.asarray(rng.random(x.shape)) >= rate
    return xp.where(kept, x / (1.0 - rate), 0.0), Saved(kept, rate)


def backward(dy: Float[Array, "*B"], saved: Saved) -> tuple[Float[Array, "*B"]]:
    kept, rate = saved
    if kept is None:
        return (dy,)
    return (dy.__array_namespace__().where(kept, dy / (1.0 - rate), 0.0),)


def cases(rng: Any) -> Iterator[dict[str, Any]]:
    yield {"x": rng.normal(size=(4, 6)), "rate": 0.3, "rng": rng.spawn(1)[0]}
    yield {"x": rng.normal(size=(4, 6)), "rate": 0.3, "rng": None}
