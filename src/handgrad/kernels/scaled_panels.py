"""A weight in panels of scaled integers.

A panel of MICRO_COLUMNS columns holds a row of scales for every block of K; then words of its numbers, row
after row. Blocks are those of an activation, and of `scaled`.
"""

import numpy as np

from handgrad.kernels import quantize_columns
from handgrad.kernels.arena import round_up
from handgrad.kernels.jit import inner, shared
from handgrad.kernels.machine import LANES, MICRO_COLUMNS
from handgrad.kernels.quantize import per_one_of_row, round_words, scale_of
from handgrad.kernels.quantize_columns import FLOATS
from handgrad.kernels.scaled import BLOCK, GRAIN, n_blocks, slice_rows
from handgrad.kernels.vector import store
from handgrad.kernels.vector_moves import transpose_block
from handgrad.kernels.walk import STEP, WORD

ZERO = np.uint32(0)
_per_one_of_columns, _round_columns = (
    quantize_columns.per_one_of_columns(FLOATS),
    quantize_columns.round_columns(FLOATS),
)


@shared
def n_words(K: int) -> int:
    """The words of a column of K numbers, filled up with zeros."""
    return round_up(K, GRAIN) // 2


def packed_shape(K: int, N: int) -> tuple[int, int, int]:
    """The shape of a (K, N) weight's panels."""
    return -(-N // MICRO_COLUMNS), n_blocks(K) + n_words(K), MICRO_COLUMNS


@shared
def n_scales(n_rows: int) -> int:
    """How many of a panel's rows are scales: each has BLOCK / 2 rows of words, the last one at most."""
    return (n_rows + BLOCK // 2) // (1 + BLOCK // 2)


@shared
def depth(n_rows: int) -> int:
    """How many numbers, zeros that fill them up included, panels of so many rows are summed over."""
    return 2 * (n_rows - n_scales(n_rows))


@inner
def pack_block(panels, weight, b, first, n_rows):
    """Block b of the panels of a weight (K, N): rows `first` to `first` + n_rows."""
    K, N = weight.shape
    for panel in range(panels.shape[0]):
        column = panel * MICRO_COLUMNS
        source = weight.ctypes.data + WORD * (first * N + column)
        words = panels[panel, n_blocks(K) :]
        scales, to = panels[panel, b].ctypes.data, words[first // 2].ctypes.data
        _per_one_of_columns(scales, source, WORD * N, n_rows, N - column)
        _round_columns(to, scales, source, WORD * N, n_rows, N - column)
        words[(first + n_rows + 1) // 2 : n_words(first + n_rows)] = ZERO


@inner
def pack_transposed(panels, weight, first, last):
    """Columns `first` to `last` of the panels of the transpose: rows of the weight, rounded as rows are.

    LANES words of LANES rows are written where they belong, untransposed, and transposed there.
    """
    N = weight.shape[1]
    block = slice_rows(N)
    for row in range(first, round_up(last, MICRO_COLUMNS)):
        x = weight[row] if row < last else weight[0, :0]
        column, lane = row % MICRO_COLUMNS // LANES * LANES, row % LANES
        panel = panels[row // MICRO_COLUMNS]
        to = panel[n_blocks(N) :, column:].ctypes.data
        for b in range(n_blocks(N)):
            start = b * block
            n = min(block, N - start)
            own = x[start : start + n]
            p = per_one_of_row(own.ctypes.data, own.size)
            store(panel[b, row % MICRO_COLUMNS :].ctypes.data, scale_of(p))
            for i in range(0, round_up(n, GRAIN), 2 * LANES):
                word = (start + i) // 2 + lane
                round_words(to + STEP * word, own.ctypes.data + WORD * i, p, own.size - i)
        if lane == LANES - 1:
            for word in range(0, n_words(N), LANES):
                place = to + STEP * word
                transpose_block(place, STEP, place, STEP)
