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
    backward_arrays,
    below,
    copy_numbers,
    forward_arrays,
    operand_rows,
    pack_across,
    pack_down,
    places,
    rounded_rows,
    turn,
    write_turned,
)
from handgrad.kernels.jit import inner, kernel
from handgrad.kernels.microkernel import Matrix
from handgrad.kernels.products_bfloat16 import CONFIG, NUMBER, WORD
from handgrad.kernels.softmax_bfloat16 import softmax_backward, softmax_forward
from handgrad.kernels.vector_rows import round_along, scale_along

OPERAND: type = np.uint16
"""Of what attention reads and writes."""


def scratch_size(n_keys: int, d_head: int) -> int:
    """32-bit numbers that `forward` and `backward` work in."""
    return places(n_keys, d_head).end


class Group(NamedTuple):
    """Queries of one head, some strips of `SIDE`, which go through each pass together."""

    first: int
    """The first query's position among T."""
    n_rows: int
    head: int
    """The head's number among all (B H)."""
    row: int
    """The first query's row in q, dy and y, and the head's column there."""
    column: int
    T: int
    S: int


@inner
def group_from(first, most, b, h, T, S, heads):
    """At most `most` queries of head h in sequence b."""
    head = b * heads.n_heads + h
    return Group(first, min(most, T - first), head, b * T + first, h * heads.d_head, T, S)


@inner
def strip(group, i, heads):
    """`SIDE` of the group's queries, or those that are left, from its i-th on."""
    return part_from(group.first + i, SIDE, SIDE, group.head, group.T, group.S, heads.causal)


@inner
def multiply(out, a, b, n_words, size, spare):
    """out = a @ b of `size` rows and columns, the first `n_words` words summed."""
    n_rows, n_columns = size
    for n in range(0, n_columns, SIDE):
        to, panel = Matrix(out.at + 4 * n, out.stride), b.at + WORD * n * b.n_words
        if n_rows == SIDE and n_columns - n >= SIDE:
            block_at(to, NOTHING, a, panel, n_words)
        else:
            block = Matrix(spare, LINE)
            block_at(block, NOTHING, a, panel, n_words)
            copy_numbers(to, block, n_rows, min(SIDE, n_columns - n))


@inner
def multiply_across(out, rows, panels, group, heads, spare):
    """out = rows @ panels: columns are the keys that each strip sees, in whole panels."""
    for i in range(0, group.n_rows, SIDE):
        size = SIDE, strip(group, i, heads).n_wide
        multiply(below(out, i), below(rows, i), panels, panels.n_words, size, spare)


