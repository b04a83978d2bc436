r"""The affine layer, over the last axis: every row of $x$ is one input.

$$z = x\,W + b$$

Textbooks that write inputs as columns have $z = W a + b$, with the weight transposed. With rows, one product
serves all positions at once. `weight` is $(d_{in}, d_{out})$, so that the code reads like the formula.

Backward. $z_{nj} = \sum_i x_{ni} W_{ij} + b_j$, hence $\partial L/\partial x_{ni} = \sum_j dz_{nj} W_{ij}$.
The gradients of weight and bias are sums over all rows $n$:

$$dx = dz\,W^\top,\qquad dW = x^\top dz,\qquad db = \sum_n dz_n$$

Source: Rumelhart, Hinton & Williams, "Learning representations by back-propagating errors", Nature 323
(1986).
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

from handgrad.shapes import Array, Float, product_over_rows, sum_to


class Saved(NamedTuple):
    x: Float[Array, "*B M"]
    weight: Float[Array, "M N"]
    bias: Float[Array, " N"] | None


def forward(
    x: Float[Array, "*B M"], weight: Float[Array, "M N"], bias: Float[Array, " N"] | None = None
) -> tuple[Float[Array, "*B N"], Saved]:
    z = x.__array_namespace__().matmul(x, weight)
    return (z if bias is None else z + bias), Saved(x, weight, bias)


def backward(
    dz: Float[Array, "*B N"], saved: Saved
) -> tuple[Float[Array, "*B M"], Float[Array, "M N"], Float[Array, " N"] | None]:
    x, weight, bias = saved
    dx = dz.__array_namespace__().matmul(dz, weight.T)
    dweight = product_over_rows(x, dz)
    dbias = None if bias is None else sum_to(dz, bias.shape)
    return dx, dweight, dbias


def cases(rng: Any) -> Iterator[dict[str, Any]]:
    yield {"x": rng.normal(size=(2, 3, 5)), "weight": rng.normal(size=(5, 4)), "bias": rng.normal(size=4)}
    yield {"x": rng.normal(size=(7, 5)), "weight": rng.normal(size=(5, 1))}
