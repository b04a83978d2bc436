r"""Attention by bfloat16 products: what `attention` does, on tiles, some `SIDE` queries at a time.

The operands of its products are rounded: Q, K, V and dY, the probabilities where they meet the values, and
the gradient of the scores. Scores, softmax, its backward and all sums stay float32.

A head's keys and values become panels (see `amx`) once for all queries. Each pass goes over all strips of
`SIDE` queries in turn, so that no number is read right after it was stored: tiles and vectors wait long for
each other's stores. Gradients of keys and values are summed transposed, as Q^T dS and dY^T P: Q and dY, which
are small, are transposed, P and dS are not. The sums go over the queries of every head that shares the keys.
The passes have the numbers of `attention`.
"""

import numpy as np

from handgrad.kernels.amx import NOTHING, SIDE, WORDS, block_at, configure, finish
from handgrad.kernels.arena import round_up
from handgrad.kernels.attention import part_from
from handgrad.kernels.attention_panels import (
    Panels,
    at_row,
    head_of,
    numbers,
    pack_across,
    pack_down,
    places,
    rounded,
    turn,
)
from handgrad.kernels.jit import inner, kernel
from handgrad.kernels.machine import LANES
from handgrad.kernels.microkernel import Matrix
from handgrad.kernels.products_bfloat16 import CONFIG, LINE, WORD, block_over_edge
from handgrad.kernels.rounding import number_for
from handgrad.kernels.softmax_bfloat16 import softmax_backward, softmax_forward
from handgrad.kernels.vector import transpose_block

OPERAND: type = np.uint16
"""Of what attention reads and writes."""
ZERO = np.float32(0.0)


def scratch_size(n_keys: int, d_head: int) -> int:
    """32-bit numbers that `forward` and `backward` work in."""
    return places(n_keys, d_head).end


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
def write(y, x, row, column, size):
    """y from a row and column on = x, as y holds it."""
    n_rows, K = size
    for i in range(n_rows):
        target, source = y[row + i, column : column + K], x[i, :K]
        for j in range(K):
            target[j] = number_for(y, source[j])


