r"""The tied output head: the logit of a token is the product of the hidden state with its embedding.

$$z = x\,W^\top$$

Backward, as for any product: $dx = dz\,W$ and $dW = dz^\top x$. The table has a second gradient, from its use
as the embedding; the caller adds the two.

Source: Press & Wolf, "Using the output embedding to improve language models" (2016), arXiv:1608.05859.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

from handgrad.shapes import Array, Float, product_over_rows


class Saved(NamedTuple):
    x: Float[Array, "*B D"]
    weight: Float[Array, "V D"]


def forward(x: Float[Array, "*B D"], weight: Float[Array, "V D"]) -> tuple[Float[Array, "*B V"], Saved]:
    return x.__array_namespace__().matmul(x, weight.T), Saved(x, weight)


def backward(dz: Float[Array, "*B V"], saved: Saved) -> tuple[Float[Array, "*B D"], Float[Array, "V D"]]:
    x, weight = saved
    return dz.__array_namespace__().matmul(dz, weight), product_over_rows(dz, x)


def cases(rng: Any) -> Iterator[dict[str, Any]]:
    yield {"x": rng.normal(size=(2, 3, 4)), "weight": rng.normal(size=(6, 4))}
