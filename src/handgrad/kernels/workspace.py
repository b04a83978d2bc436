"""What twins compute with: weights, a place for arrays, and draws of dropout masks."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from handgrad.kernels.arena import Arena, aligned
from handgrad.kernels.precision import FLOAT32, Kernels
from handgrad.kernels.random import Counted, threshold

NONE = np.empty(0, np.float32)
"""Stands for an array that is not there."""


@dataclass(frozen=True)
class Weight:
    """A weight as the kernels use it."""

    value: np.ndarray
    gradient: np.ndarray
    """Added into."""
    panels: np.ndarray
    """A matrix, packed for x @ W."""
    transposed: np.ndarray
    """And for dy @ W^T."""


class Dropping(NamedTuple):
    """One draw of a dropout mask: what kernels need to draw it, now and again."""

    low: np.uint32
    high: np.uint32
    limit: np.uint32
    scale: np.float32


KEEP_ALL = Dropping(np.uint32(0), np.uint32(0), np.uint32(0), np.float32(1.0))


def dropping(rate: float, rng: Counted | None) -> Dropping:
    """The next draw; without numbers or a rate, one that keeps all."""
    if rng is None or rate == 0.0:
        return KEEP_ALL
    key = rng.key()
    low, high = np.uint32(key & 0xFFFFFFFF), np.uint32(key >> 32)
    return Dropping(low, high, np.uint32(threshold(rate)), np.float32(1.0 / (1.0 - rate)))


@dataclass
class Workspace:
    """Where the twins of one thread compute."""

    arena: Arena
    scratch: np.ndarray
    kernels: Kernels = FLOAT32

    def like(self, x: np.ndarray) -> np.ndarray:
        """A new array of the shape of x."""
        return self.arena.take(*x.shape)

    def need(self, n: int) -> np.ndarray:
        """Scratch of at least n numbers."""
        if self.scratch.size < n:
            self.scratch = aligned(n)
        return self.scratch


def rows(x: np.ndarray) -> np.ndarray:
    """All leading axes as one."""
    return x.reshape(-1, x.shape[-1])


def value_of(weight: Weight | None) -> np.ndarray:
    """Its value, or what kernels take for none."""
    return NONE if weight is None else weight.value


def gradient_of(weight: Weight | None) -> np.ndarray:
    """Its gradient, or what kernels take for none."""
    return NONE if weight is None else weight.gradient
