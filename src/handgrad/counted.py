r"""Random numbers by counting: the n-th number of a draw follows from the draw's key and n alone.

So backward draws forward's dropout mask again instead of keeping it, and kernels may draw in any order, on
any number of workers. Each position is mixed twice with the hash lowbias32 (Wellons, "Prospecting for hash
functions", 2018): if one bit of its input changes, each bit of its result changes with probability one half.
One half of the key enters before each mixing.

A batch is drawn for as a whole: part of one counts on from the sequences before it. So a sequence has the
same mask however the batch is cut, and in every engine.
"""

import math

import numpy as np

from handgrad.shapes import Array

GOLDEN = 0x9E3779B9
FIRST, SECOND = 0x7FEB352D, 0x846CA68B
UNIT = 2.0**-24
"""Uniform numbers are multiples of this: 24 bits, as many as a float32 holds."""


class Counted:
    """Draws of uniform numbers, one key a draw: a `UniformSource` for the ops, keys for the kernels.

    From the same seed, kernels draw by key the numbers that ops are given.
    """

    def __init__(self, seed: int, before: int = 0):
        """`before`: how many of the batch's sequences come before those that are drawn for."""
        self._keys = np.random.Philox(seed)
        self._before = before

    def key(self, numbers_a_sequence: int = 0) -> int:
        """The next draw's key, 64 bits; number 0 is the first after the sequences before."""
        key = int(self._keys.random_raw())
        low = key + GOLDEN * self._before * numbers_a_sequence  # a number times GOLDEN is added to the key
        return key >> 32 << 32 | low & 0xFFFFFFFF

    def random(self, size: tuple[int, ...]) -> Array:
        """The next draw's uniform numbers in [0, 1): the first axis counts sequences."""
        return uniform(self.key(math.prod(size[1:])), size)


def uniform(key: int, size: tuple[int, ...]) -> np.ndarray:
    """The draw of `key`, as an array of float64."""
    index = np.arange(np.prod(size, dtype=np.int64)).astype(np.uint32)
    low, high = np.uint32(key & 0xFFFFFFFF), np.uint32(key >> 32)
    x = _mix(index * np.uint32(GOLDEN) + low)
    return ((_mix(x ^ high) >> np.uint32(8)) * UNIT).reshape(size)


def _mix(x: np.ndarray) -> np.ndarray:
    x = (x ^ (x >> np.uint32(16))) * np.uint32(FIRST)
    x = (x ^ (x >> np.uint32(15))) * np.uint32(SECOND)
    return x ^ (x >> np.uint32(16))
