r"""Causal attention without a T x T matrix: `ROWS` queries at a time meet all keys they may see.

The scores of so few rows stay in the second-level cache, where softmax finds each row whole; blocks of keys
that no query of the rows may see are never touched. Forward keeps each row's $\ell=\log\sum_j e^{s_j}$, from
which backward makes the probabilities again, $p_j = e^{s_j-\ell}$; a dropout mask is drawn again by counting.

Queries are (B T, H K), keys and values (B S, G K): the layouts the projections write, heads side by side.
"""

import math

import numpy as np

from handgrad.kernels.elementwise import kept
from handgrad.kernels.functions import exp, largest
from handgrad.kernels.jit import inner, kernel, reduction
from handgrad.kernels.machine import TILE_COLUMNS, TILE_ROWS
from handgrad.kernels.products import (
    EDGE,
    FLOAT,
    STEP,
    add_product,
    multiply_rows,
    pack_panels,
    pack_transposed,
)

ROWS = 24
ZERO, ONE = np.float32(0.0), np.float32(1.0)


def scratch_size(n_keys: int, d_head: int) -> int:
    """float32 numbers that `forward` and `backward` want to work in."""
    width, head_width = (-(-n // TILE_COLUMNS) * TILE_COLUMNS for n in (n_keys, d_head))
    packed = 2 * width * d_head + n_keys * head_width + 2 * ROWS * head_width
    return 2 * EDGE + packed + 3 * ROWS * width + 2 * TILE_COLUMNS


@inner
def up(n):
    """n, or the next multiple of a panel's width."""
    return (n + TILE_COLUMNS - 1) // TILE_COLUMNS * TILE_COLUMNS


@inner
def n_seen(query, T, S, causal):
    """How many of S keys a query may see; the T queries are the last positions."""
    return min(S, query + 1 + S - T) if causal else S


@reduction
def numerators(row, n, scale, top):
    """row becomes exp(scale (row - top)); its sum."""
    s = ZERO
    for j in range(n):
        e = exp((row[j] - top) * scale)
        row[j] = e
        s += e
    return s


@inner
def softmax(row, n, scale):
    """row's first n scores become probabilities; the log of their sum."""
    top = largest(row[:n])
    total = numerators(row, n, scale, top)
    factor = ONE / total
    for j in range(n):
        row[j] *= factor
    return top * scale + np.float32(math.log(total))


@inner
def drop_row(row, n, number, low, high, limit, keep_scale):
    """Dropout on a row of probabilities, the first of which is the draw's number `number`."""
    for j in range(n):
        row[j] = row[j] * keep_scale if kept(number + j, low, high, limit) else ZERO


@inner
def softmax_forward(
    probs, log_sums, n_wide, number, first, T, S, causal, scale, low, high, limit, keep_scale
):
    """Of the queries from `first`, the draw's from `number`: `probs` holds scores and becomes probabilities,
    dropped out; of its `n_wide` columns those that a query does not see become zero.
    """
    for i in range(log_sums.size):
        n = n_seen(first + i, T, S, causal)
        log_sums[i] = softmax(probs[i], n, scale)
        if limit:
            drop_row(probs[i], n, (number + i) * S, low, high, limit, keep_scale)
        probs[i, n:n_wide] = ZERO


@kernel
def forward(y, log_sums, q, k, v, B, H, G, scale, causal, low, high, limit, keep_scale, scratch):
    """y (B T, H K), and the log of each row's sum (B H T,). `limit` 0 drops nothing."""
    T, S, K = q.shape[0] // B, k.shape[0] // B, k.shape[1] // G
    width = up(S)
    q_stride, k_stride, stride = FLOAT * H * K, FLOAT * G * K, FLOAT * width
    scratch[:TILE_COLUMNS] = ZERO
    zeros = scratch.ctypes.data
    edge = zeros + FLOAT * EDGE
    keys = edge + FLOAT * EDGE
    values = keys + FLOAT * width * K
    at = 2 * EDGE + width * K + S * up(K)
    probs = scratch[at : at + ROWS * width].reshape(ROWS, width)
    p = probs.ctypes.data
    for b in range(B):
        for g in range(G):
            kv = (b * S * G + g) * K * FLOAT
            pack_transposed(keys, k.ctypes.data + kv, k_stride, S, K)
            pack_panels(values, S * STEP, v.ctypes.data + kv, k_stride, S, K)
            for h in range(g * (H // G), (g + 1) * (H // G)):
                for first in range(0, T, ROWS):
                    n_rows = min(ROWS, T - first)
                    n_keys = n_seen(first + n_rows - 1, T, S, causal)
                    n_wide = up(n_keys)
                    here = ((b * T + first) * H + h) * K * FLOAT
                    queries, out = q.ctypes.data + here, y.ctypes.data + here
                    multiply_rows(
                        p, stride, queries, q_stride, keys, K * STEP, n_rows, n_wide, K, zeros, edge
                    )
                    number = (b * H + h) * T + first
                    softmax_forward(
                        probs, log_sums[number : number + n_rows], n_wide, number, first, T, S,
                        causal, scale, low, high, limit, keep_scale,
                    )  # fmt: skip
                    multiply_rows(out, q_stride, p, stride, values, S * STEP, n_rows, K, n_keys, zeros, edge)


@reduction
def row_gradient(scores, dprobs, n, scale, log_sum):
    """scores becomes the probabilities; returns their sum with dprobs."""
    s = ZERO
    for j in range(n):
        p = exp(scores[j] * scale - log_sum)
        scores[j] = p
        s += p * dprobs[j]
    return s


@reduction
def row_gradient_dropped(scores, dprobs, dropped, n, scale, log_sum, number, low, high, limit, keep_scale):
    """The same under dropout, which dprobs passes here; `dropped` becomes what met the values."""
    s = ZERO
    for j in range(n):
        p = exp(scores[j] * scale - log_sum)
        factor = keep_scale if kept(number + j, low, high, limit) else ZERO
        scores[j] = p
        dropped[j] = p * factor
        dprobs[j] *= factor
        s += p * dprobs[j]
    return s


@inner
def softmax_backward(
    probs,
    dscores,
    dropped,
    log_sums,
    n_wide,
    number,
    first,
    T,
    S,
    causal,
    scale,
    low,
    high,
    limit,
    keep_scale,
):
    """The same backward: `probs` holds scores and becomes probabilities, `dscores` holds the gradient of
    what met the values (`dropped`) and becomes that of the scores.
    """
    for i in range(log_sums.size):
        n = n_seen(first + i, T, S, causal)
        row, drow = probs[i], dscores[i]
        if limit:
            place = (number + i) * S
            along = row_gradient_dropped(
                row, drow, dropped[i], n, scale, log_sums[i], place, low, high, limit, keep_scale
            )
            dropped[i, n:n_wide] = ZERO
        else:
            along = row_gradient(row, drow, n, scale, log_sums[i])
        for j in range(n):
            drow[j] = row[j] * (drow[j] - along) * scale
        drow[n:n_wide] = ZERO
        row[n:n_wide] = ZERO


@kernel
def backward(q, k, v, dy, log_sums, B, H, G, scale, causal, low, high, limit, keep_scale, scratch):
    """q, k and v become their gradients: a head's keys and values are packed before any is overwritten."""
    T, S, K = q.shape[0] // B, k.shape[0] // B, k.shape[1] // G
    width = up(S)
    q_stride, k_stride, stride = FLOAT * H * K, FLOAT * G * K, FLOAT * width
    scratch[:TILE_COLUMNS] = ZERO
    zeros = scratch.ctypes.data
    edge = zeros + FLOAT * EDGE
    keys_across = edge + FLOAT * EDGE
    values_across = keys_across + FLOAT * width * K
    keys_down = values_across + FLOAT * width * K
    q_rows = keys_down + FLOAT * S * up(K)
    dy_rows = q_rows + FLOAT * ROWS * up(K)
    at = 2 * EDGE + 2 * width * K + S * up(K) + 2 * ROWS * up(K)
    probs = scratch[at : at + ROWS * width].reshape(ROWS, width)
    dscores = scratch[at + ROWS * width : at + 2 * ROWS * width].reshape(ROWS, width)
    dropped = scratch[at + 2 * ROWS * width : at + 3 * ROWS * width].reshape(ROWS, width)
    if not limit:
        dropped = probs
    p, ds, pd = probs.ctypes.data, dscores.ctypes.data, dropped.ctypes.data
    for b in range(B):
        for g in range(G):
            kv = (b * S * G + g) * K * FLOAT
            dk, dv = k.ctypes.data + kv, v.ctypes.data + kv
            pack_transposed(keys_across, dk, k_stride, S, K)
            pack_transposed(values_across, dv, k_stride, S, K)
            pack_panels(keys_down, S * STEP, dk, k_stride, S, K)
            k[b * S : (b + 1) * S, g * K : (g + 1) * K] = ZERO
            v[b * S : (b + 1) * S, g * K : (g + 1) * K] = ZERO
            for h in range(g * (H // G), (g + 1) * (H // G)):
                for first in range(0, T, ROWS):
                    n_rows = min(ROWS, T - first)
                    n_keys = n_seen(first + n_rows - 1, T, S, causal)
                    n_wide = up(n_keys)
                    here = ((b * T + first) * H + h) * K * FLOAT
                    queries, outer = q.ctypes.data + here, dy.ctypes.data + here
                    panel = K * STEP
                    multiply_rows(
                        p, stride, queries, q_stride, keys_across, panel, n_rows, n_wide, K, zeros, edge
                    )
                    multiply_rows(
                        ds, stride, outer, q_stride, values_across, panel, n_rows, n_wide, K, zeros, edge
                    )
                    number = (b * H + h) * T + first
                    softmax_backward(
                        probs, dscores, dropped, log_sums[number : number + n_rows], n_wide, number, first,
                        T, S, causal, scale, low, high, limit, keep_scale,
                    )  # fmt: skip
                    pack_panels(q_rows, n_rows * STEP, queries, q_stride, n_rows, K)
                    pack_panels(dy_rows, n_rows * STEP, outer, q_stride, n_rows, K)
                    multiply_rows(
                        queries, q_stride, ds, stride, keys_down, S * STEP, n_rows, K, n_keys, zeros, edge
                    )  # dQ = dS K, where Q was
                    panel = TILE_ROWS * FLOAT
                    add_product(
                        dk, k_stride, ds, panel, stride, q_rows, n_rows * STEP, n_keys, K, n_rows, edge
                    )  # dK += dS^T Q
                    add_product(
                        dv, k_stride, pd, panel, stride, dy_rows, n_rows * STEP, n_keys, K, n_rows, edge
                    )  # dV += P^T dY
