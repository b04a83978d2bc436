r"""The residual connection: a layer adds to its input instead of replacing it.

$$y = x + \operatorname{dropout}(h),\qquad h = \operatorname{Layer}(x)$$

Backward: both summands receive $dy$, the layer's through the dropout; what the layer makes of its share comes
on top (`join`),

$$\frac{\partial L}{\partial x} = dy + J_{\operatorname{Layer}}^\top\,dh$$

The first term does not pass through any weight: however deep the stack, a gradient reaches its beginning
undamped.

Source: He, Zhang, Ren & Sun, "Deep residual learning for image recognition" (2015), arXiv:1512.03385; the
dropout: Vaswani et al. (2017), section 5.4.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

from handgrad.ops import dropout as dropout_op
from handgrad.shapes import Array, Float, UniformSource


class Saved(NamedTuple):
    drop: dropout_op.Saved


def forward(
    x: Float[Array, "*B"], h: Float[Array, "*B"], *, dropout: float = 0.0, rng: UniformSource | None = None
) -> tuple[Float[Array, "*B"], Saved]:
    h, drop = dropout_op.forward(h, rate=dropout, rng=rng)
    return x + h, Saved(drop)


def backward(dy: Float[Array, "*B"], saved: Saved) -> tuple[Float[Array, "*B"], Float[Array, "*B"]]:
    (dh,) = dropout_op.backward(dy, saved.drop)
    return dy, dh


def join(dx: Float[Array, "*B"], dh: Float[Array, "*B"]) -> Float[Array, "*B"]:
    """The gradient of what took two paths: past the layer, and through it."""
    return dx + dh


def cases(rng: Any) -> Iterator[dict[str, Any]]:
    yield {"x": rng.normal(size=(2, 3, 5)), "h": rng.normal(size=(2, 3, 5))}
    x, h = rng.normal(size=(2, 4, 5))
    yield {"x": x, "h": h, "dropout": 0.3, "rng": rng.spawn(1)[0]}
