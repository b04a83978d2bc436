r"""The token embedding: each token id selects its row of a table.

$$y_n = s\,W_{id_n}$$

This is the affine layer on one-hot rows: $y = s\,E\,W$ with $E_{nv} = 1$ where $id_n = v$. `scale` is $s$:
one, or $\sqrt{d_{model}}$ as in the original transformer. An id that has no row gives NaN.

Backward, from the product:

$$dW = s\,E^\top dy$$

Each row of the table sums the gradients of all positions at which its token stands.

Source: Bengio et al., "A neural probabilistic language model", JMLR 3 (2003); the scale: Vaswani et al.
(2017), section 3.4.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

from handgrad.shapes import Array, Float, Int, product_over_rows


class Saved(NamedTuple):
    weight: Float[Array, "V D"]
    token_ids: Int[Array, "*B"]
    scale: float


def forward(
    weight: Float[Array, "V D"], token_ids: Int[Array, "*B"], *, scale: float = 1.0
) -> tuple[Float[Array, "*B D"], Saved]:
    xp, (V, D) = weight.__array_namespace__(), weight.shape
    ids = xp.reshape(token_ids, (-1,))
    known = (ids >= 0) & (ids < V)
    scales = xp.where(known, xp.asarray(scale, dtype=weight.dtype), xp.nan)
    y = scales[:, None] * xp.take(weight, xp.where(known, ids, 0), axis=0)
    return xp.reshape(y, (*token_ids.shape, D)), Saved(weight, token_ids, scale)


def backward(dy: Float[Array, "*B D"], saved: Saved) -> tuple[Float[Array, "V D"]]:
    weight, token_ids, scale = saved
    xp = dy.__array_namespace__()
    one_hot = xp.astype(token_ids[..., None] == xp.arange(weight.shape[0]), dy.dtype)
    return (scale * product_over_rows(one_hot, dy),)


def join(dweight: Float[Array, "V D"], dhead: Float[Array, "V D"]) -> Float[Array, "V D"]:
    """The gradient of a table that is the output head as well."""
    return dweight + dhead


def cases(rng: Any) -> Iterator[dict[str, Any]]:
    yield {"weight": rng.normal(size=(5, 4)), "token_ids": rng.integers(5, size=(2, 6))}
    yield {"weight": rng.normal(size=(5, 4)), "token_ids": rng.integers(5, size=3), "scale": 2.0}
