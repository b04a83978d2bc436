r"""The residual connection: a layer adds to its input instead of replacing it.

$$y = x + \operatorname{dropout}(h),\qquad h = \operatorname{Layer}(x)$$

Backward: both summands receive $dy$, and $h$ receives it through the dropout. The layer turns $dh$ into a
second gradient of $x$, and `join` adds the two:

$$\frac{\partial L}{\partial x} = dy + J_{\operatorname{Layer}}^\top\,dh$$

The first term passes through no weight: however deep the stack, a gradient reaches its first layer undamped.

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
