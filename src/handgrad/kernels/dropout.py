"""Dropout: a mask that is drawn by counting, so that backward draws it again and nobody stores it."""

from typing import NamedTuple

import numpy as np

from handgrad.counted import Counted
from handgrad.kernels.jit import inner, kernel
from handgrad.kernels.random import draw, threshold


class Dropping(NamedTuple):
    """One draw of a mask: what kernels need to draw it, now and again."""

    low: np.uint32
    """The lower half of the draw's key."""
    high: np.uint32
    limit: np.uint32
    """Numbers whose 24 random bits are below this are dropped; 0 drops nothing."""
    scale: np.float32
    """1 / (1 - rate)."""


KEEP_ALL = Dropping(np.uint32(0), np.uint32(0), np.uint32(0), np.float32(1.0))


def next_draw(rate: float, rng: Counted | None, numbers_a_sequence: int) -> Dropping:
    """The next draw of `rng`; without numbers or a rate, `KEEP_ALL`."""
    if rng is None or rate == 0.0:
        return KEEP_ALL
    key = rng.key(numbers_a_sequence)
    low, high = np.uint32(key & 0xFFFFFFFF), np.uint32(key >> 32)
    return Dropping(low, high, np.uint32(threshold(rate)), np.float32(1.0 / (1.0 - rate)))


@inner
def factor(index, dropping):
    """What number `index` is multiplied by: 1 / (1 - rate) where it is kept, else 0."""
    kept = draw(np.uint32(index), dropping.low, dropping.high) >= dropping.limit
    return dropping.scale if kept else np.float32(0.0)


@inner
def dropped(x, index, dropping):
    """Dropout of the number x, whose place in the draw is `index`: zero where dropped, even of a NaN."""
    kept = draw(np.uint32(index), dropping.low, dropping.high) >= dropping.limit
    return x * dropping.scale if kept else np.float32(0.0)


@kernel
def drop(out, x, dropping):
    """out = dropout(x)."""
    for i in range(x.size):
        out[i] = dropped(x[i], i, dropping)


@kernel
def drop_and_add(h, x, dropping):
    """h becomes x + dropout(h)."""
    for i in range(x.size):
        h[i] = x[i] + dropped(h[i], i, dropping)
