r"""Learned positions: each position has a row in a table, which is added to $x$.

$$y_{b,pos} = x_{b,pos} + W_{offset+pos}$$

Backward: $dx = dy$. Each row of the table that was used sums over the sequences, $dW_{offset+pos} = \sum_b
dy_{b,pos}$; the other rows get zero.

Source: Gehring et al., "Convolutional sequence to sequence learning" (2017), arXiv:1705.03122; Radford et
al. (GPT, 2018).
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

from handgrad.errors import UserError
from handgrad.shapes import Array, Float, sum_to


class Saved(NamedTuple):
    weight: Float[Array, "P D"]
    offset: int


def forward(
    x: Float[Array, "*B T D"], weight: Float[Array, "P D"], *, offset: int = 0
) -> tuple[Float[Array, "*B T D"], Saved]:
    n, last = weight.shape[0], offset + x.shape[-2]
    if offset < 0 or last > n:  # a slice would be cut short, and one row would broadcast
        raise UserError(f"Learned positions are 0 to {n - 1}; got {offset} to {last - 1}. Cut the text.")
    return x + weight[offset:last, :], Saved(weight, offset)


def backward(dy: Float[Array, "*B T D"], saved: Saved) -> tuple[Float[Array, "*B T D"], Float[Array, "P D"]]:
    weight, offset = saved
    xp = dy.__array_namespace__()
    T, D = dy.shape[-2:]
    before = xp.zeros((offset, D), dtype=dy.dtype)
    after = xp.zeros((weight.shape[0] - offset - T, D), dtype=dy.dtype)
    return dy, xp.concat([before, sum_to(dy, (T, D)), after], axis=0)


def cases(rng: Any) -> Iterator[dict[str, Any]]:
    yield {"x": rng.normal(size=(2, 4, 3)), "weight": rng.normal(size=(6, 3))}
    yield {"x": rng.normal(size=(2, 3)), "weight": rng.normal(size=(6, 3)), "offset": 3}
