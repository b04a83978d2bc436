r"""Attention by bfloat16 products: what `attention` does, `SIDE` queries at a time.

The operands of its products are rounded: Q, K, V and dY, the probabilities where they meet the values, and
the gradient of the scores. Scores, softmax, its backward and all sums stay float32.

A head's keys and values become words (see `amx`) once for all queries. Their gradients are summed in scratch,
over the queries of every head that shares them, and then written into keys and values. The passes have the
numbers of `attention`.
"""

from typing import NamedTuple

import numpy as np

from handgrad.kernels.amx import SIDE, WORDS, configure, finish, multiply_block
from handgrad.kernels.arena import round_up
from handgrad.kernels.attention import part_from, softmax_backward, softmax_forward
from handgrad.kernels.jit import inner, kernel, shared
from handgrad.kernels.products_bfloat16 import BLOCK, CONFIG, pair_columns, pair_rows, transpose_words

ZERO = np.float32(0.0)


class Places(NamedTuple):
    """Where arrays begin in scratch, in 32-bit numbers; `width` is S and `head` d_head, in whole tiles."""

    block: int
    """(SIDE, SIDE)"""
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
    """(SIDE, head / 2 words): rows of Q, or of dY."""
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
    """(SIDE, width / 2 words): P (forward) or dS (backward), rounded."""
    upright: int
    """(WORDS, width): their columns, in words along the queries."""
    turned: int
    """The same, transposed."""
    end: int


@shared
def places(n_keys, d_head):
    """The one description of scratch: its size, and its use by both kernels."""
    width, head = round_up(n_keys, SIDE), round_up(d_head, SIDE)
    block = CONFIG
    keys_across = block + BLOCK
    values_across = keys_across + width * head // 2
    down = values_across + width * head // 2
    dk = down + width * head // 2
    dv = dk + width * head
    queries = dv + width * head
    q_down = queries + WORDS * head
    dy_down = q_down + WORDS * head
    probs = dy_down + WORDS * head
    dscores = probs + SIDE * width
    dropped = dscores + SIDE * width
    rows = dropped + SIDE * width
    upright = rows + WORDS * width
    turned = upright + WORDS * width
    return Places(
        block, keys_across, values_across, down, dk, dv, queries, q_down, dy_down, probs, dscores, dropped,
        rows, upright, turned, turned + WORDS * width,
    )  # fmt: skip


def scratch_size(n_keys: int, d_head: int) -> int:
    """32-bit numbers that `forward` and `backward` work in."""
    return places(n_keys, d_head).end


@inner
def numbers(scratch, start, n_rows, n_columns):
    """The array (n_rows, n_columns) that begins there."""
    return scratch[start : start + n_rows * n_columns].reshape(n_rows, n_columns)


@inner
def words(scratch, start, n_rows, n_columns):
    """The same of words."""
    return numbers(scratch, start, n_rows, n_columns).view(np.uint32)


@inner
def panels(scratch, start, n_panels, n_words):
    """The same of panels: blocks of words, `SIDE` wide."""
    end = start + n_panels * n_words * SIDE
    return scratch[start:end].view(np.uint32).reshape(n_panels, n_words, SIDE)


@inner
def pair_block(target, x, first, last, column, K):
    """target (SIDE, words) = rows `first` to `last` of a head, paired along the head; then rows of zeros."""
    for i in range(SIDE):
        if first + i < last:
            pair_columns(target[i], x[first + i, column : column + K])
        else:
            target[i, :] = np.uint32(0)


@inner
def pack_across(target, x, column, K, work):
    """Panels to multiply by x^T, summing over the head."""
    for panel in range(target.shape[0]):
        pair_block(work, x, panel * SIDE, x.shape[0], column, K)
        transpose_words(target[panel], work)


@inner
def pack_down(target, x, column):
    """Panels to multiply by x, summing over its rows. Columns after the head's last are not its own: they
    become columns of a product that nobody reads."""
    for panel in range(target.shape[0]):
        pair_rows(target[panel], x, column + panel * SIDE, SIDE)


@inner
def multiply(out, a, b, n_words, block):
    """out = a @ b for some rows and all K columns of one head, summed over `n_words` words."""
    n_rows, K = out.shape
    for panel in range(b.shape[0]):
        multiply_block(block, a, b[panel, :n_words], False)
        start = panel * SIDE
        width = min(SIDE, K - start)
        for i in range(n_rows):
            out[i, start : start + width] = block[i, :width]


@inner
def multiply_across(out, n_panels, a, b):
    """out (SIDE, n_panels SIDE) = a @ b."""
    for panel in range(n_panels):
        multiply_block(out[:, panel * SIDE : (panel + 1) * SIDE], a, b[panel], False)


@inner
def add_down(sums, x, upright, turned, n_wide, b):
    """sums += x^T @ b, where x holds `SIDE` rows of n_wide numbers; `upright` and `turned` are worked in."""
    pairs = upright[: WORDS * n_wide].reshape(WORDS, n_wide)
    a = turned[: WORDS * n_wide].reshape(n_wide, WORDS)
    pair_rows(pairs, x, 0, n_wide)  # words lie along the sum, here over queries: down x's columns
    transpose_words(a, pairs)
    for row in range(0, n_wide, SIDE):
        for panel in range(b.shape[0]):
            column = panel * SIDE
            to = sums[row : row + SIDE, column : column + SIDE]
            multiply_block(to, a[row : row + SIDE], b[panel], True)


