"""Freed memory kept for the next array, instead of given back and fetched anew.

glibc returns large freed blocks to the operating system, which hands them out again page by page, zeroed:
for arrays of some 100 kB that are made and dropped in every step, this costs more than the arithmetic on
them.
"""

import ctypes
import functools

import numpy as np

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_ARENA_MAX = -1, -3, -8
KEEP_BYTES = 1 << 30
PIECE_BYTES = 1 << 26


@functools.cache
def keep_freed() -> bool:
    """Ask glibc, once per process, to keep blocks up to `KEEP_BYTES`; False where there is no glibc."""
    return all([_set(M_TRIM_THRESHOLD, KEEP_BYTES), _set(M_MMAP_THRESHOLD, KEEP_BYTES)])


@functools.cache
def share_freed() -> bool:
    """Likewise, to let all threads take from the same freed blocks: where one at a time has large arrays."""
    return _set(M_ARENA_MAX, 1)


def touch(n_bytes: int) -> None:
    """Have so much freed memory at hand, at most `KEEP_BYTES`: its first use is what costs most."""
    n_pieces = min(n_bytes, KEEP_BYTES - PIECE_BYTES) // PIECE_BYTES
    pieces = [np.empty(PIECE_BYTES, np.uint8) for _ in range(n_pieces)]
    for piece in pieces:
        piece.fill(0)


def _set(option: int, value: int) -> bool:
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # another C library, or Windows
        return False
    return mallopt(option, value) == 1
