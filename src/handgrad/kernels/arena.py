"""One block of memory for all activations of a micro-batch: arrays are taken from it, and it is reused."""

import math
from collections.abc import Callable

import numpy as np

from handgrad.kernels.jit import shared

ALIGNMENT = 64
"""Bytes: a cache line, and the widest vector."""
LARGE_PAGE, LEAST_LARGE = 2 << 20, 4 << 20
"""Bytes; NumPy asks for large pages from `LEAST_LARGE` on."""


def aligned(
    n: int, dtype: type = np.float32, *, new: Callable[[int, type], np.ndarray] = np.empty
) -> np.ndarray:
    """n numbers at an address that is a multiple of `ALIGNMENT`, of memory from `new`."""
    size = np.dtype(dtype).itemsize
    raw = new(n * size + ALIGNMENT, np.uint8)
    start = -raw.ctypes.data % ALIGNMENT
    return raw[start : start + n * size].view(dtype)


def in_large_pages(n: int) -> np.ndarray:
    """n bytes, not initialized, that lie in pages of 2 MB where the system has them.

    What is read again and again is then found in fewer steps, and keeps its place in the caches.
    """
    raw = np.empty(max(n, LEAST_LARGE) + LARGE_PAGE, np.uint8)
    start = -raw.ctypes.data % LARGE_PAGE
    return raw[start : start + n]


@shared
def round_up(n: int, multiple: int) -> int:
    """The least multiple that is not less than n."""
    return (n + multiple - 1) // multiple * multiple


def padded(n: int) -> int:
    """n float32 numbers, rounded up so that the next array is aligned."""
    return round_up(n, ALIGNMENT // 4)


class Arena:
    """`reset` frees all arrays at once. What does not fit gets a block of its own, once."""

    def __init__(self, capacity: int):
        self.blocks = [aligned(capacity)]
        self._position = self._before = self._most = 0

    @property
    def used(self) -> int:
        """float32 numbers taken since the last reset."""
        return self._before + self._position

    @property
    def most(self) -> int:
        """The most that was ever taken between two resets."""
        return max(self._most, self.used)

    def reset(self) -> None:
        """Free all arrays: their memory is reused."""
        self._most = self.most
        if len(self.blocks) > 1:
            size = sum(block.size for block in self.blocks)
            self.blocks.clear()  # before the new block: never both at once
            self.blocks.append(aligned(size))
        self._position = self._before = 0

    def take(self, *shape: int, dtype: type = np.float32) -> np.ndarray:
        """An array of `shape`, not initialized."""
        size = math.prod(shape)
        if dtype is not np.float32:
            numbers = self.take(-(-size * np.dtype(dtype).itemsize // 4))
            return numbers.view(dtype)[:size].reshape(shape)
        if self._position + padded(size) > self.blocks[-1].size:
            self._before += self._position
            self._position = 0
            self.blocks.append(aligned(max(padded(size), self.blocks[0].size)))
        start = self._position
        self._position += padded(size)
        return self.blocks[-1][start : start + size].reshape(shape)
