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
    load0,
    load1,
    load4,
    load6,
    load7,
    store0,
    store1,
    zero0,
    zero1,
)
from handgrad.kernels.jit import inner
from handgrad.kernels.machine import LANES
from handgrad.kernels.microkernel import Matrix
from handgrad.kernels.vector import prefetch_far
from handgrad.kernels.vector_moves import move

HALF = SIDE // 2
"""Rows of a tile."""
ROOM = SIDE * SIDE
"""float32 numbers in which a block is computed."""
NEAR = 192
"""Words of a panel that stay in the first cache, beside as many of some rows; whole tiles."""
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
def _begin_half(start):
    if start.at == 0:
        zero0()
        zero1()
    else:
        load0(start.at, start.stride)
        load1(start.at + 64, start.stride)


@inner
def _multiply_half(a, b):
    load4(a.at, a.stride)
    load6(b, LINE)
    dot046()
    load7(b + 64, LINE)
    dot047()


@inner
def _store_half(c):
    store0(c.at, c.stride)
    store1(c.at + 64, c.stride)


@inner
def _half_on_tiles(c, start, a, b, n_words):
    _begin_half(start)
    for k in range(0, n_words, WORDS):
        _multiply_half(Matrix(a.at + 4 * k, a.stride), b + LINE * k)
    _store_half(c)


@inner
def _half_from_afar_on_tiles(c, start, a, b, n_words):
    _begin_half(start)
    for k in range(0, n_words, WORDS):
        for line in range(0, LINE * WORDS, 64):
            prefetch_far(b + LINE * k + line + AHEAD)
        _multiply_half(Matrix(a.at + 4 * k, a.stride), b + LINE * k)
    _store_half(c)


half_at = _half_on_tiles if HAS_TILES else block_at
"""`block_at` of 16 rows; without tiles it writes all 32."""
half_from_afar = _half_from_afar_on_tiles if HAS_TILES else block_at
"""The same; B is read from memory, and asked for before."""


@inner
def block(c, start, a, b, n_words, n_rows):
    """`block_at` of n_rows <= 32 rows. Rows after the last may hold anything, before and after."""
    if n_rows <= HALF:
        half_at(c, start, a, b, n_words)
    else:
        block_at(c, start, a, b, n_words)


@inner
def sums(out, words, b, n_words, n_rows, room):
    """The 32 columns of the panel at b, of n_rows <= 32 rows; `room` is the address of `ROOM` numbers.

    `words` are 32 rows in any case. Rows after the last may hold anything, and are not written.
    """
    if n_rows == SIDE:
        block_at(out, NOTHING, words, b, n_words)
    elif n_rows == HALF and HAS_TILES:
        half_from_afar(out, NOTHING, words, b, n_words)
    else:
        to = Matrix(room, LINE)
        if n_rows < HALF:
            half_from_afar(to, NOTHING, words, b, n_words)
        else:
            block_at(to, NOTHING, words, b, n_words)
        for r in range(n_rows):
            for j in range(0, SIDE, LANES):
                move(out.at + r * out.stride + 4 * j, room + LINE * r + 4 * j)


@inner
def sums_of_many(out, words, b, n_words, n_rows):
    """The same of whole blocks of 32 rows: they meet `NEAR` words of the panel after each other."""
    for k in range(0, n_words, NEAR):
        part = b + LINE * k
        for r in range(0, n_rows, SIDE):
            to = Matrix(out.at + r * out.stride, out.stride)
            left = Matrix(words.at + r * words.stride + 4 * k, words.stride)
            block_at(to, to if k else NOTHING, left, part, min(NEAR, n_words - k))


@inner
def filled(width):
    """Numbers of a row, filled up to whole tiles."""
    return (width + SIDE - 1) // SIDE * SIDE
