r"""Mean squared error over all n elements.

$$L = \frac1n\sum (\hat y - t)^2,\qquad d\hat y = \frac{2}{n}\,(\hat y - t),\qquad dt = -d\hat y$$

The targets $t$ are usually data, and their gradient is left unused. Where errors are normal with a fixed
width, minimizing $L$ is maximum likelihood.

Source: Legendre (1805) and Gauss (1809), least squares.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

from handgrad.shapes import Array, Float


class Saved(NamedTuple):
    difference: Float[Array, "*B"]


def forward(prediction: Float[Array, "*B"], targets: Float[Array, "*B"]) -> tuple[Float[Array, ""], Saved]:
    difference = prediction - targets
    return prediction.__array_namespace__().mean(difference * difference), Saved(difference)


def backward(dloss: Float[Array, ""] | float, saved: Saved) -> tuple[Float[Array, "*B"], Float[Array, "*B"]]:
    (difference,) = saved
    dprediction = dloss * (2.0 / difference.size) * difference
    return dprediction, -dprediction


def cases(rng: Any) -> Iterator[dict[str, Any]]:
    yield {"prediction": rng.normal(size=(4, 3)), "targets": rng.normal(size=(4, 3))}
