"""The kernels' side of `handgrad.counted`: one number of a draw at a time, from the halves of its key."""

import numpy as np

from handgrad.counted import FIRST, GOLDEN, SECOND, UNIT
from handgrad.kernels.jit import inner


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
