"""A weight in panels of scaled integers, for one kind of them.

A panel of MICRO_COLUMNS columns holds a row of scales for every block of K, then words of its numbers, row
after row. Blocks are those of `scaled`, so that an activation's and a weight's are the same.
"""

import numpy as np

from handgrad.kernels import quantize
from handgrad.kernels.arena import round_up
from handgrad.kernels.jit import inner, shared
from handgrad.kernels.machine import LANES, MICRO_COLUMNS
from handgrad.kernels.quantize import FLOATS, Integers, scale_of
from handgrad.kernels.scaled import BLOCK, GRAIN, n_blocks, slice_rows
from handgrad.kernels.vector import store, transpose_block
from handgrad.kernels.walk import STEP, WORD

ZERO = np.uint32(0)


@shared
def n_words(K, integers):
    """The words of a column of K numbers, filled up with zeros."""
    return round_up(K, GRAIN) // integers.per_word


def packed_shape(K: int, N: int, integers: Integers) -> tuple[int, int, int]:
    """The shape of a (K, N) weight's panels."""
    return -(-N // MICRO_COLUMNS), n_blocks(K) + n_words(K, integers), MICRO_COLUMNS


@shared
def n_scales(n_rows, integers):
    """How many of a panel's rows are scales: to each belongs a block of words, the last one at most."""
    most = BLOCK // integers.per_word
    return (n_rows + most) // (1 + most)


@shared
def depth(n_rows, integers):
    """How many numbers, zeros that fill them up included, panels of so many rows are summed over."""
    return integers.per_word * (n_rows - n_scales(n_rows, integers))


def packing(integers: Integers):
    """The function that packs some rows of a weight."""
    per_word = integers.per_word
    per_one_of_row, round_words = quantize.per_one_of_row(integers), quantize.round_words(integers)
    per_one_of_columns = quantize.per_one_of_columns(integers, FLOATS)
    round_columns = quantize.round_columns(integers, FLOATS)

    @inner
    def pack_block(panels, weight, b, first, n_rows):
        """Block b of the panels of a weight (K, N): rows `first` to `first` + n_rows."""
        K, N = weight.shape
        for panel in range(panels.shape[0]):
            column = panel * MICRO_COLUMNS
            source = weight.ctypes.data + WORD * (first * N + column)
            at = panels[panel].ctypes.data
            scales, to = at + STEP * b, at + STEP * (n_blocks(K) + first // per_word)
            per_one_of_columns(scales, source, WORD * N, n_rows, N - column)
            round_columns(to, scales, source, WORD * N, n_rows, N - column)
            n_written = (first + n_rows + per_word - 1) // per_word
            panels[panel, n_blocks(K) + n_written : n_blocks(K) + n_words(first + n_rows, integers)] = ZERO

    @inner
    def pack_transposed(panels, weight, first, last):
        """Columns `first` to `last` of the panels of the transpose: rows of the weight, rounded as rows are.

        LANES words of LANES rows are written where they belong, untransposed, and transposed there.
        """
        N = weight.shape[1]
        block, n_scales = slice_rows(N), n_blocks(N)
        for row in range(first, round_up(last, MICRO_COLUMNS)):
            x = weight[row] if row < last else weight[0, :0]
            column, lane = row % MICRO_COLUMNS // LANES * LANES, row % LANES
            at = panels[row // MICRO_COLUMNS].ctypes.data
            to = at + STEP * n_scales + WORD * column
            for b in range(n_scales):
                start = b * block
                n = min(block, N - start)
                own = x[start : start + n]
                p = per_one_of_row(own.ctypes.data, own.size)
                store(at + STEP * b + WORD * (row % MICRO_COLUMNS), scale_of(p))
                for i in range(0, round_up(n, GRAIN), per_word * LANES):
                    word = (start + i) // per_word + lane
                    round_words(to + STEP * word, own.ctypes.data + WORD * i, p, own.size - i)
            if lane == LANES - 1:
                for word in range(0, n_words(N, integers), LANES):
                    place = to + STEP * word
                    transpose_block(place, STEP, place, STEP)

    @inner
    def pack(panels, transposed, weight, first, last):
        """Rows `first` to `last` of `weight` (K, N) in its panels and in those of its transpose; `first` is a
        multiple of `slice_rows(K)`, and `last` is one, or K."""
        block = slice_rows(weight.shape[0])
        for row in range(first, last, block):
            pack_block(panels, weight, row // block, row, min(block, last - row))
        pack_transposed(transposed, weight, first, last)

    return pack
