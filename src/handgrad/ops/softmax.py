r"""Softmax, over the last axis: positive numbers that sum to one.

$$f_i(x) = \frac{e^{x_i}}{\sum_k e^{x_k}} = \frac{e^{x_i-m}}{\sum_k e^{x_k-m}},\qquad m=\max_k x_k$$

Subtracting $m$ changes nothing in the value and keeps every exponent at or below zero, so nothing overflows.

Backward. The Jacobian is $J_{ij} = \partial f_i/\partial x_j = f_i\,(\delta_{ij}-f_j)$: the quotient rule
gives $f_i\delta_{ij}$ from the numerator and $-f_i f_j$ from the sum. It is never built; its product with a
vector is

$$dx_j = \sum_i dy_i\,J_{ij} = f_j\,\big(dy_j - \langle dy, f\rangle\big)$$

A row of nothing but $-\infty$, a query that may attend to no key, becomes zeros and passes no gradient.

Source: Bridle, "Probabilistic interpretation of feedforward classification network outputs" (1990).
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

from handgrad.shapes import Array, Float


class Saved(NamedTuple):
    y: Float[Array, "*B D"]


def forward(x: Float[Array, "*B D"]) -> tuple[Float[Array, "*B D"], Saved]:
    xp = x.__array_namespace__()
    largest = xp.max(x, axis=-1, keepdims=True)
    e = xp.exp(x - xp.where(largest == -xp.inf, 0.0, largest))
    total = xp.sum(e, axis=-1, keepdims=True)
    y = e / xp.where(total == 0, 1.0, total)
    return y, Saved(y)


def backward(dy: Float[Array, "*B D"], saved: Saved) -> tuple[Float[Array, "*B D"]]:
    (y,) = saved
    return (y * (dy - y.__array_namespace__().sum(dy * y, axis=-1, keepdims=True)),)


def jacobian(x: Float[Array, "*B D"]) -> Float[Array, "*B D D"]:
    r"""The Jacobian, to look at and to test against; no backward builds it.

    $$J_{ij} = f_i\,(\delta_{ij}-f_j)$$
    """
    xp = x.__array_namespace__()
    y, _ = forward(x)
    return y[..., :, None] * (xp.eye(x.shape[-1], dtype=x.dtype) - y[..., None, :])


def cases(rng: Any) -> Iterator[dict[str, Any]]:
    yield {"x": rng.normal(size=(2, 3, 5))}
    yield {"x": 3 * rng.normal(size=4)}