@inner
def add_down(sums, turned, panels, n_queries, first, column):
    """sums (head, width) += x^T @ b in one panel's columns, for the words from the strip `first` on."""
    skipped = first // SIDE * WORDS
    n_words = round_up(n_queries, SIDE) // 2 - skipped
    b = panels.at + LINE * (column // SIDE * panels.n_words + skipped)
    for m in range(0, sums.shape[0], SIDE):
        to = at_row(sums, m, column)
        block_at(to, to, Matrix(turned.at + m * turned.stride + WORD * skipped, turned.stride), b, n_words)


@inner
def write_turned(out, sums, spare, row, column, size):
    """out (S, K) at a row and column = the sums' transpose; `spare` (width, head) is overwritten."""
    S, K = size
    for m in range(0, sums.shape[0], LANES):
        for n in range(0, sums.shape[1], LANES):
            to, source = at_row(spare, n, m), at_row(sums, m, n)
            transpose_block(to.at, to.stride, source.at, source.stride)
    out[row : row + S, column : column + K] = spare[:S, :K]


@kernel
def forward(y, sums, q, k, v, heads, dropping, scratch):
    """q, k and v are operands; y (B T, H K) is one, or float32.

    `sums` (B H T, 2) is what `backward` needs of each row of scores.
    """
    B, H, G = heads.n_sequences, heads.n_heads, heads.n_kv_heads
    T, S, K = q.shape[0] // B, k.shape[0] // B, heads.d_head
    at, base = places(S, K), np.int64(scratch.ctypes.data)
    configure(scratch[:CONFIG].view(np.uint8))
    spare = base + WORD * at.block
    keys, values = (
        Panels(base + WORD * at.keys_across, at.head // 2),
        Panels(base + WORD * at.down, at.width // 2),
    )
    outputs = numbers(scratch, at.outputs, at.rows, at.head + LANES)
    copied, queries = (
        rounded(scratch, at.copied, at.width, at.head),
        rounded(scratch, at.queries, SIDE, at.head),
    )
    probs = numbers(scratch, at.probs, at.rows, at.width + LANES)
    p_rows = rounded(scratch, at.rounded, at.rows, at.width + 2 * LANES)
    for b in range(B):
        for g in range(G):
            head_of(copied, k, b * S, (b + 1) * S, g * K, K)
            pack_across(keys.at, copied)
            head_of(copied, v, b * S, (b + 1) * S, g * K, K)
            pack_down(values.at, copied)
            for h in range(g * (H // G), (g + 1) * (H // G)):
                for begin in range(0, T, at.rows):
                    strips = range(begin, min(T, begin + at.rows), SIDE)
                    # 1. S = Q K^T
                    for first in strips:
                        part = part_from(first, SIDE, SIDE, b * H + h, T, S, heads.causal)
                        row = b * T + first
                        head_of(queries, q, row, row + part.n_rows, h * K, K)
                        size = SIDE, part.n_wide
                        multiply(
                            at_row(probs, first - begin, 0),
                            at_row(queries, 0, 0),
                            keys,
                            at.head // 2,
                            size,
                            spare,
                        )
                    # 2. P = dropout(softmax(c S))
                    for first in strips:
                        part = part_from(first, SIDE, SIDE, b * H + h, T, S, heads.causal)
                        softmax_forward(
                            p_rows[first - begin :], probs[first - begin :], sums, part, heads, dropping
                        )
                    # 3. Y = P V
                    for first in strips:
                        part = part_from(first, SIDE, SIDE, b * H + h, T, S, heads.causal)
                        out, p = at_row(outputs, first - begin, 0), at_row(p_rows, first - begin, 0)
                        multiply(out, p, values, part.n_wide // 2, (SIDE, at.head), spare)
                    write(y, outputs, b * T + begin, h * K, (min(at.rows, T - begin), K))
    finish()


@kernel
def backward(dq, dk, dv, q, k, v, dy, sums, heads, dropping, scratch):
    """q, k and v are operands; dy, dq, dk and dv are float32."""
    B, H, G = heads.n_sequences, heads.n_heads, heads.n_kv_heads
    T, S, K = q.shape[0] // B, k.shape[0] // B, heads.d_head
    at, base = places(S, K), np.int64(scratch.ctypes.data)
    configure(scratch[:CONFIG].view(np.uint8))
    spare, upright = base + WORD * at.block, base + WORD * at.upright
    keys_across = Panels(base + WORD * at.keys_across, at.head // 2)
    values_across = Panels(base + WORD * at.values_across, at.head // 2)
    keys_down = Panels(base + WORD * at.down, at.width // 2)
    p_down, ds_down = (
        Panels(base + WORD * at.p_down, at.rows // 2),
        Panels(base + WORD * at.ds_down, at.rows // 2),
    )
    q_turned = Matrix(base + WORD * at.q_turned, WORD * at.rows // 2)
    dy_turned = Matrix(base + WORD * at.dy_turned, WORD * at.rows // 2)
    sum_k, sum_v = numbers(scratch, at.dk, at.head, at.width), numbers(scratch, at.dv, at.head, at.width)
    copied = rounded(scratch, at.copied, at.width, at.head)
    queries, outer = rounded(scratch, at.queries, SIDE, at.head), rounded(scratch, at.dy, SIDE, at.head)
    probs = numbers(scratch, at.probs, at.rows, at.width + LANES)
    dscores = numbers(scratch, at.dscores, at.rows, at.width + LANES)
    ds_rows = rounded(scratch, at.rounded, at.rows, at.width + 2 * LANES)
    # the panels of K and V have served when their gradients are written
    upright_sums = numbers(scratch, at.keys_across, at.width, at.head)
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
                for begin in range(0, T, at.rows):
                    end = min(T, begin + at.rows)
                    strips = range(begin, end, SIDE)
                    for first in strips:
                        part = part_from(first, SIDE, SIDE, b * H + h, T, S, heads.causal)
                        row, last, size = b * T + first, b * T + first + part.n_rows, (SIDE, part.n_wide)
                        i, words = first - begin, WORD * (first - begin) // 2
                        head_of(queries, q, row, last, h * K, K)
                        head_of(outer, dy, row, last, h * K, K)
                        turn(Matrix(q_turned.at + words, q_turned.stride), queries, upright)
                        turn(Matrix(dy_turned.at + words, dy_turned.stride), outer, upright)
                        # 1. S = Q K^T, as in forward 1
                        multiply(
                            at_row(probs, i, 0), at_row(queries, 0, 0), keys_across, at.head // 2, size, spare
                        )
                        # 2. dP = dY V^T, which undoes forward 3, Y = P V
                        multiply(
                            at_row(dscores, i, 0),
                            at_row(outer, 0, 0),
                            values_across,
                            at.head // 2,
                            size,
                            spare,
                        )
                    # 3. P again, and dS, which undoes forward 2, P = dropout(softmax(c S))
                    for first in strips:
                        part = part_from(first, SIDE, SIDE, b * H + h, T, S, heads.causal)
                        i, line = first - begin, LINE * ((first - begin) // 2)
                        words = (
                            Panels(p_down.at + line, p_down.n_words),
                            Panels(ds_down.at + line, ds_down.n_words),
                        )
                        softmax_backward(
                            ds_rows[i:], words, (probs[i:], dscores[i:]), sums, part, heads, dropping
                        )
                    # 4. dQ = dS K, which undoes forward 1, S = Q K^T
                    for first in strips:
                        part = part_from(first, SIDE, SIDE, b * H + h, T, S, heads.causal)
                        to, rows = at_row(dq, b * T + first, h * K), at_row(ds_rows, first - begin, 0)
                        multiply(to, rows, keys_down, part.n_wide // 2, (part.n_rows, K), spare)
                    # 5. dK += dS^T Q, which undoes forward 1, and dV += P^T dY, which undoes forward 3
                    n_wide = part_from(begin, at.rows, SIDE, b * H + h, T, S, heads.causal).n_wide
                    for j in range(0, n_wide, SIDE):
                        # the first strip that sees the panel
                        skipped = max(0, (j - (S - T) - begin) // SIDE * SIDE) if heads.causal else 0
                        add_down(sum_k, q_turned, ds_down, end - begin, skipped, j)
                        add_down(sum_v, dy_turned, p_down, end - begin, skipped, j)
            write_turned(dk, sum_k, upright_sums, b * S, column, (S, K))
            write_turned(dv, sum_v, upright_sums, b * S, column, (S, K))
    finish()
