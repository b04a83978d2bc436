"""What twins compute with: weights, and memory for arrays."""

from dataclasses import dataclass

import numpy as np

from handgrad.kernels.arena import Arena, aligned
from handgrad.kernels.precision import FLOAT32, Kernels

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


@dataclass
class Workspace:
    """Where the twins of one worker compute."""

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
    """Its value; `NONE` where there is no weight."""
    return NONE if weight is None else weight.value


def gradient_of(weight: Weight | None) -> np.ndarray:
    """Its gradient; `NONE` where there is no weight."""
    return NONE if weight is None else weight.gradient
