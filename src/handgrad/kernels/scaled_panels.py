"""A weight in panels of scaled integers, for one kind of them.

A panel of MICRO_COLUMNS columns holds a row of scales for every block of K, in 8 bits followed by one of
offsets (see `integer_dot`); then words of its numbers, row after row. Blocks are those of an activation, and
of `scaled`.
"""

import numpy as np

from handgrad.kernels import quantize, quantize_columns
from handgrad.kernels.arena import round_up
from handgrad.kernels.integer_dot import write_offsets
from handgrad.kernels.jit import inner, shared
from handgrad.kernels.machine import LANES, MICRO_COLUMNS
from handgrad.kernels.quantize import Integers, scale_of
from handgrad.kernels.quantize_columns import FLOATS
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
    return -(-N // MICRO_COLUMNS), integers.heads * n_blocks(K) + n_words(K, integers), MICRO_COLUMNS


@shared
def n_heads(n_rows, integers):
    """How many of a panel's rows hold no numbers."""
    most = BLOCK // integers.per_word + integers.heads
    return (n_rows + most - 1) // most * integers.heads


@shared
def depth(n_rows, integers):
    """How many numbers, zeros that fill them up included, panels of so many rows are summed over."""
    return integers.per_word * (n_rows - n_heads(n_rows, integers))


def packing(integers: Integers):
    """The function that packs some rows of a weight."""
    per_word, heads = integers.per_word, integers.heads
    per_one_of_row, round_words = quantize.per_one_of_row(integers), quantize.round_words(integers)
    per_one_of_columns = quantize_columns.per_one_of_columns(integers, FLOATS)
    round_columns = quantize_columns.round_columns(integers, FLOATS)

    @inner
    def add_offsets(panel, K, b):
        """Block b of a panel, whose words are written."""
        if heads == 2:
            first, last = (
                n_words(b * slice_rows(K), integers),
                n_words(min(K, (b + 1) * slice_rows(K)), integers),
            )
            words = panel[heads * n_blocks(K) + first :]
            write_offsets(panel[heads * b + 1].ctypes.data, words.ctypes.data, last - first)

    @inner
    def pack_block(panels, weight, b, first, n_rows):
        """Block b of the panels of a weight (K, N): rows `first` to `first` + n_rows."""
        K, N = weight.shape
        n_written, n = (first + n_rows + per_word - 1) // per_word, n_words(first + n_rows, integers)
        for panel in range(panels.shape[0]):
            column = panel * MICRO_COLUMNS
            source = weight.ctypes.data + WORD * (first * N + column)
            words = panels[panel, heads * n_blocks(K) :]
            scales, to = panels[panel, heads * b].ctypes.data, words[first // per_word].ctypes.data
            per_one_of_columns(scales, source, WORD * N, n_rows, N - column)
            round_columns(to, scales, source, WORD * N, n_rows, N - column)
            words[n_written:n] = ZERO
            add_offsets(panels[panel], K, b)

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
            to = panel[heads * n_blocks(N) :, column:].ctypes.data
            for b in range(n_blocks(N)):
                start = b * block
                n = min(block, N - start)
                own = x[start : start + n]
                p = per_one_of_row(own.ctypes.data, own.size)
                store(panel[heads * b, row % MICRO_COLUMNS :].ctypes.data, scale_of(p))
                for i in range(0, round_up(n, GRAIN), per_word * LANES):
                    word = (start + i) // per_word + lane
                    round_words(to + STEP * word, own.ctypes.data + WORD * i, p, own.size - i)
            if lane == LANES - 1:
                for word in range(0, n_words(N, integers), LANES):
                    place = to + STEP * word
                    transpose_block(place, STEP, place, STEP)
            if row % MICRO_COLUMNS == MICRO_COLUMNS - 1:
                for b in range(n_blocks(N)):
                    add_offsets(panel, N, b)

    @inner
    def pack(panels, transposed, weight, first, last):
        """Rows `first` to `last` of `weight` (K, N) in its panels and in those of its transpose; `first` is a
        multiple of `slice_rows(K)`, and `last` is one, or K."""
        block = slice_rows(weight.shape[0])
        for row in range(first, last, block):
            pack_block(panels, weight, row // block, row, min(block, last - row))
        pack_transposed(transposed, weight, first, last)

    return pack
