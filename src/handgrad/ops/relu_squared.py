r"""The squared rectified linear unit, element by element.

$$f(x) = \max(0,x)^2,\qquad f'(x) = 2\max(0,x)$$

Its derivative is continuous: unlike the ReLU it has no kink.

Source: So et al., "Primer: searching for efficient transformers for language modeling" (2021),
arXiv:2109.08668.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

from handgrad.shapes import Array, Float


class Saved(NamedTuple):
    positive: Float[Array, "*B"]


def forward(x: Float[Array, "*B"]) -> tuple[Float[Array, "*B"], Saved]:
    positive = x.__array_namespace__().maximum(x, 0.0)
    return positive * positive, Saved(positive)


def backward(dy: Float[Array, "*B"], saved: Saved) -> tuple[Float[Array, "*B"]]:
    (positive,) = saved
    return (2.0 * dy * positive,)


def cases(rng: Any) -> Iterator[dict[str, Any]]:
    yield {"x": rng.normal(size=(3, 7))}
