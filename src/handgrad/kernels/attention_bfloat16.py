r"""Attention by bfloat16 products: what `attention` does, `SIDE` queries at a time.

The operands of its products are rounded: Q, K, V and dY, the probabilities where they meet the values, and
the gradient of the scores. Scores, softmax, its backward and all sums stay float32.

A head's keys and values become panels (see `amx`) once for all queries. Their gradients are summed in
scratch, over the queries of every head that shares them, and then written out. The passes have the numbers
of `attention`.
"""

from typing import NamedTuple

import numpy as np

from handgrad.kernels.amx import NOTHING, SIDE, WORDS, block_at, configure, finish
from handgrad.kernels.arena import round_up
from handgrad.kernels.attention import part_from, softmax_backward, softmax_forward
from handgrad.kernels.jit import inner, kernel, shared
from handgrad.kernels.machine import LANES
from handgrad.kernels.microkernel import Matrix
from handgrad.kernels.products_bfloat16 import (
    BLOCK,
    CONFIG,
    LINE,
    WORD,
    block_over_edge,
    merge,
)
from handgrad.kernels.rounding import number_for, to_bfloat16, value
from handgrad.kernels.vector import transpose_block

OPERAND: type = np.uint16
"""Of what attention reads and writes."""
ZERO = np.float32(0.0)


class Panels(NamedTuple):
    at: int
    """Their address."""
    n_words: int
    """Rows of words in each."""


class Places(NamedTuple):
    """Where arrays begin in scratch, in 32-bit numbers; `width` is S and `head` d_head, in whole tiles."""

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
    """(width, head)"""
    dv: int
    queries: int
    """(SIDE, head) bfloat16: rows of Q."""
    dy: int
    """And of dY."""
    q_down: int
    """Panels of SIDE rows of Q: (head / SIDE, WORDS, SIDE)."""
    dy_down: int
    probs: int
    """(SIDE, width): S, then P; as the next two."""
    dscores: int
    """dP, then dS."""
    dropped: int
    """P after dropout."""
    rows: int
    """(SIDE, width) bfloat16: P or dS, rounded."""
    upright: int
    """(WORDS, SIDE): some of their columns, in words along the queries."""
    turned: int
    """(width, WORDS): all of them, transposed."""
    end: int


@shared
def places(n_keys, d_head):
    """The one description of scratch: its size, and its use by both kernels."""
    width, head = round_up(n_keys, SIDE), round_up(d_head, SIDE)
    block = CONFIG
    copied = block + BLOCK
    keys_across = copied + width * head // 2
    values_across = keys_across + width * head // 2
    down = values_across + width * head // 2
    dk = down + width * head // 2
    dv = dk + width * head
    queries = dv + width * head
    dy = queries + WORDS * head
    q_down = dy + WORDS * head
    dy_down = q_down + WORDS * head
    probs = dy_down + WORDS * head
    dscores = probs + SIDE * width
    dropped = dscores + SIDE * width
    rows = dropped + SIDE * width
    upright = rows + WORDS * width
    turned = upright + WORDS * SIDE
    return Places(
        block, copied, keys_across, values_across, down, dk, dv, queries, dy, q_down, dy_down, probs, dscores,
        dropped, rows, upright, turned, turned + WORDS * width,
    )  # fmt: skip


def scratch_size(n_keys: int, d_head: int) -> int:
    """32-bit numbers that `forward` and `backward` work in."""
    return places(n_keys, d_head).end


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
def multiply(out, a, b, n_words, size, spare):
    """out = a @ b of `size` rows and columns, the first `n_words` words summed."""
    n_rows, n_columns = size
    for n in range(0, n_columns, SIDE):
        to, panel = Matrix(out.at + 4 * n, out.stride), b.at + WORD * n * b.n_words
        if n_rows == SIDE and n_columns - n >= SIDE:
            block_at(to, NOTHING, a, panel, n_words)
        else:
            block_over_edge(to, NOTHING, a, panel, n_words, n_rows, min(SIDE, n_columns - n), spare)


