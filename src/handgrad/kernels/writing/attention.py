r"""Attention of a text's rows to the positions before them, from the KV cache.

Each thread has some heads. Four queries at a time, of heads that share their keys, of rows that follow each
other, or both, meet 64 positions side by side: scores are products of few rows with a panel of keys, and what
is added up is one with a panel of values. A query's sums run over the positions in their order, whatever
queries are beside it; to positions after its own it pays no attention, exactly zero.
"""

import numpy as np

from handgrad.kernels import functions as f
from handgrad.kernels.functions import ONE, ZERO
from handgrad.kernels.jit import apart, inner
from handgrad.kernels.loss import exponentials
from handgrad.kernels.microkernel import Matrix
from handgrad.kernels.norms import normalize
from handgrad.kernels.rounding import to_bfloat16
from handgrad.kernels.vector import prefetch_to_write, store, store_half
from handgrad.kernels.writing.products import share
from handgrad.kernels.writing.vectors import MOST_ROWS, WIDTH, sums_bfloat16, sums_float32


@inner
def turn(x, cos, sin):
    """Rotate neighbouring components of one head."""
    for i in range(cos.size):
        even, odd = x[2 * i], x[2 * i + 1]
        x[2 * i], x[2 * i + 1] = even * cos[i] - odd * sin[i], even * sin[i] + odd * cos[i]


@inner
def turns_in(layer, small, settings):
    """Whether a layer turns its queries and keys."""
    every = settings.unturned_every
    return small.cos.size > 0 and not (every > 0 and (layer + 1) % every == 0)


@inner
def prepare(head, source, gamma, beta, turns, position, small, settings):
    """One head of queries or keys, normalized and turned where the model does that."""
    if gamma.size:
        normalize(head, source, gamma, beta, settings.eps, False)
    else:
        for i in range(head.size):
            head[i] = source[i]
    if turns:
        turn(head, small.cos[position], small.sin[position])


@inner
def head_of(cache, layer, text, g, settings):
    """The addresses of a head's keys and values."""
    n = (layer * cache.n_texts + text) * settings.n_kv_heads + g
    return cache.keys + n * cache.key_head, cache.values + n * cache.value_head


