r"""Attention by bfloat16 products: what `attention` does, `SIDE` queries at a time.

Rounded are the operands of its six products: Q, K, V and dY, the probabilities where they meet the values,
and the gradient of the scores. Scores, softmax, its backward and all sums stay float32.

A head's keys and values become words (see `amx`) once for all queries. Their gradients are summed in scratch,
over the queries of every head that shares them, and then take the places of keys and values.
"""

import numpy as np

from handgrad.kernels.amx import SIDE, WORDS, configure, finish, multiply_block
from handgrad.kernels.attention import n_seen, softmax_backward, softmax_forward
from handgrad.kernels.jit import inner, kernel
from handgrad.kernels.products_bfloat16 import BLOCK, CONFIG, pair_columns, pair_rows, transpose_words

ZERO = np.float32(0.0)


def scratch_size(n_keys: int, d_head: int) -> int:
    """32-bit numbers that `forward` and `backward` want to work in."""
    width, head_width = (-(-n // SIDE) * SIDE for n in (n_keys, d_head))
    head = width * head_width
    packed, sums, queries = 3 * (head // 2), 2 * head, 3 * WORDS * head_width
    return CONFIG + BLOCK + packed + sums + queries + 3 * SIDE * width + 3 * WORDS * width


@inner
def up(n):
    """n, or the next multiple of a tile's side."""
    return (n + SIDE - 1) // SIDE * SIDE


@inner
def numbers(scratch, start, n_rows, n_columns):
    """An array in scratch, and where the next one starts."""
    end = start + n_rows * n_columns
    return scratch[start:end].reshape(n_rows, n_columns), end


@inner
def words(scratch, start, n_rows, n_columns):
    """The same of words."""
    array, end = numbers(scratch, start, n_rows, n_columns)
    return array.view(np.uint32), end


@inner
def panels(scratch, start, n_panels, n_words):
    """The same of panels: blocks of words, `SIDE` wide."""
    end = start + n_panels * n_words * SIDE
    return scratch[start:end].view(np.uint32).reshape(n_panels, n_words, SIDE), end


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
def multiply(out, first, n_rows, column, K, a, b, n_words, block):
    """`n_rows` rows of a head in `out` = a @ b, summed over `n_words` words."""
    for panel in range(b.shape[0]):
        multiply_block(block, a, b[panel, :n_words], False)
        start = column + panel * SIDE
        width = min(SIDE, K - panel * SIDE)
        for i in range(n_rows):
            out[first + i, start : start + width] = block[i, :width]


@inner
def multiply_across(out, n_panels, a, b):
    """out (SIDE, n_panels SIDE) = a @ b."""
    for panel in range(n_panels):
        multiply_block(out[:, panel * SIDE : (panel + 1) * SIDE], a, b[panel], False)


@inner
def add_down(sums, x, pairs, across, n_wide, b):
    """sums += x^T @ b, where x holds `SIDE` rows of n_wide numbers; `pairs` and `across` are worked in."""
    upright = pairs[: WORDS * n_wide].reshape(WORDS, n_wide)
    a = across[: WORDS * n_wide].reshape(n_wide, WORDS)
    pair_rows(upright, x, 0, n_wide)
    transpose_words(a, upright)
    for row in range(0, n_wide, SIDE):
        for panel in range(b.shape[0]):
            column = panel * SIDE
            to = sums[row : row + SIDE, column : column + SIDE]
            multiply_block(to, a[row : row + SIDE], b[panel], True)


@kernel
def forward(y, log_sums, q, k, v, B, H, G, scale, causal, low, high, limit, keep_scale, scratch):
    """y (B T, H K), and the log of each row's sum (B H T,). `limit` 0 drops nothing."""
    T, S, K = q.shape[0] // B, k.shape[0] // B, k.shape[1] // G
    width, head_width = up(S), up(K)
    configure(scratch[:CONFIG].view(np.uint8))
    block, at = numbers(scratch, CONFIG, SIDE, SIDE)
    keys, at = panels(scratch, at, width // SIDE, head_width // 2)
    values, at = panels(scratch, at, head_width // SIDE, width // 2)
    queries, at = words(scratch, at, SIDE, head_width // 2)
    probs, at = numbers(scratch, at, SIDE, width)
    probs_words, at = words(scratch, at, SIDE, width // 2)
    for b in range(B):
        for g in range(G):
            pack_across(keys, k[b * S : (b + 1) * S], g * K, K, queries)
            pack_down(values, v[b * S : (b + 1) * S], g * K)
            for h in range(g * (H // G), (g + 1) * (H // G)):
                for first in range(0, T, SIDE):
                    n_rows = min(SIDE, T - first)
                    n_wide = up(n_seen(first + n_rows - 1, T, S, causal))
                    row = b * T + first
                    pair_block(queries, q, row, row + n_rows, h * K, K)
                    multiply_across(probs, n_wide // SIDE, queries, keys)
                    number = (b * H + h) * T + first
                    softmax_forward(
                        probs, log_sums[number : number + n_rows], n_wide, number, first, T, S,
                        causal, scale, low, high, limit, keep_scale,
                    )  # fmt: skip
                    for i in range(n_rows):
                        pair_columns(probs_words[i, : n_wide // 2], probs[i, :n_wide])
                    multiply(y, row, n_rows, h * K, K, probs_words, values, n_wide // 2, block)
    finish()


@kernel
def backward(q, k, v, dy, log_sums, B, H, G, scale, causal, low, high, limit, keep_scale, scratch):
    """q, k and v become their gradients: what is needed of them is packed before they are overwritten."""
    T, S, K = q.shape[0] // B, k.shape[0] // B, k.shape[1] // G
    width, head_width = up(S), up(K)
    configure(scratch[:CONFIG].view(np.uint8))
    block, at = numbers(scratch, CONFIG, SIDE, SIDE)
    keys_across, at = panels(scratch, at, width // SIDE, head_width // 2)
    values_across, at = panels(scratch, at, width // SIDE, head_width // 2)
    keys_down, at = panels(scratch, at, head_width // SIDE, width // 2)
    dk, at = numbers(scratch, at, width, head_width)
    dv, at = numbers(scratch, at, width, head_width)
    queries, at = words(scratch, at, SIDE, head_width // 2)
    q_down, at = panels(scratch, at, head_width // SIDE, WORDS)
    dy_down, at = panels(scratch, at, head_width // SIDE, WORDS)
    probs, at = numbers(scratch, at, SIDE, width)
    dscores, at = numbers(scratch, at, SIDE, width)
    dropped, at = numbers(scratch, at, SIDE, width)
    scores_words, at = words(scratch, at, SIDE, width // 2)
    flat, at = words(scratch, at, 1, WORDS * width)
    turned, at = words(scratch, at, 1, WORDS * width)
    pairs, across = flat[0], turned[0]
    if not limit:
        dropped = probs
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
                    n_rows = min(SIDE, T - first)
                    n_wide = up(n_seen(first + n_rows - 1, T, S, causal))
                    row = b * T + first
                    pair_block(queries, q, row, row + n_rows, h * K, K)
                    multiply_across(probs, n_wide // SIDE, queries, keys_across)
                    pack_down(q_down, q[row : row + n_rows], h * K)
                    pair_block(queries, dy, row, row + n_rows, h * K, K)
                    multiply_across(dscores, n_wide // SIDE, queries, values_across)
                    pack_down(dy_down, dy[row : row + n_rows], h * K)
                    number = (b * H + h) * T + first
                    softmax_backward(
                        probs, dscores, dropped, log_sums[number : number + n_rows], n_wide, number, first,
                        T, S, causal, scale, low, high, limit, keep_scale,
                    )  # fmt: skip
                    for i in range(n_rows):
                        pair_columns(scores_words[i, : n_wide // 2], dscores[i, :n_wide])
                    multiply(q, row, n_rows, h * K, K, scores_words, keys_down, n_wide // 2, block)
                    add_down(dk, dscores[:n_rows], pairs, across, n_wide, q_down)
                    add_down(dv, dropped[:n_rows], pairs, across, n_wide, dy_down)
            keys[:, column : column + K] = dk[:S, :K]
            values[:, column : column + K] = dv[:S, :K]
    finish()
