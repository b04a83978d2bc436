"""What attention on tiles keeps in scratch: a head's operands, as rows, panels and transposes (see `amx`)."""

from typing import NamedTuple

import numpy as np

from handgrad.kernels.amx import LINE, SIDE
from handgrad.kernels.arena import round_up
from handgrad.kernels.jit import inner, shared, view
from handgrad.kernels.machine import LANES
from handgrad.kernels.microkernel import Matrix
from handgrad.kernels.products_bfloat16 import BLOCK, CONFIG, NUMBER, WORD, merge
from handgrad.kernels.vector_moves import transpose_block, transpose_pairs
from handgrad.kernels.vector_rows import copy_along, round_along, scale_along

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


class Places(NamedTuple):
    """Where arrays begin in scratch, in 32-bit numbers.

    `width` is S and `head` d_head, in whole tiles; `rows` are the queries at a time.
    """

    rows: int
    width: int
    head: int
    block: int
    copied: int
    keys_across: int
    values_across: int
    down: int
    dk: int
    dv: int
    queries: int
    dy: int
    q_turned: int
    dy_turned: int
    scores: int
    dprobs: int
    outputs: int
    rounded: int
    p_down: int
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
    scores = dy_turned + rows * head // 2
    dprobs = scores + rows * (width + LANES)
    outputs = dprobs + rows * (width + LANES)
    rounded = outputs + rows * (head + LANES)
    p_down = rounded + rows * (width // 2 + LANES)
    ds_down = p_down + rows * width // 2
    return Places(
        rows, width, head, block, copied, keys_across, values_across, down, dk, dv, queries, dy, q_turned,
        dy_turned, scores, dprobs, outputs, rounded, p_down, ds_down, ds_down + rows * width // 2,
    )  # fmt: skip


class Forward(NamedTuple):
    """Forward's arrays. A gap of LANES numbers keeps rows apart in the cache."""

    block: int
    """The address of a (SIDE, SIDE) block, for what stands over an edge."""
    copied: np.ndarray
    """(width, head) bfloat16: a head's keys or values, where they are no whole tiles."""
    queries: np.ndarray
    """(rows, head) bfloat16: Q, likewise."""
    keys: Panels
    """K^T: (width / SIDE, head / 2 words, SIDE)."""
    values: Panels
    """V: (head / SIDE, width / 2 words, SIDE)."""
    scores: np.ndarray
    """(rows, width)"""
    probs: np.ndarray
    """(rows, width) bfloat16"""
    outputs: np.ndarray
    """(rows, head)"""


class Backward(NamedTuple):
    """Backward's; `block`, `copied` and `queries` are as in `Forward`."""

    block: int
    copied: np.ndarray
    queries: np.ndarray
    dy: np.ndarray
    """(rows, head) bfloat16"""
    q_turned: Matrix
    """Q^T: (head, rows / 2 words)."""
    dy_turned: Matrix
    keys: Panels
    """K^T"""
    values: Panels
    """V^T"""
    keys_down: Panels
    """K"""
    probs: np.ndarray
    """(rows, width): S, then P."""
    dprobs: np.ndarray
    """(rows, width)"""
    dscores: np.ndarray
    """(rows, width) bfloat16"""
    p_down: Panels
    """P after dropout: (width / SIDE, rows / 2 words, SIDE)."""
    ds_down: Panels
    dk: np.ndarray
    """(head, width): the sum's transpose."""
    dv: np.ndarray


@view
def numbers(scratch, start, n_rows, n_columns):
    """The array (n_rows, n_columns) of float32 that begins there."""
    return scratch[start : start + n_rows * n_columns].reshape(n_rows, n_columns)


@view
def rounded(scratch, start, n_rows, n_columns):
    """The same of bfloat16."""
    n = n_rows * n_columns
    return scratch[start : start + n // 2].view(np.uint16).reshape(n_rows, n_columns)


@inner
def forward_arrays(scratch, at):
    base = np.int64(scratch.ctypes.data)
    return Forward(
        base + WORD * at.block,
        rounded(scratch, at.copied, at.width, at.head),
        rounded(scratch, at.queries, at.rows, at.head),
        Panels(base + WORD * at.keys_across, at.head // 2),
        Panels(base + WORD * at.down, at.width // 2),
        numbers(scratch, at.scores, at.rows, at.width + LANES),
        rounded(scratch, at.rounded, at.rows, at.width + 2 * LANES),
        numbers(scratch, at.outputs, at.rows, at.head + LANES),
    )


@inner
def backward_arrays(scratch, at):
    base = np.int64(scratch.ctypes.data)
    return Backward(
        base + WORD * at.block,
        rounded(scratch, at.copied, at.width, at.head),
        rounded(scratch, at.queries, at.rows, at.head),
        rounded(scratch, at.dy, at.rows, at.head),
        Matrix(base + WORD * at.q_turned, WORD * at.rows // 2),
        Matrix(base + WORD * at.dy_turned, WORD * at.rows // 2),
        Panels(base + WORD * at.keys_across, at.head // 2),
        Panels(base + WORD * at.values_across, at.head // 2),
        Panels(base + WORD * at.down, at.width // 2),
        numbers(scratch, at.scores, at.rows, at.width + LANES),
        numbers(scratch, at.dprobs, at.rows, at.width + LANES),
        rounded(scratch, at.rounded, at.rows, at.width + 2 * LANES),
        Panels(base + WORD * at.p_down, at.rows // 2),
        Panels(base + WORD * at.ds_down, at.rows // 2),
        numbers(scratch, at.dk, at.head, at.width),
        numbers(scratch, at.dv, at.head, at.width),
    )


@inner
def at_row(array, row, column):
    """The address of a number, with the distance of rows."""
    size = array.itemsize
    return Matrix(np.int64(array.ctypes.data) + size * (row * array.shape[1] + column), size * array.shape[1])


@inner
def below(x, rows):
    """The same matrix, from so many rows on."""
    return Matrix(x.at + rows * x.stride, x.stride)


@inner
def operand_rows(x, first, last, column, K, spare):
    """Rows `first` to `last` of one head of an operand, filled up to tiles: where they lie, or in `spare`."""
    source, to = at_row(x, first, column), at_row(spare, 0, 0)
    if K % SIDE == 0 and (last - first) % SIDE == 0:
        return source
    for i in range(round_up(last - first, SIDE)):
        n = K if first + i < last else 0
        copy_along(below(to, i).at, below(source, i).at, n, spare.shape[1], ONE)
    return to


@inner
def rounded_rows(x, first, last, column, K, spare):
    """The same of a float32 array, rounded into `spare`."""
    source, to = at_row(x, first, column), at_row(spare, 0, 0)
    for i in range(round_up(last - first, SIDE)):
        n = K if first + i < last else 0
        round_along(below(to, i).at, below(source, i).at, n, spare.shape[1], ONE)
    return to


@inner
def copy_numbers(to, source, n_rows, n_columns):
    """Copy float32 numbers."""
    for i in range(n_rows):
        scale_along(below(to, i).at, below(source, i).at, n_columns, n_columns, ONE)


@inner
def pack_across(panels, x, n_rows):
    """Panels to multiply by x^T: words along x's rows."""
    for row in range(0, n_rows, LANES):
        for k in range(0, panels.n_words, LANES):
            to = panels.at + LINE * (row // SIDE * panels.n_words + k) + WORD * (row % SIDE)
            transpose_block(to, LINE, x.at + row * x.stride + WORD * k, x.stride)


@inner
def pack_down(panels, x, n_columns):
    """Panels to multiply by x: words down x's columns."""
    for column in range(0, n_columns, SIDE):
        to = panels.at + WORD * column * panels.n_words
        merge(to, Matrix(x.at + NUMBER * column, x.stride), 0, 2 * panels.n_words, panels.n_words)


@inner
def turn(target, x, n_rows, n_columns):
    """target (columns, words) = x^T."""
    for row in range(0, n_rows, 2 * LANES):
        for column in range(0, n_columns, LANES):
            to = target.at + column * target.stride + WORD * (row // 2)
            transpose_pairs(to, target.stride, x.at + row * x.stride + NUMBER * column, x.stride)


@inner
def write_turned(out, sums, row, column, size, spare):
    """out (S, K) at a row and column = the sums' transpose; `spare` is a block for what is none of out's."""
    S, K = size
    for n in range(0, S, LANES):
        for m in range(0, K, LANES):
            to, source, block = at_row(out, row + n, column + m), at_row(sums, m, n), Matrix(spare, LINE)
            if n + LANES <= S and m + LANES <= K:
                transpose_block(to.at, to.stride, source.at, source.stride)
            else:
                transpose_block(block.at, block.stride, source.at, source.stride)
                copy_numbers(to, block, min(LANES, S - n), min(LANES, K - m))