@inner
def ask_for(cache, keys, values, position, K):
    """Ask for the lines that a position's key and value are written to: a cache seldom has them."""
    size = 2 if cache.narrow else 4
    to = keys + size * (position // WIDTH * K * WIDTH + position % WIDTH)
    for i in range(K):
        prefetch_to_write(to + size * WIDTH * i)
    for panel in range((K + WIDTH - 1) // WIDTH):
        prefetch_to_write(values + panel * cache.value_panel + size * position * WIDTH)


@inner
def remember(cache, keys, values, position, key, value):
    """Write one position's key and value into the cache."""
    K = key.size
    size = 2 if cache.narrow else 4
    to = keys + size * (position // WIDTH * K * WIDTH + position % WIDTH)
    for i in range(K):
        into = values + i // WIDTH * cache.value_panel + size * (position * WIDTH + i % WIDTH)
        if cache.narrow:
            store_half(to + size * WIDTH * i, to_bfloat16(key[i]))
            store_half(into, to_bfloat16(value[i]))
        else:
            store(to + size * WIDTH * i, key[i])
            store(into, value[i])


@inner
def score(scores, queries, cache, keys, n_seen, n):
    """scores (n, n_seen filled up) = queries keys^T"""
    K = queries.shape[1]
    panel = (2 if cache.narrow else 4) * K * WIDTH
    left = Matrix(queries.ctypes.data, queries.strides[0])
    for p in range((n_seen + WIDTH - 1) // WIDTH):
        to = Matrix(scores.ctypes.data + 4 * WIDTH * p, scores.strides[0])
        if cache.narrow:
            sums_bfloat16(keys + p * panel, K, left, to, n)
        else:
            sums_float32(keys + p * panel, K, left, to, n)


@inner
def add_up(heads, scores, cache, values, n_seen, n):
    """heads (n, K filled up) = scores values"""
    left = Matrix(scores.ctypes.data, scores.strides[0])
    for p in range(heads.shape[1] // WIDTH):
        to = Matrix(heads.ctypes.data + 4 * WIDTH * p, heads.strides[0])
        if cache.narrow:
            sums_bfloat16(values + p * cache.value_panel, n_seen, left, to, n)
        else:
            sums_float32(values + p * cache.value_panel, n_seen, left, to, n)


@inner
def soften(scores, n_own):
    """The first n_own scores become their exponentials, the others zero; one divided by their sum."""
    own = scores[:n_own]
    z = ONE / exponentials(own, f.largest(own))
    for s in range(n_own, scores.size):
        scores[s] = ZERO
    return z


@inner
def attend(room, team, cache, layer, g, queue, n, rows, small, settings):
    """Up to four queries, of (row, head) in `queue`, of one text and one key-value head."""
    K, w = settings.d_head, team.worker
    queries, scores, heads = room.queries[w], room.scores[w], room.heads[w]
    gamma, beta = small.query_norm.gamma[layer], small.query_norm.beta[layer]
    scale, turns = np.float32(ONE / np.sqrt(np.float32(K))), turns_in(layer, small, settings)
    for i in range(n):
        r, h = queue[i, 0], queue[i, 1]
        query = queries[i]
        prepare(
            query, room.wide[r, h * K : (h + 1) * K], gamma, beta, turns, rows.positions[r], small, settings
        )
        for j in range(K):
            query[j] *= scale
    n_seen = rows.positions[queue[n - 1, 0]] + 1  # rows are in order: the last sees the most
    keys, values = head_of(cache, layer, rows.texts[queue[0, 0]], g, settings)
    score(scores, queries, cache, keys, n_seen, n)
    for i in range(n):
        room.weights[w, i] = soften(scores[i, :n_seen], rows.positions[queue[i, 0]] + 1)
    add_up(heads, scores, cache, values, n_seen, n)
    for i in range(n):
        r, h, z = queue[i, 0], queue[i, 1], room.weights[w, i]
        out, head = room.mixed[r, h * K : (h + 1) * K], heads[i]
        for j in range(K):
            out[j] = head[j] * z


@apart
def attention(room, team, cache, layer, n_rows, rows, small, settings):
    """room.mixed = this thread's heads of all rows. The rows' keys and values enter the cache before.

    Threads whose heads share keys write the same numbers to the same places.
    """
    H, G, K = settings.n_heads, settings.n_kv_heads, settings.d_head
    first, last = share(H, team)
    each, turns = H // G, turns_in(layer, small, settings)
    queue, key = room.queue[team.worker], room.queries[team.worker, 0]
    for g in range(first // each, (last + each - 1) // each):
        k, v = settings.key_column + g * K, settings.value_column + g * K
        gamma, beta = small.key_norm.gamma[layer], small.key_norm.beta[layer]
        for r in range(n_rows):
            keys, values = head_of(cache, layer, rows.texts[r], g, settings)
            ask_for(cache, keys, values, rows.positions[r], K)
        for r in range(n_rows):
            row, position = room.wide[r], rows.positions[r]
            keys, values = head_of(cache, layer, rows.texts[r], g, settings)
            prepare(key, row[k : k + K], gamma, beta, turns, position, small, settings)
            remember(cache, keys, values, position, key, row[v : v + K])
        first_head, n_heads = max(first, g * each), min(last, (g + 1) * each) - max(first, g * each)
        n = 0
        for i in range(n_rows * n_heads):
            r, is_last = i // n_heads, i == n_rows * n_heads - 1
            queue[n, 0], queue[n, 1] = r, first_head + i % n_heads
            n += 1
            if n == MOST_ROWS or is_last or rows.texts[(i + 1) // n_heads] != rows.texts[r]:
                attend(room, team, cache, layer, g, queue, n, rows, small, settings)
                n = 0
