"""Freed memory kept for the next array, instead of given back and fetched anew.

glibc returns large freed blocks to the operating system, which hands them out again page by page, zeroed:
for arrays of some 100 kB that are made and dropped in every step, this costs more than the arithmetic on
them.
"""

import ctypes
import functools

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
KEEP_BYTES = 1 << 30


@functools.cache
def keep_freed() -> bool:
    """Ask glibc, once per process, to keep blocks up to `KEEP_BYTES`; False where there is no glibc."""
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # another C library, or Windows
        return False
    return all(mallopt(option, KEEP_BYTES) == 1 for option in (M_TRIM_THRESHOLD, M_MMAP_THRESHOLD))
