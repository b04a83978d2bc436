"""What attention on tiles keeps in scratch: a head's operands, as rows, panels and transposes (see `amx`)."""

from typing import NamedTuple

import numpy as np

from handgrad.kernels.amx import SIDE, WORDS
from handgrad.kernels.arena import round_up
from handgrad.kernels.jit import inner, shared
from handgrad.kernels.machine import LANES
from handgrad.kernels.microkernel import Matrix
from handgrad.kernels.products_bfloat16 import BLOCK, CONFIG, LINE, WORD, merge
from handgrad.kernels.rounding import to_bfloat16, value
from handgrad.kernels.vector import transpose_block

QUERIES = 128
"""Queries at a time, at most: what to tune."""
SCORES = 1 << 15
"""The most scores at a time, if `SIDE` queries do not have more: they stay in the second-level cache."""


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
    """(SIDE, SIDE)"""
    copied: int
    """(width, head) bfloat16: a head's keys or values, filled up with zeros."""
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
    """(SIDE, head) bfloat16: rows of Q."""
    dy: int
    """And of dY."""
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
    upright: int
    """(WORDS, SIDE): what is transposed."""
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
    dy = queries + WORDS * head
    q_turned = dy + WORDS * head
    dy_turned = q_turned + rows * head // 2
    probs = dy_turned + rows * head // 2
    dscores = probs + rows * (width + LANES)
    outputs = dscores + rows * (width + LANES)
    rounded = outputs + rows * (head + LANES)
    p_down = rounded + rows * (width // 2 + LANES)
    ds_down = p_down + rows * width // 2
    upright = ds_down + rows * width // 2
    return Places(
        rows, width, head, block, copied, keys_across, values_across, down, dk, dv, queries, dy, q_turned,
        dy_turned, probs, dscores, outputs, rounded, p_down, ds_down, upright, upright + WORDS * SIDE,
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
def head_of(target, source, first, last, column, K):
    """Rows `first` to `last` of one head, rounded; what target has beyond them and beyond K is zero."""
    for i in range(target.shape[0]):
        to = target[i]
        if first + i < last:
            row = source[first + i]
            for j in range(K):
                to[j] = to_bfloat16(value(row[column + j]))
            for j in range(K, to.size):
                to[j] = np.uint16(0)
        else:
            for j in range(to.size):
                to[j] = np.uint16(0)


@inner
def pack_across(target, x):
    """Panels, at an address, to multiply by x^T: words along x's rows."""
    n_words = x.shape[1] // 2
    for panel in range(x.shape[0] // SIDE):
        for row in range(0, SIDE, LANES):
            for k in range(0, n_words, LANES):
                source = at_row(x, panel * SIDE + row, 2 * k)
                to = target + LINE * (panel * n_words + k) + WORD * row
                transpose_block(to, LINE, source.at, source.stride)


@inner
def pack_down(target, x):
    """Panels, at an address, to multiply by x: words down x's columns."""
    n_words = x.shape[0] // 2
    for panel in range(x.shape[1] // SIDE):
        merge(target + LINE * panel * n_words, at_row(x, 0, panel * SIDE), 0, x.shape[0], n_words)


@inner
def turn(target, x, upright):
    """target (head, words) = x^T for SIDE rows of an operand x."""
    for column in range(0, x.shape[1], SIDE):
        merge(upright, at_row(x, 0, column), 0, SIDE, WORDS)
        for row in range(0, SIDE, LANES):
            for i in range(0, WORDS, LANES):
                to = target.at + (column + row) * target.stride + WORD * i
                transpose_block(to, target.stride, upright + LINE * i + WORD * row, LINE)
