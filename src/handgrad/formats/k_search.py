r"""The integers and scales of Q4_K and Q6_K with the least squared error that a short search finds.

A block's parts are lines $x\approx d\,s_j\,q-e\,m_j$ (Q4_K) or multiples $x\approx d\,s_j\,q$ (Q6_K). For
given integers $q$ the best scale is a least-squares fit, and for a given scale the best integers come from
rounding. So the search

1. starts each part from several scales around the one that its range asks for, fits, and keeps the best;
2. rounds the parts' scales to the block's small integers $s_j$, $m_j$;
3. improves the block in turns: each part tries the neighbours of its small integers, then $d$ and $e$ are
   fitted anew. What does not lower the error is not taken.

llama.cpp's make_qkx2_quants and make_qx_quants do the first two, for a weighted error.
"""

import functools
import itertools
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from handgrad.formats import half

ROUNDS = 2
"""Turns of improvement."""
LINE_STEPS = np.linspace(-3.0, 1.0, 11, dtype=np.float32)
"""A part's range is tried as 15 steps and so many more: fewer cut off its ends, and the rest is finer."""
MULTIPLE_STEPS = np.linspace(-8.0, 1.0, 13, dtype=np.float32)
"""A part's largest magnitude is tried as 32 steps and so many more."""
MOST_LINE, MOST_SCALE = 15, 63


Fit = tuple[np.ndarray, ...]
"""Arrays over parts, the last of them the squared error."""


class Lines(NamedTuple):
    """N blocks of Q4_K; all in float32, d and e as float16 has them."""

    d: np.ndarray  # (N, 1)
    e: np.ndarray  # (N, 1)
    scales: np.ndarray  # (N, 8)
    minima: np.ndarray  # (N, 8)
    q: np.ndarray  # (N, 8, 32)


class Multiples(NamedTuple):
    """N blocks of Q6_K; all in float32, d as float16 has it."""

    d: np.ndarray  # (N, 1)
    scales: np.ndarray  # (N, 16)
    q: np.ndarray  # (N, 16, 16)


def lines(x: np.ndarray) -> Lines:
    """Q4_K's numbers for the parts x (N, 8, 32)."""
    scale, minimum = _free_lines(x)
    d, e = (half.rounded(v.max(axis=1, keepdims=True) / MOST_SCALE) for v in (scale, minimum))
    scales, minima = _small(scale / _no_zero(d)), _small(minimum / _no_zero(e))
    for _ in range(ROUNDS):
        scales, minima = _nearer_lines(x, d, e, scales, minima)
        d, e = _shared_lines(x, d, e, scales, minima)
    return Lines(d, e, scales, minima, _line_integers(x, d * scales, e * minima))


def multiples(x: np.ndarray) -> Multiples:
    """Q6_K's numbers for the parts x (N, 16, 16)."""
    scale = _free_multiples(x)
    largest = np.take_along_axis(scale, np.abs(scale).argmax(axis=1)[:, None], axis=1)
    d = half.rounded(largest / -128)
    scales = np.clip(np.rint(scale / _no_zero(d)), -128, 127)
    for _ in range(ROUNDS):
        scales = _nearer_multiples(x, d, scales)
        d = _shared_multiples(x, d, scales)
    return Multiples(d, scales, _multiple_integers(x, d * scales))