@kernel
def forward(y, sums, q, k, v, heads, dropping, scratch):
    """y (B T, H K); `sums` (B H T, 2) is what `backward` needs of each row of scores."""
    B, H, G = heads.n_sequences, heads.n_heads, heads.n_kv_heads
    T, S, K = q.shape[0] // B, k.shape[0] // B, k.shape[1] // G
    width, head, at = round_up(S, SIDE), round_up(K, SIDE), places(S, K)
    configure(scratch[:CONFIG].view(np.uint8))
    block = numbers(scratch, at.block, SIDE, SIDE)
    keys = panels(scratch, at.keys_across, width // SIDE, head // 2)
    values = panels(scratch, at.down, head // SIDE, width // 2)
    queries = words(scratch, at.queries, SIDE, head // 2)
    probs = numbers(scratch, at.probs, SIDE, width)
    p_rows = words(scratch, at.rows, SIDE, width // 2)
    for b in range(B):
        for g in range(G):
            pack_across(keys, k[b * S : (b + 1) * S], g * K, K, queries)
            pack_down(values, v[b * S : (b + 1) * S], g * K)
            for h in range(g * (H // G), (g + 1) * (H // G)):
                for first in range(0, T, SIDE):
                    part = part_from(first, SIDE, SIDE, b * H + h, T, S, heads.causal)
                    row, n_words = b * T + first, part.n_wide // 2
                    # 1. S = Q K^T
                    pair_block(queries, q, row, row + part.n_rows, h * K, K)
                    multiply_across(probs, part.n_wide // SIDE, queries, keys)
                    # 2. P = dropout(softmax(c S))
                    softmax_forward(probs, sums, part, heads, dropping)
                    # 3. Y = P V
                    for i in range(part.n_rows):
                        pair_columns(p_rows[i, :n_words], probs[i, : part.n_wide])
                    to = y[row : row + part.n_rows, h * K : (h + 1) * K]
                    multiply(to, p_rows, values, n_words, block)
    finish()


@kernel
def backward(q, k, v, dy, sums, heads, dropping, scratch):
    """q, k and v become their gradients: what is needed of them is packed before they are overwritten."""
    B, H, G = heads.n_sequences, heads.n_heads, heads.n_kv_heads
    T, S, K = q.shape[0] // B, k.shape[0] // B, k.shape[1] // G
    width, head, at = round_up(S, SIDE), round_up(K, SIDE), places(S, K)
    configure(scratch[:CONFIG].view(np.uint8))
    block = numbers(scratch, at.block, SIDE, SIDE)
    keys_across = panels(scratch, at.keys_across, width // SIDE, head // 2)
    values_across = panels(scratch, at.values_across, width // SIDE, head // 2)
    keys_down = panels(scratch, at.down, head // SIDE, width // 2)
    dk, dv = numbers(scratch, at.dk, width, head), numbers(scratch, at.dv, width, head)
    queries = words(scratch, at.queries, SIDE, head // 2)
    q_down = panels(scratch, at.q_down, head // SIDE, WORDS)
    dy_down = panels(scratch, at.dy_down, head // SIDE, WORDS)
    probs = numbers(scratch, at.probs, SIDE, width)
    dscores = numbers(scratch, at.dscores, SIDE, width)
    met = numbers(scratch, at.dropped if dropping.limit else at.probs, SIDE, width)
    ds_rows = words(scratch, at.rows, SIDE, width // 2)
    upright = words(scratch, at.upright, 1, WORDS * width)[0]
    turned = words(scratch, at.turned, 1, WORDS * width)[0]
    for b in range(B):
        keys, values = k[b * S : (b + 1) * S], v[b * S : (b + 1) * S]
        for g in range(G):
            column = g * K
            pack_across(keys_across, keys, column, K, queries)
            pack_across(values_across, values, column, K, queries)
            pack_down(keys_down, keys, column)
            dk[:] = ZERO
            dv[:] = ZERO
            for h in range(g * (H // G), (g + 1) * (H // G)):
                for first in range(0, T, SIDE):
                    part = part_from(first, SIDE, SIDE, b * H + h, T, S, heads.causal)
                    row, last, n_words = b * T + first, b * T + first + part.n_rows, part.n_wide // 2
                    # 1. S = Q K^T, as in forward 1
                    pair_block(queries, q, row, last, h * K, K)
                    multiply_across(probs, part.n_wide // SIDE, queries, keys_across)
                    pack_down(q_down, q[row:last], h * K)
                    # 2. dP = dY V^T, which undoes forward 3, Y = P V
                    pair_block(queries, dy, row, last, h * K, K)
                    multiply_across(dscores, part.n_wide // SIDE, queries, values_across)
                    pack_down(dy_down, dy[row:last], h * K)
                    # 3. P again, and dS, which undoes forward 2, P = dropout(softmax(c S))
                    softmax_backward(probs, dscores, met, sums, part, heads, dropping)
                    # 4. dQ = dS K, in the place of Q, and dK += dS^T Q, which undo forward 1, S = Q K^T
                    for i in range(part.n_rows):
                        pair_columns(ds_rows[i, :n_words], dscores[i, : part.n_wide])
                    multiply(q[row:last, h * K : (h + 1) * K], ds_rows, keys_down, n_words, block)
                    add_down(dk, dscores[: part.n_rows], upright, turned, part.n_wide, q_down)
                    # 5. dV += P^T dY, which undoes forward 3, Y = P V
                    add_down(dv, met[: part.n_rows], upright, turned, part.n_wide, dy_down)
            keys[:, column : column + K] = dk[:S, :K]
            values[:, column : column + K] = dv[:S, :K]
    finish()
