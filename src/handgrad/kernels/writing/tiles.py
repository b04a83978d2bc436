"""Products of rows with a bfloat16 matrix on AMX tiles: 16 rows at a time, or one, in the same time.

A tile of the matrix takes as long to multiply with 16 rows as with one, and longer to come from memory. So a
text alone and 16 at once cost the same, and a row has the same bits in both.
"""

import numpy as np

from handgrad.kernels.amx import (
    HAS_TILES,
    LINE,
    NOTHING,
    SIDE,
    WORDS,
    block_at,
    dot046,
    dot047,
    load4,
    load6,
    load7,
    store0,
    store1,
    zero0,
    zero1,
)
from handgrad.kernels.jit import inner
from handgrad.kernels.microkernel import Matrix
from handgrad.kernels.vector import load, prefetch_far, store

HALF = SIDE // 2
"""Rows of a tile."""
ROOM = SIDE * SIDE
"""float32 numbers in which a block is computed."""
AHEAD = 8192
"""Bytes of a panel from what is multiplied to what is asked for."""


def packed(weight: np.ndarray) -> np.ndarray:
    """The panels (N / 32, K / 2, 32) of a weight (K, N): words of two bfloat16 numbers that follow each other
    along K, filled up with zeros to whole tiles."""
    K, N = weight.shape
    whole = np.zeros((-(-K // SIDE) * SIDE, -(-N // SIDE) * SIDE), np.float32)
    whole[:K, :N] = weight
    pattern = whole.view(np.uint32)
    halves = (pattern + 0x7FFF + ((pattern >> 16) & 1)) >> 16
    words = halves[::2] | (halves[1::2] << 16)
    return np.ascontiguousarray(words.reshape(len(words), -1, SIDE).swapaxes(0, 1))


@inner
def _half_on_tiles(room, a, b, n_words):
    """A block of 16 rows."""
    zero0()
    zero1()
    for k in range(0, n_words, WORDS):
        for line in range(0, LINE * WORDS, 64):
            prefetch_far(b + LINE * k + line + AHEAD)
        load4(a.at + 4 * k, a.stride)
        load6(b + LINE * k, LINE)
        dot046()
        load7(b + LINE * k + 64, LINE)
        dot047()
    store0(room, LINE)
    store1(room + 64, LINE)


@inner
def _half_without_tiles(room, a, b, n_words):
    block_at(Matrix(room, LINE), NOTHING, a, b, n_words)


half_block = _half_on_tiles if HAS_TILES else _half_without_tiles


@inner
def sums(out, words, b, n_words, n_rows, room):
    """The 32 columns of the panel at b, of n_rows <= 32 rows; `room` is the address of `ROOM` numbers.

    `words` are 32 rows in any case. Rows after the last may hold anything.
    """
    if n_rows <= HALF:
        half_block(room, words, b, n_words)
    else:
        block_at(Matrix(room, LINE), NOTHING, words, b, n_words)
    for r in range(n_rows):
        for j in range(SIDE):
            store(out.at + r * out.stride + 4 * j, load(room + LINE * r + 4 * j))


@inner
def filled(width):
    """Numbers of a row, filled up to whole tiles."""
    return (width + SIDE - 1) // SIDE * SIDE
