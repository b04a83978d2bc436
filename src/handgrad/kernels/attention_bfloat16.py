r"""Attention by bfloat16 products: what `attention` does, on tiles, some `SIDE` queries at a time.

The operands of its products are rounded: Q, K, V and dY, the probabilities where they meet the values (in
forward their numerators), and the gradient of the scores. Scores, softmax, its backward and all sums stay
float32.

A head's keys and values become panels (see `amx`) once for all queries. Each pass goes over all strips of
`SIDE` queries in turn, so that no number is read right after it was stored: tiles and vectors wait long for
each other's stores. Gradients of keys and values are summed transposed, as Q^T dS and dY^T P: Q and dY, which
are small, are transposed, P and dS are not. The sums go over the queries of every head that shares the keys.
The passes have the numbers of `attention`.
"""

from typing import NamedTuple

import numpy as np

from handgrad.kernels.amx import LINE, NOTHING, SIDE, WORDS, block_at, configure, finish
from handgrad.kernels.arena import round_up
from handgrad.kernels.attention import part_from
from handgrad.kernels.attention_panels import (
    Panels,
    at_row,
    further,
    numbers,
    operand_rows,
    pack_across,
    pack_down,
    places,
    rounded,
    rounded_rows,
    turn,
    write_row,
)
from handgrad.kernels.jit import inner, kernel
from handgrad.kernels.machine import LANES
from handgrad.kernels.microkernel import Matrix
from handgrad.kernels.products_bfloat16 import CONFIG, WORD, block_over_edge, copy
from handgrad.kernels.softmax_bfloat16 import softmax_backward, softmax_forward
from handgrad.kernels.vector import transpose_block

OPERAND: type = np.uint16
"""Of what attention reads and writes."""


def scratch_size(n_keys: int, d_head: int) -> int:
    """32-bit numbers that `forward` and `backward` work in."""
    return places(n_keys, d_head).end


class Group(NamedTuple):
    """Queries of one head, some strips of `SIDE`, which go through all passes together."""

    first: int
    """Positions among T."""
    last: int
    head: int
    """Its number among all (B H)."""
    row: int
    """The first query's row in q, dy and y, and the head's column."""
    column: int
    T: int
    S: int


@inner
def strip(group, i, heads):
    """The queries from the group's i-th on."""
    return part_from(group.first + i, SIDE, SIDE, group.head, group.T, group.S, heads.causal)


@inner
def strips(group):
    """Their first queries in the group."""
    return range(0, group.last - group.first, SIDE)


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
def multiply_across(out, rows, panels, group, heads, spare):
    """out = rows @ panels, for the keys that each strip's queries see, in whole panels."""
    for i in strips(group):
        size = SIDE, strip(group, i, heads).n_wide
        multiply(at_row(out, i, 0), further(rows, i), panels, panels.n_words, size, spare)


@inner
def multiply_down(out, weights, panels, group, heads, width, spare):
    """out (rows, width) = weights @ panels, summed over the keys that each strip's queries see."""
    for i in strips(group):
        part = strip(group, i, heads)
        n_words = part.n_wide // 2
        multiply(further(out, i), at_row(weights, i, 0), panels, n_words, (part.n_rows, width), spare)


