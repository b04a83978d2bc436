r"""Random numbers by counting: the n-th number of a draw follows from the draw's key and n alone.

So backward draws forward's dropout mask again instead of keeping it, and kernels may draw in any order, on
any number of workers. Each position is mixed twice with the hash lowbias32 (Wellons, "Prospecting for hash
functions", 2018): if one bit of its input changes, each bit of its result changes with probability one half.
One half of the key enters before each mixing.
"""

import numpy as np

from handgrad.kernels.jit import inner
from handgrad.shapes import Array

GOLDEN = 0x9E3779B9
FIRST, SECOND = 0x7FEB352D, 0x846CA68B
UNIT = 2.0**-24
"""Uniform numbers are multiples of this: 24 bits, as many as a float32 holds."""


class Counted:
    """Draws of uniform numbers, one key a draw: a `UniformSource` for the ops, keys for the kernels.

    From the same seed, kernels draw by key the numbers that ops are given.
    """

    def __init__(self, seed: int):
        self._keys = np.random.Philox(seed)

    def key(self) -> int:
        """The next draw's key, 64 bits."""
        return int(self._keys.random_raw())

    def random(self, size: tuple[int, ...]) -> Array:
        """The next draw's uniform numbers in [0, 1)."""
        return uniform(self.key(), size)


def uniform(key: int, size: tuple[int, ...]) -> np.ndarray:
    """The draw of `key`, as an array of float64."""
    index = np.arange(np.prod(size, dtype=np.int64)).astype(np.uint32)
    low, high = np.uint32(key & 0xFFFFFFFF), np.uint32(key >> 32)
    x = _mix_array(index * np.uint32(GOLDEN) + low)
    return ((_mix_array(x ^ high) >> np.uint32(8)) * UNIT).reshape(size)


def _mix_array(x: np.ndarray) -> np.ndarray:
    x = (x ^ (x >> np.uint32(16))) * np.uint32(FIRST)
    x = (x ^ (x >> np.uint32(15))) * np.uint32(SECOND)
    return x ^ (x >> np.uint32(16))


def threshold(rate: float) -> int:
    """`draw(...) >= threshold(rate)` where the uniform number is at least `rate`."""
    return int(np.ceil(rate / UNIT))


@inner
def _mix(x):
    x = np.uint32((x ^ (x >> np.uint32(16))) * np.uint32(FIRST))
    x = np.uint32((x ^ (x >> np.uint32(15))) * np.uint32(SECOND))
    return np.uint32(x ^ (x >> np.uint32(16)))


@inner
def draw(index, low, high):
    """24 random bits for number `index` (uint32) of the draw with the key's halves `low` and `high`."""
    x = _mix(np.uint32(index * np.uint32(GOLDEN) + low))
    return np.uint32(_mix(np.uint32(x ^ high)) >> np.uint32(8))
