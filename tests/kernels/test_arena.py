"""An arena that was too small grows once, and never holds the old memory beside the new."""

import tracemalloc

import numpy as np

from handgrad.kernels.arena import Arena

SIZE = 1 << 18
"""float32 numbers: one MiB."""


def test_blocks_are_freed_before_they_are_merged():
    tracemalloc.start()
    arena = Arena(SIZE)
    for _ in range(3):
        arena.take(SIZE)
    held, _ = tracemalloc.get_traced_memory()
    arena.reset()
    now, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert held >= 3 * 4 * SIZE
    assert max(now, peak) < 1.1 * held
    assert [block.size for block in arena.blocks] == [3 * SIZE]


def test_arrays_do_not_overlap():
    arena = Arena(64)
    first, second = arena.take(3), arena.take(100)
    assert not np.shares_memory(first, second)
    assert arena.used == 16 + 112