@inner
def write(y, outputs, sums, group, heads, dropping):
    """y of these queries: outputs are divided by each row's sum of exponentials, as y holds them."""
    number, K = group.head * group.T + group.first, heads.d_head
    for i in range(group.last - group.first):
        target = y[group.row + i, group.column : group.column + K]
        write_row(target, outputs[i, :K], sums[number + i, 1] * dropping.scale)


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
    keys = Panels(base + WORD * at.keys_across, at.head // 2)
    values = Panels(base + WORD * at.down, at.width // 2)
    copied, queries = (
        rounded(scratch, at.copied, at.width, at.head),
        rounded(scratch, at.queries, at.rows, at.head),
    )
    scores = numbers(scratch, at.probs, at.rows, at.width + LANES)
    probs = rounded(scratch, at.rounded, at.rows, at.width + 2 * LANES)
    outputs = numbers(scratch, at.outputs, at.rows, at.head + LANES)
    for b in range(B):
        for g in range(G):
            pack_across(
                keys.at, operand_rows(k, b * S, (b + 1) * S, g * K, K, copied), at.width, at.head // 2
            )
            pack_down(values.at, operand_rows(v, b * S, (b + 1) * S, g * K, K, copied), at.width, at.head)
            for h in range(g * (H // G), (g + 1) * (H // G)):
                for first in range(0, T, at.rows):
                    last = min(T, first + at.rows)
                    group = Group(first, last, b * H + h, b * T + first, h * K, T, S)
                    rows = operand_rows(q, b * T + first, b * T + last, h * K, K, queries)
                    # 1. S = Q K^T
                    multiply_across(scores, rows, keys, group, heads, spare)
                    # 2. P = dropout(softmax(c S)), but for a factor of each row
                    for i in strips(group):
                        part = strip(group, i, heads)
                        softmax_forward(probs[i:], scores[i:], sums, part, heads, dropping)
                    # 3. Y = P V
                    multiply_down(at_row(outputs, 0, 0), probs, values, group, heads, at.head, spare)
                    write(y, outputs, sums, group, heads, dropping)
    finish()


@inner
def add_down(sums, turned, panels, words, column, more):
    """sums (head, width) += x^T @ b in one panel's columns, over the words between two; without `more`, =."""
    skipped, last = words
    b = panels.at + LINE * (column // SIDE * panels.n_words + skipped)
    for m in range(0, sums.shape[0], SIDE):
        to, left = at_row(sums, m, column), further(turned, m)
        a = Matrix(left.at + WORD * skipped, left.stride)
        block_at(to, to if more else NOTHING, a, b, last - skipped)


@inner
def write_turned(out, sums, spare, row, column, size):
    """out (S, K) at a row and column = the sums' transpose; `spare` is a block for what are no whole ones."""
    S, K = size
    for n in range(0, S, LANES):
        for m in range(0, K, LANES):
            source = at_row(sums, m, n)
            if n + LANES <= S and m + LANES <= K:
                to = at_row(out, row + n, column + m)
                transpose_block(to.at, to.stride, source.at, source.stride)
            else:
                transpose_block(spare, LINE, source.at, source.stride)
                copy(
                    at_row(out, row + n, column + m),
                    Matrix(spare, LINE),
                    min(LANES, S - n),
                    min(LANES, K - m),
                )


@kernel
def backward(dq, dk, dv, q, k, v, dy, sums, heads, dropping, scratch):
    """q, k and v are operands; dy, dq, dk and dv are float32."""
    B, H, G = heads.n_sequences, heads.n_heads, heads.n_kv_heads
    T, S, K = q.shape[0] // B, k.shape[0] // B, heads.d_head
    at, base = places(S, K), np.int64(scratch.ctypes.data)
    configure(scratch[:CONFIG].view(np.uint8))
    spare = base + WORD * at.block
    keys_across = Panels(base + WORD * at.keys_across, at.head // 2)
    values_across = Panels(base + WORD * at.values_across, at.head // 2)
    keys_down = Panels(base + WORD * at.down, at.width // 2)
    p_down = Panels(base + WORD * at.p_down, at.rows // 2)
    ds_down = Panels(base + WORD * at.ds_down, at.rows // 2)
    q_turned = Matrix(base + WORD * at.q_turned, WORD * at.rows // 2)
    dy_turned = Matrix(base + WORD * at.dy_turned, WORD * at.rows // 2)
    sum_k, sum_v = numbers(scratch, at.dk, at.head, at.width), numbers(scratch, at.dv, at.head, at.width)
    copied = rounded(scratch, at.copied, at.width, at.head)
    queries, outer = rounded(scratch, at.queries, at.rows, at.head), rounded(scratch, at.dy, at.rows, at.head)
    probs = numbers(scratch, at.probs, at.rows, at.width + LANES)
    dscores = numbers(scratch, at.dscores, at.rows, at.width + LANES)
    ds_rows = rounded(scratch, at.rounded, at.rows, at.width + 2 * LANES)
    for b in range(B):
        for g in range(G):
            column = g * K
            keys = operand_rows(k, b * S, (b + 1) * S, column, K, copied)
            pack_across(keys_across.at, keys, at.width, at.head // 2)
            pack_down(keys_down.at, keys, at.width, at.head)
            values = operand_rows(v, b * S, (b + 1) * S, column, K, copied)
            pack_across(values_across.at, values, at.width, at.head // 2)
            n_summed = 0  # keys whose gradients have met a query
            for h in range(g * (H // G), (g + 1) * (H // G)):
                for first in range(0, T, at.rows):
                    last = min(T, first + at.rows)
                    group = Group(first, last, b * H + h, b * T + first, h * K, T, S)
                    rows = operand_rows(q, b * T + first, b * T + last, h * K, K, queries)
                    dy_rows = rounded_rows(dy, b * T + first, b * T + last, h * K, K, outer)
                    turn(q_turned, rows, round_up(last - first, SIDE), at.head)
                    turn(dy_turned, dy_rows, round_up(last - first, SIDE), at.head)
                    # 1. S = Q K^T, as in forward 1
                    multiply_across(probs, rows, keys_across, group, heads, spare)
                    # 2. dP = dY V^T, which undoes forward 3, Y = P V
                    multiply_across(dscores, dy_rows, values_across, group, heads, spare)
                    # 3. P again, and dS, which undoes forward 2, P = dropout(softmax(c S))
                    for i in strips(group):
                        part, line = strip(group, i, heads), LINE * (i // 2)
                        words = (
                            Panels(p_down.at + line, p_down.n_words),
                            Panels(ds_down.at + line, ds_down.n_words),
                        )
                        scores = probs[i:], dscores[i:]
                        softmax_backward(ds_rows[i:], words, scores, sums, part, heads, dropping)
                    # 4. dQ = dS K, which undoes forward 1, S = Q K^T
                    to = at_row(dq, group.row, group.column)
                    multiply_down(to, ds_rows, keys_down, group, heads, K, spare)
                    # 5. dK += dS^T Q, which undoes forward 1, and dV += P^T dY, which undoes forward 3
                    n_wide = part_from(first, at.rows, SIDE, b * H + h, T, S, heads.causal).n_wide
                    for j in range(0, n_wide, SIDE):
                        # the first strip that sees the panel
                        skipped = max(0, (j - (S - T) - first) // SIDE * WORDS) if heads.causal else 0
                        summed = skipped, round_up(last - first, SIDE) // 2
                        add_down(sum_k, q_turned, ds_down, summed, j, j < n_summed)
                        add_down(sum_v, dy_turned, p_down, summed, j, j < n_summed)
                    n_summed = max(n_summed, n_wide)
            write_turned(dk, sum_k, spare, b * S, column, (S, K))
            write_turned(dv, sum_v, spare, b * S, column, (S, K))
    finish()
