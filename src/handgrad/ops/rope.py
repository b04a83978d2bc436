r"""Rotary positions (RoPE): turn each pair of a head's components by an angle that grows with the position.

$$\begin{pmatrix}y_{2i}\\y_{2i+1}\end{pmatrix} =
\begin{pmatrix}\cos\theta&-\sin\theta\\\sin\theta&\cos\theta\end{pmatrix}
\begin{pmatrix}x_{2i}\\x_{2i+1}\end{pmatrix},\qquad \theta = pos\cdot b^{-2i/d_{head}}$$

A query turned by its position and a key turned by its own have a product that depends only on the distance
between them.

Backward: a rotation's transpose is the rotation back, so $dx$ is $dy$ turned by $-\theta$.

Source: Su et al., "RoFormer" (2021), arXiv:2104.09864, with neighbouring components as pairs, as there. (Many
implementations pair component i with i + d_head/2 instead: the same up to a fixed order of the components.)
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from handgrad.shapes import Array, Float


class Saved(NamedTuple):
    cos: Float[Array, "T half"]
    sin: Float[Array, "T half"]


def forward(
    x: Float[Array, "*B T K"], *, offset: int = 0, base: float = 10_000.0
) -> tuple[Float[Array, "*B T K"], Saved]:
    xp = x.__array_namespace__()
    T, K = x.shape[-2:]
    angle = np.arange(offset, offset + T)[:, None] / base ** (np.arange(0, K, 2) / K)
    cos, sin = (xp.asarray(f(angle), dtype=x.dtype) for f in (np.cos, np.sin))
    return turn(x, cos, sin), Saved(cos, sin)


def backward(dy: Float[Array, "*B T K"], saved: Saved) -> tuple[Float[Array, "*B T K"]]:
    cos, sin = saved
    return (turn(dy, cos, -sin),)


def turn(
    x: Float[Array, "*B T K"], cos: Float[Array, "T half"], sin: Float[Array, "T half"]
) -> Float[Array, "*B T K"]:
    """Rotate every pair of neighbouring components."""
    xp = x.__array_namespace__()
    even, odd = x[..., 0::2], x[..., 1::2]
    return xp.reshape(xp.stack([even * cos - odd * sin, even * sin + odd * cos], axis=-1), x.shape)


def cases(rng: Any) -> Iterator[dict[str, Any]]:
    yield {"x": rng.normal(size=(2, 3, 5, 4))}
    yield {"x": rng.normal(size=(5, 6)), "offset": 7, "base": 50.0}
