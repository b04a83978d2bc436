"""What attention on tiles keeps in scratch: a head's operands, as rows, panels and transposes (see `amx`)."""

from typing import NamedTuple

import numpy as np

from handgrad.kernels.amx import LINE, SIDE
from handgrad.kernels.arena import round_up
from handgrad.kernels.jit import inner, shared
from handgrad.kernels.machine import LANES
from handgrad.kernels.microkernel import Matrix
from handgrad.kernels.products_bfloat16 import BLOCK, CONFIG, NUMBER, WORD, merge
from handgrad.kernels.rounding import number_for
from handgrad.kernels.vector import transpose_block, transpose_pairs
from handgrad.kernels.vector_bfloat16 import round_along

QUERIES = 128
"""Queries at a time, at most: what to tune."""
SCORES = 1 << 15
"""The most scores at a time, if `SIDE` queries do not have more: they stay in the second-level cache."""
ONE = np.float32(1.0)


class Panels(NamedTuple):
    at: int
    """Their address."""
    n_words: int
    """Rows of words in each."""


class Room(NamedTuple):
    """Where arrays begin in scratch, in 32-bit numbers.

    `width` is S and `head` d_head, in whole tiles; `rows` are the queries at a time.
    """

    rows: int
    width: int
    head: int
    block: int
    """(SIDE, SIDE)"""
    copied: int
    """(width, head) bfloat16: a head's keys or values, where they are no whole tiles."""
    keys_across: int
    """Panels of K^T: (width / SIDE, head / 2 words, SIDE)."""
    values_across: int
    """Panels of V^T."""
    down: int
    """Panels of V (forward) or K (backward): (head / SIDE, width / 2 words, SIDE)."""
    dk: int
    """(head, width): the sum's transpose; so is dv."""
    dv: int
    queries: int
    """(rows, head) bfloat16: Q, where it is no whole tiles."""
    dy: int
    """And dY."""
    q_turned: int
    """(head, rows / 2 words): Q^T."""
    dy_turned: int
    probs: int
    """(rows, width + LANES): S, then P. The gap keeps rows apart in the cache, in the next two, too."""
    dscores: int
    """dP."""
    outputs: int
    """(rows, head + LANES): Y (forward)."""
    rounded: int
    """(rows, width + 2 LANES) bfloat16: P (forward) or dS (backward)."""
    p_down: int
    """Panels of P after dropout: (width / SIDE, rows / 2 words, SIDE)."""
    ds_down: int
    end: int


@shared
def places(n_keys, d_head):
    """The one description of scratch: its size, and its use by both kernels."""
    width, head = round_up(n_keys, SIDE), round_up(d_head, SIDE)
    rows = max(SIDE, min(QUERIES, SCORES // width // SIDE * SIDE))
    block = CONFIG
    copied = block + BLOCK
    keys_across = copied + width * head // 2
    values_across = keys_across + width * head // 2
    down = values_across + width * head // 2
    dk = down + width * head // 2
    dv = dk + width * head
    queries = dv + width * head
    dy = queries + rows * head // 2
    q_turned = dy + rows * head // 2
    dy_turned = q_turned + rows * head // 2
    probs = dy_turned + rows * head // 2
    dscores = probs + rows * (width + LANES)
    outputs = dscores + rows * (width + LANES)
    rounded = outputs + rows * (head + LANES)
    p_down = rounded + rows * (width // 2 + LANES)
    ds_down = p_down + rows * width // 2
    return Room(
        rows, width, head, block, copied, keys_across, values_across, down, dk, dv, queries, dy, q_turned,
        dy_turned, probs, dscores, outputs, rounded, p_down, ds_down, ds_down + rows * width // 2,
    )  # fmt: skip


@inner
def numbers(scratch, start, n_rows, n_columns):
    """The array (n_rows, n_columns) of float32 that begins there."""
    return scratch[start : start + n_rows * n_columns].reshape(n_rows, n_columns)


@inner
def rounded(scratch, start, n_rows, n_columns):
    """The same of bfloat16."""
    n = n_rows * n_columns
    return scratch[start : start + n // 2].view(np.uint16).reshape(n_rows, n_columns)


@inner
def at_row(array, row, column):
    """The address of a number, with the distance of rows."""
    size = array.itemsize
    return Matrix(np.int64(array.ctypes.data) + size * (row * array.shape[1] + column), size * array.shape[1])


@inner
def further(matrix, rows):
    """The same, from so many rows on."""
    return Matrix(matrix.at + rows * matrix.stride, matrix.stride)


@inner
def operand_rows(x, first, last, column, K, spare):
    """Rows `first` to `last` of one head of an operand, filled up to tiles: where they lie, or in `spare`."""
    if K % SIDE == 0 and (last - first) % SIDE == 0:
        return at_row(x, first, column)
    for i in range(round_up(last - first, SIDE)):
        to = spare[i]
        to[:] = np.uint16(0)
        if first + i < last:
            to[:K] = x[first + i, column : column + K]
    return at_row(spare, 0, 0)


@inner
def rounded_rows(x, first, last, column, K, spare):
    """The same of a float32 array, rounded."""
    for i in range(round_up(last - first, SIDE)):
        to = spare[i]
        if first + i < last:
            write_row(to, x[first + i, column : column + K], ONE)
            to[K:] = np.uint16(0)
        else:
            to[:] = np.uint16(0)
    return at_row(spare, 0, 0)


@inner
def write_row(target, row, factor):
    """target = factor row, as target holds it."""
    whole = 0
    if target.itemsize == NUMBER:
        whole = row.size // SIDE * SIDE
        round_along(target.ctypes.data, row.ctypes.data, whole, factor)
    for j in range(whole, row.size):
        target[j] = number_for(target, row[j] * factor)


@inner
def pack_across(target, x, n_rows, n_words):
    """Panels, at an address, to multiply by x^T: words along x's rows."""
    for row in range(0, n_rows, LANES):
        for k in range(0, n_words, LANES):
            to = target + LINE * (row // SIDE * n_words + k) + WORD * (row % SIDE)
            transpose_block(to, LINE, x.at + row * x.stride + WORD * k, x.stride)


@inner
def pack_down(target, x, n_rows, n_columns):
    """Panels, at an address, to multiply by x: words down x's columns."""
    n_words = n_rows // 2
    for column in range(0, n_columns, SIDE):
        to = target + WORD * column * n_words
        merge(to, Matrix(x.at + NUMBER * column, x.stride), 0, n_rows, n_words)


@inner
def turn(target, x, n_rows, n_columns):
    """target (columns, words) = x^T."""
    for row in range(0, n_rows, 2 * LANES):
        for column in range(0, n_columns, LANES):
            to = target.at + column * target.stride + WORD * (row // 2)
            transpose_pairs(to, target.stride, x.at + row * x.stride + NUMBER * column, x.stride)
