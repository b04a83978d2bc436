"""Freed memory kept for the next array, instead of given back and fetched anew.

glibc returns large freed blocks to the operating system, which hands them out again page by page, zeroed:
for arrays that are made and dropped in every step, this can cost more than the arithmetic on them.
"""

import ctypes
import functools

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_ARENA_MAX = -1, -3, -8  # as malloc.h has them
NEVER = -1
KEEP_BYTES = 1 << 30
"""Of one block: a larger one is given back."""


@functools.cache
def keep_freed() -> bool:
    """Ask glibc, once per process, to keep blocks up to `KEEP_BYTES`; False where there is no glibc."""
    return all([_set(M_TRIM_THRESHOLD, NEVER), _set(M_MMAP_THRESHOLD, KEEP_BYTES)])


@functools.cache
def share_freed() -> bool:
    """Likewise, to let all threads take from the same freed blocks: where one at a time has large arrays."""
    return _set(M_ARENA_MAX, 1)


def _set(option: int, value: int) -> bool:
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # another C library, or Windows
        return False
    return mallopt(option, value) == 1
