r"""The residual connection: a layer adds to its input instead of replacing it.

$$y = x + h,\qquad h = \operatorname{Layer}(x)$$

Backward: both summands receive $dy$ unchanged; what the layer makes of its share comes on top,

$$\frac{\partial L}{\partial x} = dy + J_{\operatorname{Layer}}^\top\,dy$$

The first term does not pass through any weight: however deep the stack, a gradient reaches its beginning
undamped.

Source: He, Zhang, Ren & Sun, "Deep residual learning for image recognition" (2015), arXiv:1512.03385.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

from handgrad.shapes import Array, Float


class Saved(NamedTuple):
    """Nothing: the gradient passes unchanged, twice."""


def forward(x: Float[Array, "*B"], h: Float[Array, "*B"]) -> tuple[Float[Array, "*B"], Saved]:
    return x + h, Saved()


def backward(dy: Float[Array, "*B"], saved: Saved) -> tuple[Float[Array, "*B"], Float[Array, "*B"]]:
    return dy, dy


def cases(rng: Any) -> Iterator[dict[str, Any]]:
    yield {"x": rng.normal(size=(2, 3, 5)), "h": rng.normal(size=(2, 3, 5))}