@inner
def write(y, place, a, b, n_words, size, block):
    """y = a @ b, as y holds it, from a row and column on; see `multiply`."""
    (row, column), (n_rows, K) = place, size
    to = at_row(block, 0, 0)
    for n in range(0, K, SIDE):
        block_at(to, NOTHING, a, b.at + WORD * n * b.n_words, n_words)
        for i in range(n_rows):
            target, source = y[row + i], block[i]
            for j in range(min(SIDE, K - n)):
                target[column + n + j] = number_for(y, source[j])


@inner
def round_block(target, x, n_rows, n_wide):
    """target (SIDE, width) = x, rounded; rows from `n_rows` on are zero."""
    for i in range(SIDE):
        to, row = target[i], x[i]
        if i < n_rows:
            for j in range(n_wide):
                to[j] = to_bfloat16(row[j])
        else:
            for j in range(n_wide):
                to[j] = np.uint16(0)


@inner
def add_down(sums, x, n_wide, b, upright, turned):
    """sums (width, head) += x^T @ b for a rounded x (SIDE, width); `upright` and `turned` are addresses."""
    for j in range(0, n_wide, SIDE):
        merge(upright, at_row(x, 0, j), 0, SIDE, WORDS)
        for row in range(0, SIDE, LANES):
            for i in range(0, WORDS, LANES):
                to = turned + WORD * ((j + row) * WORDS + i)
                transpose_block(to, WORD * WORDS, upright + LINE * i + WORD * row, LINE)
    for j in range(0, n_wide, SIDE):
        a = Matrix(turned + WORD * j * WORDS, WORD * WORDS)
        for n in range(0, sums.shape[1], SIDE):
            to = at_row(sums, j, n)
            block_at(to, to, a, b + WORD * n * WORDS, WORDS)


