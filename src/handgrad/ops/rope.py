r"""Rotary positions (RoPE): turn each pair of a head's components by an angle that grows with the position.

$$\begin{pmatrix}y_{2i}\\y_{2i+1}\end{pmatrix} =
\begin{pmatrix}\cos\theta&-\sin\theta\\\sin\theta&\cos\theta\end{pmatrix}
\begin{pmatrix}x_{2i}\\x_{2i+1}\end{pmatrix},\qquad
\theta = pos\cdot\omega_i,\quad \omega_i = b^{-2i/d_{head}}$$

A query turned by its position and a key turned by its own have a product that depends only on the distance
between them.

Scaled, the pairs turn more slowly, so that a longer context has angles that the model knows. With a factor f,
"linear" divides all frequencies by it. "llama3" divides those that turn less than l times within the original
context of S positions, keeps those that turn more than h times, and goes evenly from one to the other:

$$\omega_i' = \Big(m + \frac{1-m}{f}\Big)\,\omega_i,\qquad
m = \min\Big(1, \max\Big(0, \frac{S\omega_i/2\pi - l}{h - l}\Big)\Big)$$

Backward: a rotation's transpose is the rotation back, so $dx$ is $dy$ turned by $-\theta$.

Source: Su et al., "RoFormer" (2021), arXiv:2104.09864, with neighbouring components as pairs, as there. (Many
implementations pair component i with i + d_head/2 instead: the same up to a fixed order of the components.)
Linear scaling: Chen et al., "Extending Context Window of Large Language Models via Positional Interpolation"
(2023), arXiv:2306.15595. Llama 3's: `apply_scaling` in the code that Meta published with Llama 3.1 (2024).
"""

import dataclasses
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, get_args, no_type_check

import numpy as np

from handgrad.errors import UserError, require_count, require_finite, require_known, shown
from handgrad.shapes import Array, Float

ScalingKind = Literal["linear", "llama3"]


@no_type_check  # wrong types are explained here, in words
@dataclass(frozen=True)
class RopeScaling:
    """How frequencies are scaled for a longer context. Raises `UserError` where the numbers do not fit."""

    kind: ScalingKind
    factor: float
    """f: how many times longer the context is."""
    low_frequency_factor: float = 1.0
    """l, of "llama3": turns within the original context, up to which a frequency is divided."""
    high_frequency_factor: float = 4.0
    """h, of "llama3": turns from which a frequency stays as it is."""
    original_context_length: int = 8192
    """S, of "llama3"."""

    def __post_init__(self) -> None:
        require_known("kind of rope_scaling", self.kind, get_args(ScalingKind))
        for name in ("factor", "low_frequency_factor", "high_frequency_factor"):
            object.__setattr__(self, name, require_finite(f"rope_scaling {name}", getattr(self, name)))
        length = require_count("rope_scaling original_context_length", self.original_context_length)
        object.__setattr__(self, "original_context_length", length)
        low, high = self.low_frequency_factor, self.high_frequency_factor
        if not self.factor >= 1.0:
            raise UserError(
                f"rope_scaling factor lengthens the context: at least 1; got {self.factor}. Try 8."
            )
        if not 0.0 < low < high:
            raise UserError(
                f"low_frequency_factor of rope_scaling must be above zero and below high_frequency_factor; "
                f"got {low} and {high}. Try 1 and 4."
            )

    @classmethod
    def of(cls, value: Any) -> "RopeScaling | None":
        """The scaling that `value` is or, as a table of fields, describes; None stays None."""
        if value is None or isinstance(value, cls):
            return value
        if not isinstance(value, Mapping):
            raise UserError(f"rope_scaling is a table such as {EXAMPLE}; got {shown(value)}.")
        for name in value:
            require_known("rope_scaling option", name, [field.name for field in dataclasses.fields(cls)])
        if not {"kind", "factor"} <= value.keys():
            raise UserError(
                f"rope_scaling needs a kind and a factor, as in {EXAMPLE}; got {shown(dict(value))}."
            )
        return cls(**value)


EXAMPLE = '{"kind": "llama3", "factor": 8}'


class Saved(NamedTuple):
    cos: Float[Array, "T half"]
    sin: Float[Array, "T half"]


def forward(
    x: Float[Array, "*B T K"],
    *,
    offset: int = 0,
    base: float = 10_000.0,
    scaling: RopeScaling | None = None,
) -> tuple[Float[Array, "*B T K"], Saved]:
    xp = x.__array_namespace__()
    T, K = x.shape[-2:]
    angle = np.arange(offset, offset + T)[:, None] * frequencies(K, base, scaling)
    cos, sin = (xp.asarray(f(angle), dtype=x.dtype) for f in (np.cos, np.sin))
    return turn(x, cos, sin), Saved(cos, sin)


def backward(dy: Float[Array, "*B T K"], saved: Saved) -> tuple[Float[Array, "*B T K"]]:
    cos, sin = saved
    return (turn(dy, cos, -sin),)


def frequencies(K: int, base: float, scaling: RopeScaling | None = None) -> Float[np.ndarray, " half"]:
    """How far each pair of a head turns from one position to the next, in radians."""
    omega = base ** -(np.arange(0, K, 2) / K)
    if scaling is None:
        return omega
    if scaling.kind == "linear":
        return omega / scaling.factor
    low, high = scaling.low_frequency_factor, scaling.high_frequency_factor
    turns = scaling.original_context_length * omega / (2 * math.pi)
    kept = np.clip((turns - low) / (high - low), 0.0, 1.0)
    return (kept + (1.0 - kept) / scaling.factor) * omega


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
    yield {"x": rng.normal(size=(3, 4)), "base": 100.0, "scaling": RopeScaling("linear", 4.0)}
    between = RopeScaling("llama3", 8.0, original_context_length=40)  # one pair on each side, one in between
    yield {"x": rng.normal(size=(2, 5, 6)), "offset": 3, "base": 50.0, "scaling": between}
