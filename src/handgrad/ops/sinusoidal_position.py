r"""Sinusoidal positions: each position has a fixed code, which is added to $x$.

$$PE(pos, 2i) = \sin\frac{pos}{b^{2i/d}},\qquad PE(pos, 2i+1) = \cos\frac{pos}{b^{2i/d}},\qquad
y_{pos} = x_{pos} + PE(pos)$$

with $b = 10000$. Each pair (sine, cosine) is a clock: the fastest turns once in $2\pi$ positions, the slowest
once in about $2\pi b$. Shifting the position by $k$ turns every pair by an angle that depends on $k$ alone.
The code is constant, so $dx = dy$.

Source: Vaswani et al., "Attention is all you need" (2017), arXiv:1706.03762, section 3.5.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from handgrad.shapes import Array, Float


class Saved(NamedTuple):
    """Nothing: the gradient passes unchanged."""


def forward(
    x: Float[Array, "*B T D"], *, offset: int = 0, base: float = 10_000.0
) -> tuple[Float[Array, "*B T D"], Saved]:
    xp = x.__array_namespace__()
    T, D = x.shape[-2:]
    return x + xp.asarray(table(T, D, offset=offset, base=base), dtype=x.dtype), Saved()


def backward(dy: Float[Array, "*B T D"], saved: Saved) -> tuple[Float[Array, "*B T D"]]:
    return (dy,)


def table(T: int, D: int, *, offset: int = 0, base: float = 10_000.0) -> Float[np.ndarray, "T D"]:
    """PE of positions offset ... offset + T - 1, in float64; an odd width ends on a lone sine."""
    angle = np.arange(offset, offset + T)[:, None] / base ** (np.arange(0, D, 2) / D)
    return np.stack([np.sin(angle), np.cos(angle)], axis=-1).reshape(T, -1)[:, :D]


def cases(rng: Any) -> Iterator[dict[str, Any]]:
    yield {"x": rng.normal(size=(2, 5, 6))}
    yield {"x": rng.normal(size=(4, 7)), "offset": 3}