@kernel
def forward(y, sums, q, k, v, heads, dropping, scratch):
    """q, k and v are operands; y (B T, H K) is one, or float32.

    `sums` (B H T, 2) is what `backward` needs of each row of scores.
    """
    B, H, G = heads.n_sequences, heads.n_heads, heads.n_kv_heads
    T, S, K = q.shape[0] // B, k.shape[0] // B, heads.d_head
    width, head, at, base = round_up(S, SIDE), round_up(K, SIDE), places(S, K), np.int64(scratch.ctypes.data)
    configure(scratch[:CONFIG].view(np.uint8))
    spare = base + WORD * at.block
    keys, values = Panels(base + WORD * at.keys_across, head // 2), Panels(base + WORD * at.down, width // 2)
    block = numbers(scratch, at.block, SIDE, SIDE)
    copied, queries = rounded(scratch, at.copied, width, head), rounded(scratch, at.queries, SIDE, head)
    probs, p_rows = numbers(scratch, at.probs, SIDE, width), rounded(scratch, at.rows, SIDE, width)
    q_words, p_words, p = at_row(queries, 0, 0), at_row(p_rows, 0, 0), at_row(probs, 0, 0)
    for b in range(B):
        for g in range(G):
            head_of(copied, k, b * S, (b + 1) * S, g * K, K)
            pack_across(keys.at, copied)
            head_of(copied, v, b * S, (b + 1) * S, g * K, K)
            pack_down(values.at, copied)
            for h in range(g * (H // G), (g + 1) * (H // G)):
                for first in range(0, T, SIDE):
                    part = part_from(first, SIDE, SIDE, b * H + h, T, S, heads.causal)
                    row = b * T + first
                    # 1. S = Q K^T
                    head_of(queries, q, row, row + part.n_rows, h * K, K)
                    multiply(p, q_words, keys, head // 2, (SIDE, part.n_wide), spare)
                    # 2. P = dropout(softmax(c S))
                    softmax_forward(probs, sums, part, heads, dropping)
                    # 3. Y = P V
                    round_block(p_rows, probs, part.n_rows, part.n_wide)
                    size = part.n_rows, K
                    write(y, (row, h * K), p_words, values, part.n_wide // 2, size, block)
    finish()


@kernel
def backward(dq, dk, dv, q, k, v, dy, sums, heads, dropping, scratch):
    """q, k and v are operands; dy, dq, dk and dv are float32."""
    B, H, G = heads.n_sequences, heads.n_heads, heads.n_kv_heads
    T, S, K = q.shape[0] // B, k.shape[0] // B, heads.d_head
    width, head, at, base = round_up(S, SIDE), round_up(K, SIDE), places(S, K), np.int64(scratch.ctypes.data)
    configure(scratch[:CONFIG].view(np.uint8))
    spare, upright, turned = base + WORD * at.block, base + WORD * at.upright, base + WORD * at.turned
    keys_across = Panels(base + WORD * at.keys_across, head // 2)
    values_across = Panels(base + WORD * at.values_across, head // 2)
    keys_down = Panels(base + WORD * at.down, width // 2)
    q_down, dy_down = base + WORD * at.q_down, base + WORD * at.dy_down
    sum_k, sum_v = numbers(scratch, at.dk, width, head), numbers(scratch, at.dv, width, head)
    copied = rounded(scratch, at.copied, width, head)
    queries, outer = rounded(scratch, at.queries, SIDE, head), rounded(scratch, at.dy, SIDE, head)
    probs, dscores = numbers(scratch, at.probs, SIDE, width), numbers(scratch, at.dscores, SIDE, width)
    met = numbers(scratch, at.dropped if dropping.limit else at.probs, SIDE, width)
    rows = rounded(scratch, at.rows, SIDE, width)
    row_words, q_words, dy_words = at_row(rows, 0, 0), at_row(queries, 0, 0), at_row(outer, 0, 0)
    p, ds = at_row(probs, 0, 0), at_row(dscores, 0, 0)
    for b in range(B):
        for g in range(G):
            column = g * K
            head_of(copied, k, b * S, (b + 1) * S, column, K)
            pack_across(keys_across.at, copied)
            pack_down(keys_down.at, copied)
            head_of(copied, v, b * S, (b + 1) * S, column, K)
            pack_across(values_across.at, copied)
            sum_k[:] = ZERO
            sum_v[:] = ZERO
            for h in range(g * (H // G), (g + 1) * (H // G)):
                for first in range(0, T, SIDE):
                    part = part_from(first, SIDE, SIDE, b * H + h, T, S, heads.causal)
                    row, last, n_wide = b * T + first, b * T + first + part.n_rows, part.n_wide
                    head_of(queries, q, row, last, h * K, K)
                    head_of(outer, dy, row, last, h * K, K)
                    pack_down(q_down, queries)
                    pack_down(dy_down, outer)
                    # 1. S = Q K^T, as in forward 1
                    multiply(p, q_words, keys_across, head // 2, (SIDE, n_wide), spare)
                    # 2. dP = dY V^T, which undoes forward 3, Y = P V
                    multiply(ds, dy_words, values_across, head // 2, (SIDE, n_wide), spare)
                    # 3. P again, and dS, which undoes forward 2, P = dropout(softmax(c S))
                    softmax_backward(probs, dscores, met, sums, part, heads, dropping)
                    # 4. dQ = dS K, and dK += dS^T Q, which undo forward 1, S = Q K^T
                    round_block(rows, dscores, part.n_rows, n_wide)
                    size = part.n_rows, K
                    multiply(at_row(dq, row, h * K), row_words, keys_down, n_wide // 2, size, spare)
                    add_down(sum_k, rows, n_wide, q_down, upright, turned)
                    # 5. dV += P^T dY, which undoes forward 3, Y = P V
                    round_block(rows, met, part.n_rows, n_wide)
                    add_down(sum_v, rows, n_wide, dy_down, upright, turned)
            dk[b * S : (b + 1) * S, column : column + K] = sum_k[:S, :K]
            dv[b * S : (b + 1) * S, column : column + K] = sum_v[:S, :K]
    finish()
