r"""Mean squared error over all n elements.

$$L = \frac1n\sum (\hat y - y)^2,\qquad d\hat y = \frac{2}{n}\,(\hat y - y)$$

The target $y$ is data and gets no gradient. Where errors are normal with a fixed width, minimizing $L$
is maximum likelihood.

Source: Legendre (1805) and Gauss (1809), least squares.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

from handgrad.shapes import Array, Float


class Saved(NamedTuple):
    difference: Float[Array, "*B"]


def forward(prediction: Float[Array, "*B"], *, target: Float[Array, "*B"]) -> tuple[Float[Array, ""], Saved]:
    difference = prediction - target
    return prediction.__array_namespace__().mean(difference * difference), Saved(difference)


def backward(dloss: Float[Array, ""] | float, saved: Saved) -> tuple[Float[Array, "*B"]]:
    (difference,) = saved
    return (dloss * (2.0 / difference.size) * difference,)


def cases(rng: Any) -> Iterator[dict[str, Any]]:
    yield {"prediction": rng.normal(size=(4, 3)), "target": rng.normal(size=(4, 3))}
