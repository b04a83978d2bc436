"""Arrays between pages that may not be touched: a process that reads or writes outside of one is killed."""

import ctypes
import mmap
import os
import signal
from typing import Any

import numpy as np

PAGE = mmap.PAGESIZE


class Guard:
    """`at_end`: whether arrays end where a page begins, or begin where one ends.

    `left` is the byte that new memory is full of, as if it had been used before: 255 makes every float a NaN.
    """

    def __init__(self, at_end: bool, left: int = 0):
        self.at_end, self.left = at_end, left
        self.libc = ctypes.CDLL(None, use_errno=True)
        self.kept: list[mmap.mmap] = []

    def new(self, shape: tuple[int, ...], dtype: Any = np.float32) -> np.ndarray:
        """An array, not written yet."""
        n_bytes = int(np.prod(shape)) * np.dtype(dtype).itemsize
        n_pages = -(-n_bytes // PAGE)
        memory = mmap.mmap(-1, (n_pages + 2) * PAGE)
        address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
        for page in (0, n_pages + 1):
            assert self.libc.mprotect(ctypes.c_void_p(address + page * PAGE), PAGE, 0) == 0
        self.kept.append(memory)
        start = PAGE + (n_pages * PAGE - n_bytes if self.at_end else 0)
        used = np.frombuffer(memory, np.uint8, n_bytes, start)
        used[:] = self.left
        return used.view(dtype).reshape(shape)

    def filled(self, values: np.ndarray, dtype: Any = np.float32) -> np.ndarray:
        array = self.new(values.shape, dtype)
        array[...] = values
        return array

    def zeros(self, shape: tuple[int, ...], dtype: Any = np.float32) -> np.ndarray:
        return self.filled(np.zeros(shape), dtype)

    def works(self) -> bool:
        """Whether a process that does touch what lies outside is killed."""
        child = os.fork()
        if not child:
            array = self.new((5,))
            ctypes.memset(array.ctypes.data + (array.nbytes if self.at_end else -1), 1, 1)
            os._exit(0)
        return os.WTERMSIG(os.waitpid(child, 0)[1]) in (signal.SIGSEGV, signal.SIGBUS)