@inner
def multiply_down(out, rows, panels, group, heads, width, spare):
    """out (n_rows, width) = rows @ panels: the sums go over the keys that each strip sees."""
    for i in range(0, group.n_rows, SIDE):
        part = strip(group, i, heads)
        multiply(below(out, i), below(rows, i), panels, part.n_wide // 2, (part.n_rows, width), spare)


@inner
def write(y, outputs, sums, group, heads, dropping):
    """y of these queries: outputs by the sum of each row's exponentials, and by dropout's factor."""
    K, rounds = heads.d_head, y.itemsize == NUMBER
    for i in range(group.n_rows):
        to, row = at_row(y, group.row + i, group.column).at, at_row(outputs, i, 0).at
        factor = sums[group.head * group.T + group.first + i, 1] * dropping.scale
        if rounds:
            round_along(to, row, K, K, factor)
        else:
            scale_along(to, row, K, K, factor)


@inner
def forward_group(y, sums, q, group, arrays, heads, dropping):
    """y of these queries, when `arrays` hold the panels of keys and values."""
    last, K, n_columns = group.row + group.n_rows, heads.d_head, round_up(heads.d_head, SIDE)
    scores, probs, outputs = arrays.scores, arrays.probs, arrays.outputs
    queries = operand_rows(q, group.row, last, group.column, K, arrays.queries)
    # 1. S = Q K^T
    multiply_across(at_row(scores, 0, 0), queries, arrays.keys, group, heads, arrays.block)
    # 2. P = dropout(softmax(c S)), but for a factor of each row
    for i in range(0, group.n_rows, SIDE):
        softmax_forward(probs[i:], scores[i:], sums, strip(group, i, heads), heads, dropping)
    # 3. Y = P V
    to, rows = at_row(outputs, 0, 0), at_row(probs, 0, 0)
    multiply_down(to, rows, arrays.values, group, heads, n_columns, arrays.block)
    write(y, outputs, sums, group, heads, dropping)


@kernel
def forward(y, sums, q, k, v, heads, dropping, scratch):
    """q, k and v are operands; y (B T, H K) is one, or float32.

    `sums` (B H T, 2) is what `backward` needs of each row of scores.
    """
    B, H, G = heads.n_sequences, heads.n_heads, heads.n_kv_heads
    T, S, K = q.shape[0] // B, k.shape[0] // B, heads.d_head
    at = places(S, K)
    arrays = forward_arrays(scratch, at)
    configure(scratch[:CONFIG].view(np.uint8))
    for b in range(B):
        for g in range(G):
            keys = operand_rows(k, b * S, (b + 1) * S, g * K, K, arrays.copied)
            pack_across(arrays.keys, keys, at.width)
            values = operand_rows(v, b * S, (b + 1) * S, g * K, K, arrays.copied)
            pack_down(arrays.values, values, at.head)
            for h in range(g * (H // G), (g + 1) * (H // G)):
                for first in range(0, T, at.rows):
                    group = group_from(first, at.rows, b, h, T, S, heads)
                    forward_group(y, sums, q, group, arrays, heads, dropping)
    finish()


@inner
def add_down(sums, turned, panels, words, column, more):
    """sums (head, width) += x^T @ b in one panel's columns, over the words between two; without `more`, =."""
    first, last = words
    b = panels.at + LINE * (column // SIDE * panels.n_words + first)
    for m in range(0, sums.shape[0], SIDE):
        to, a = at_row(sums, m, column), Matrix(turned.at + m * turned.stride + WORD * first, turned.stride)
        block_at(to, to if more else NOTHING, a, b, last - first)


@inner
def add_gradients(arrays, n_summed, group, heads):
    """dk and dv of the keys that the group sees; the first `n_summed` have sums from queries before.

    It returns how many have some now.
    """
    T, S = group.T, group.S
    n_wide = part_from(group.first, group.n_rows, SIDE, group.head, T, S, heads.causal).n_wide
    for j in range(0, n_wide, SIDE):
        # the first strip that sees the panel
        skipped = max(0, (j - (S - T) - group.first) // SIDE * WORDS) if heads.causal else 0
        words = skipped, round_up(group.n_rows, SIDE) // 2
        add_down(arrays.dk, arrays.q_turned, arrays.ds_down, words, j, j < n_summed)
        add_down(arrays.dv, arrays.dy_turned, arrays.p_down, words, j, j < n_summed)
    return max(n_summed, n_wide)


@inner
def backward_group(dq, q, dy, sums, group, arrays, heads, dropping):
    """dq of these queries, and P and dS for the gradients of keys and values."""
    first, last, K, n_columns = group.row, group.row + group.n_rows, heads.d_head, arrays.dk.shape[0]
    probs, dprobs, dscores = arrays.probs, arrays.dprobs, arrays.dscores
    queries = operand_rows(q, first, last, group.column, K, arrays.queries)
    outer = rounded_rows(dy, first, last, group.column, K, arrays.dy)
    turn(arrays.q_turned, queries, round_up(group.n_rows, SIDE), n_columns)
    turn(arrays.dy_turned, outer, round_up(group.n_rows, SIDE), n_columns)
    # 1. S = Q K^T, as in forward 1
    multiply_across(at_row(probs, 0, 0), queries, arrays.keys, group, heads, arrays.block)
    # 2. dP = dY V^T, which undoes forward 3, Y = P V
    multiply_across(at_row(dprobs, 0, 0), outer, arrays.values, group, heads, arrays.block)
    # 3. P again, and dS, which undoes forward 2, P = dropout(softmax(c S))
    for i in range(0, group.n_rows, SIDE):
        words = strip_of(arrays.p_down, i), strip_of(arrays.ds_down, i)
        scores, part = (probs[i:], dprobs[i:]), strip(group, i, heads)
        softmax_backward(dscores[i:], words, scores, sums, part, heads, dropping)
    # 4. dQ = dS K, which undoes forward 1, S = Q K^T
    to, rows = at_row(dq, group.row, group.column), at_row(dscores, 0, 0)
    multiply_down(to, rows, arrays.keys_down, group, heads, K, arrays.block)


@inner
def strip_of(panels, i):
    """The panels, from the words of query i on."""
    return Panels(panels.at + LINE * (i // 2), panels.n_words)


@kernel
def backward(dq, dk, dv, q, k, v, dy, sums, heads, dropping, scratch):
    """q, k and v are operands; dy, dq, dk and dv are float32."""
    B, H, G = heads.n_sequences, heads.n_heads, heads.n_kv_heads
    T, S, K = q.shape[0] // B, k.shape[0] // B, heads.d_head
    at = places(S, K)
    arrays = backward_arrays(scratch, at)
    configure(scratch[:CONFIG].view(np.uint8))
    for b in range(B):
        for g in range(G):
            keys = operand_rows(k, b * S, (b + 1) * S, g * K, K, arrays.copied)
            pack_across(arrays.keys, keys, at.width)
            pack_down(arrays.keys_down, keys, at.head)
            values = operand_rows(v, b * S, (b + 1) * S, g * K, K, arrays.copied)
            pack_across(arrays.values, values, at.width)
            n_summed = 0
            for h in range(g * (H // G), (g + 1) * (H // G)):
                for first in range(0, T, at.rows):
                    group = group_from(first, at.rows, b, h, T, S, heads)
                    backward_group(dq, q, dy, sums, group, arrays, heads, dropping)
                    # 5. dK += dS^T Q, which undoes forward 1, and dV += P^T dY, which undoes forward 3
                    n_summed = add_gradients(arrays, n_summed, group, heads)
            write_turned(dk, arrays.dk, b * S, g * K, (S, K), arrays.block)
            write_turned(dv, arrays.dv, b * S, g * K, (S, K), arrays.block)
    finish()