def _free_lines(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Each part's own scale and minimum (N, 8), both at least 0: x is near scale q - minimum."""
    low = np.minimum(x.min(axis=2), 0)
    span = x.max(axis=2) - low

    def fit(step: float) -> Fit:
        q = _line_integers(x, span / (MOST_LINE + step), -low)
        scale, minimum = _fitted_line(x, q)
        return scale, minimum, _error(x, scale[..., None] * q - minimum[..., None])

    scale, minimum, _ = _best(map(fit, LINE_STEPS))
    return scale, minimum


def _fitted_line(x: np.ndarray, q: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The least-squares scale and minimum for given integers; a minimum below 0 becomes 0."""
    n = x.shape[2]
    sum_x, sum_q = x.sum(axis=2), q.sum(axis=2)
    xq, qq = _dot(x, q), _dot(q, q)
    scale = (n * xq - sum_x * sum_q) / _no_zero(n * qq - sum_q * sum_q)
    minimum = (scale * sum_q - sum_x) / n
    through_zero = minimum < 0
    return np.where(through_zero, xq / _no_zero(qq), scale), np.where(through_zero, 0, minimum)


def _nearer_lines(
    x: np.ndarray, d: np.ndarray, e: np.ndarray, scales: np.ndarray, minima: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The small integers of each part or neighbours of them, where those have less error."""

    def moved(steps: tuple[int, ...]) -> Fit:
        s, m = _small(scales + steps[0]), _small(minima + steps[1])
        return s, m, _line_error(x, d * s, e * m)

    scales, minima, _ = _best(map(moved, itertools.product((0, -1, 1), repeat=2)))
    return scales, minima


def _shared_lines(
    x: np.ndarray, d: np.ndarray, e: np.ndarray, scales: np.ndarray, minima: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """d and e fitted to the block, where that lowers its error: two equations with two unknowns."""
    a = scales[..., None] * _line_integers(x, d * scales, e * minima)
    aa, bb, ab = _all(a * a), x.shape[2] * _all(minima * minima), _all(minima * a.sum(axis=2))
    ax, bx = _all(a * x), _all(minima * x.sum(axis=2))
    determinant = _no_zero(aa * bb - ab * ab)
    new_d = half.rounded(np.maximum((ax * bb - bx * ab) / determinant, 0))
    new_e = half.rounded(np.maximum((ax * ab - bx * aa) / determinant, 0))
    before, after = (_all(_line_error(x, v * scales, w * minima)) for v, w in ((d, e), (new_d, new_e)))
    return np.where(after < before, new_d, d), np.where(after < before, new_e, e)


def _line_error(x: np.ndarray, scale: np.ndarray, minimum: np.ndarray) -> np.ndarray:
    return _error(x, scale[..., None] * _line_integers(x, scale, minimum) - minimum[..., None])


def _line_integers(x: np.ndarray, scale: np.ndarray, minimum: np.ndarray) -> np.ndarray:
    """The integers 0..15 nearest to (x + minimum) / scale."""
    return np.clip(np.rint((x + minimum[..., None]) / _no_zero(scale)[..., None]), 0, MOST_LINE)


def _free_multiples(x: np.ndarray) -> np.ndarray:
    """Each part's own scale (N, 16), of either sign: x is near scale q."""
    largest = np.take_along_axis(x, np.abs(x).argmax(axis=2)[..., None], axis=2)[..., 0]

    def fit(step: float) -> Fit:
        q = _multiple_integers(x, largest / -(32 + step))
        scale = _dot(x, q) / _no_zero(_dot(q, q))
        return scale, _error(x, scale[..., None] * q)

    return _best(map(fit, MULTIPLE_STEPS))[0]


def _nearer_multiples(x: np.ndarray, d: np.ndarray, scales: np.ndarray) -> np.ndarray:
    """The small integers of each part or neighbours of them, where those have less error."""

    def moved(step: int) -> Fit:
        s = np.clip(scales + step, -128, 127)
        return s, _multiple_error(x, d * s)

    return _best(map(moved, (0, -1, 1, -2, 2)))[0]


def _shared_multiples(x: np.ndarray, d: np.ndarray, scales: np.ndarray) -> np.ndarray:
    """d fitted to the block, where that lowers its error."""
    a = scales[..., None] * _multiple_integers(x, d * scales)
    new = half.rounded(_all(a * x) / _no_zero(_all(a * a)))
    before, after = (_all(_multiple_error(x, v * scales)) for v in (d, new))
    return np.where(after < before, new, d)


def _multiple_error(x: np.ndarray, scale: np.ndarray) -> np.ndarray:
    return _error(x, scale[..., None] * _multiple_integers(x, scale))


def _multiple_integers(x: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """The integers -32..31 nearest to x / scale."""
    return np.clip(np.rint(x / _no_zero(scale)[..., None]), -32, 31)


def _best(fits: Iterable[Fit]) -> Fit:
    """The fit with the least error, part by part."""

    def better(best: Fit, fit: Fit) -> Fit:
        lower = fit[-1] < best[-1]
        return tuple(np.where(lower, new, old) for new, old in zip(fit, best, strict=True))

    return functools.reduce(better, fits)


def _small(number: np.ndarray) -> np.ndarray:
    return np.clip(np.rint(number), 0, MOST_SCALE)


def _error(x: np.ndarray, near: np.ndarray) -> np.ndarray:
    """The squared error of each part."""
    difference = x - near
    return _dot(difference, difference)


def _dot(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.einsum("bpn,bpn->bp", a, b)


def _all(values: np.ndarray) -> np.ndarray:
    """Sums over each block, (N, 1)."""
    return values.reshape(len(values), -1).sum(axis=1, keepdims=True)


def _no_zero(values: np.ndarray) -> np.ndarray:
    """`values`, with infinity for 0: what is divided by it becomes 0."""
    return np.where(values == 0, np.float32(np.inf), values)
