r"""Attention of a text's rows to the positions before them, from the KV cache.

Each thread has some heads. Four queries at a time, of heads that share their keys, of rows that follow each
other, or both, meet 64 positions side by side: scores are products of few rows with a panel of keys, and what
is added up is one with a panel of values. (On tiles 32 queries meet 32 positions: `attention_tiles`. Keys and
values of 8 bits have scales: `attention_int8`.) A query's sums run over the positions in their order,
whatever queries are beside it; to positions after its own it pays no attention, exactly zero.
"""

import numpy as np

from handgrad.kernels import functions as f
from handgrad.kernels.amx import CACHE_LINE, configure, finish
from handgrad.kernels.functions import ONE, ZERO
from handgrad.kernels.jit import apart, inner
from handgrad.kernels.loss import exponentials
from handgrad.kernels.microkernel import Matrix
from handgrad.kernels.norms import normalize
from handgrad.kernels.rounding import to_bfloat16
from handgrad.kernels.vector import prefetch, prefetch_to_write, store, store_half
from handgrad.kernels.writing import attention_byte_tiles as byte_tiles
from handgrad.kernels.writing import attention_int8 as in_bytes
from handgrad.kernels.writing import attention_tiles as on_tiles
from handgrad.kernels.writing.arrays import BFLOAT16, BYTE_TILES, INT8, TILES
from handgrad.kernels.writing.products import TILE_CONFIG, share
from handgrad.kernels.writing.rotation import turn
from handgrad.kernels.writing.vectors import WIDTH, sums_bfloat16, sums_float32, sums_int8

NOT_SEEN = np.float32(-np.inf)
"""The score of a position after a query's own: its exponential is zero."""


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
        if turns:
            turn(head, head, small.cos[position], small.sin[position])
    elif turns:
        turn(head, source, small.cos[position], small.sin[position])
    else:
        for i in range(head.size):
            head[i] = source[i]


@inner
def head_of(cache, layer, text, g, settings):
    """The addresses of a head's keys and values."""
    n = (layer * cache.n_texts + text) * settings.n_kv_heads + g
    return cache.keys + n * cache.key_head, cache.values + n * cache.value_head


@inner
def is_on_tiles(cache):
    return cache.kind == TILES or cache.kind == BYTE_TILES


@inner
def size_of(cache):
    """Bytes of a number, where it lies for vectors."""
    return 1 if cache.kind == INT8 else 2 if cache.kind == BFLOAT16 else 4


@inner
def ask_for(cache, keys, values, position, K):
    """Ask for the lines that a position's key and value are written to: a cache seldom has them."""
    if cache.kind == TILES:
        on_tiles.ask_for(cache, keys, values, position, K)
        return
    if cache.kind == BYTE_TILES:
        byte_tiles.ask_for(cache, keys, values, position, K)
        return
    size = size_of(cache)
    to = keys + size * (position // WIDTH * K * WIDTH + position % WIDTH)
    for i in range(K):
        prefetch_to_write(to + size * WIDTH * i)
    for panel in range((K + WIDTH - 1) // WIDTH):
        prefetch_to_write(values + panel * cache.value_panel + size * position * WIDTH)


@inner
def remember(cache, keys, values, position, key, value, rounded):
    """Write one position's key and value into the cache."""
    if cache.kind == TILES:
        on_tiles.remember(cache, keys, values, position, key, value, rounded)
        return
    if cache.kind == BYTE_TILES:
        byte_tiles.remember(cache, keys, values, position, key, value)
        return
    if cache.kind == INT8:
        in_bytes.remember(cache, keys, values, position, key, value)
        return
    K = key.size
    size = size_of(cache)
    to = keys + size * (position // WIDTH * K * WIDTH + position % WIDTH)
    for i in range(K):
        into = values + i // WIDTH * cache.value_panel + size * (position * WIDTH + i % WIDTH)
        if cache.kind == BFLOAT16:
            store_half(to + size * WIDTH * i, to_bfloat16(key[i]))
            store_half(into, to_bfloat16(value[i]))
        else:
            store(to + size * WIDTH * i, key[i])
            store(into, value[i])


@inner
def sums(cache, at, K, left, to, n):
    """The columns of a panel of keys or values at an address."""
    if cache.kind == INT8:
        sums_int8(at, K, left, to, n)
    elif cache.kind == BFLOAT16:
        sums_bfloat16(at, K, left, to, n)
    else:
        sums_float32(at, K, left, to, n)


@inner
def score(scores, queries, cache, keys, n_seen, n):
    """scores (n, n_seen filled up) = queries keys^T"""
    K = queries.shape[1]
    panel, left = size_of(cache) * K * WIDTH, Matrix(queries.ctypes.data, queries.strides[0])
    for p in range(filled(n_seen) // WIDTH):
        to = Matrix(scores.ctypes.data + 4 * WIDTH * p, scores.strides[0])
        sums(cache, keys + p * panel, K, left, to, n)
    if cache.kind == INT8:
        in_bytes.scale(scores, keys + cache.key_scales, filled(n_seen), n)


@inner
def add_up(heads, scores, cache, values, n_seen, n):
    """heads (n, K filled up) = scores values; scores are overwritten."""
    if cache.kind == INT8:
        in_bytes.scale(scores, values + cache.value_scales, filled(n_seen), n)
    left = Matrix(scores.ctypes.data, scores.strides[0])
    for p in range(heads.shape[1] // WIDTH):
        to = Matrix(heads.ctypes.data + 4 * WIDTH * p, heads.strides[0])
        sums(cache, values + p * cache.value_panel, n_seen, left, to, n)


@inner
def filled(n):
    """n positions, filled up to whole panels."""
    return (n + WIDTH - 1) // WIDTH * WIDTH


@inner
def soften(scores, n_own):
    """The first n_own scores become their exponentials, the others zero; one divided by their sum.

    Whole panels of exponentials: what is left over by vectors would be computed number by number.
    """
    own = scores[: filled(n_own)]
    for s in range(n_own, own.size):
        own[s] = NOT_SEEN
    z = ONE / exponentials(own, f.largest(own))
    for s in range(own.size, scores.size):
        scores[s] = ZERO
    return z


@inner
def ask(query, r, h, layer, room, rows, small, settings):
    """A row's query, normalized and turned where the model does that, divided by the square root of K."""
    K = settings.d_head
    gamma, beta = small.query_norm.gamma[layer], small.query_norm.beta[layer]
    source, turns = room.wide[r, h * K : (h + 1) * K], turns_in(layer, small, settings)
    prepare(query, source, gamma, beta, turns, rows.positions[r], small, settings)
    scale = np.float32(ONE / np.sqrt(np.float32(K)))
    for j in range(K):
        query[j] *= scale


@inner
def answer(room, worker, cache, keys, values, queue, n, rows):
    """room.heads: what the n queries add up; it is to be multiplied by room.weights."""
    queries, scores, heads = room.queries[worker], room.scores[worker], room.heads[worker]
    n_seen = rows.positions[queue[n - 1, 0]] + 1  # rows are in order: the last sees the most
    score(scores, queries, cache, keys, n_seen, n)
    for i in range(n):
        room.weights[worker, i] = soften(scores[i, : filled(n_seen)], rows.positions[queue[i, 0]] + 1)
    add_up(heads, scores, cache, values, n_seen, n)


@inner
def answer_on_tiles(room, worker, cache, keys, values, queue, n, rows):
    """The same."""
    queries, scores, heads = room.rounded_queries[worker], room.scores[worker], room.heads[worker]
    numerators, n_seen = room.numerators[worker], rows.positions[queue[n - 1, 0]] + 1
    widened, spare = room.widened[worker].ctypes.data, room.tile[worker, TILE_CONFIG:].ctypes.data
    on_tiles.round_queries(queries, room.queries[worker], n)
    if cache.kind == BYTE_TILES:
        byte_tiles.score(scores, queries, cache, keys, n_seen, n, widened)
    else:
        on_tiles.score(scores, queries, keys, n_seen, n)
    for i in range(n):
        n_own = rows.positions[queue[i, 0]] + 1
        room.weights[worker, i] = on_tiles.soften(numerators[i], scores[i], n_own, n_seen)
    if cache.kind == BYTE_TILES:
        byte_tiles.add_up(heads, numerators, cache, values, n_seen, n, widened)
    else:
        on_tiles.add_up(heads, numerators, cache, values, n_seen, n, spare)


@inner
def attend(room, worker, cache, layer, g, queue, n, rows, small, settings):
    """Some queries, of (row, head) in `queue`, of one text and one key-value head."""
    K = settings.d_head
    for i in range(n):
        ask(room.queries[worker, i], queue[i, 0], queue[i, 1], layer, room, rows, small, settings)
    keys, values = head_of(cache, layer, rows.texts[queue[0, 0]], g, settings)
    if is_on_tiles(cache):
        answer_on_tiles(room, worker, cache, keys, values, queue, n, rows)
    else:
        answer(room, worker, cache, keys, values, queue, n, rows)
    for i in range(n):
        r, h, z = queue[i, 0], queue[i, 1], room.weights[worker, i]
        out, head = room.mixed[r, h * K : (h + 1) * K], room.heads[worker, i]
        for j in range(K):
            out[j] = head[j] * z


@inner
def keys_and_values(room, worker, cache, layer, g, begin, end, rows, small, settings):
    """One head's keys and values of a text's rows enter the cache."""
    K, turns = settings.d_head, turns_in(layer, small, settings)
    k, v = settings.key_column + g * K, settings.value_column + g * K
    gamma, beta = small.key_norm.gamma[layer], small.key_norm.beta[layer]
    key, rounded = room.queries[worker, 0], room.rounded_queries[worker, 0]
    keys, values = head_of(cache, layer, rows.texts[begin], g, settings)
    for r in range(begin, end):
        row, position = room.wide[r], rows.positions[r]
        prepare(key, row[k : k + K], gamma, beta, turns, position, small, settings)
        remember(cache, keys, values, position, key, row[v : v + K], rounded)


@inner
def attend_text(room, worker, cache, layer, text_rows, heads, rows, small, settings):
    """Some heads, from one to another, of a text's rows, from one to another."""
    begin, end = text_rows
    first, last = heads
    each, queue = settings.n_heads // settings.n_kv_heads, room.queue[worker]
    for g in range(first // each, (last + each - 1) // each):
        keys_and_values(room, worker, cache, layer, g, begin, end, rows, small, settings)
        first_head, n_heads = max(first, g * each), min(last, (g + 1) * each) - max(first, g * each)
        n, n_queries = 0, (end - begin) * n_heads
        for i in range(n_queries):
            queue[n, 0], queue[n, 1] = begin + i // n_heads, first_head + i % n_heads
            n += 1
            if n == queue.shape[0] or i == n_queries - 1:
                attend(room, worker, cache, layer, g, queue, n, rows, small, settings)
                n = 0


@inner
def ask_for_text(room, cache, layer, row, rows, settings):
    """Ask for the first of a text's rows, much of which other threads computed, and what it is written to."""
    if row < rows.texts.size:
        at, n = room.wide[row].ctypes.data, settings.value_column + settings.n_kv_heads * settings.d_head
        for line in range(0, 4 * n, CACHE_LINE):
            prefetch(at + line)
        for g in range(settings.n_kv_heads):
            keys, values = head_of(cache, layer, rows.texts[row], g, settings)
            ask_for(cache, keys, values, rows.positions[row], settings.d_head)


@inner
def end_of_text(rows, begin):
    """The row after the last of a text."""
    end = begin + 1
    while end < rows.texts.size and rows.texts[end] == rows.texts[begin]:
        end += 1
    return end


@inner
def n_texts_in(rows):
    n, begin = 0, 0
    while begin < rows.texts.size:
        n, begin = n + 1, end_of_text(rows, begin)
    return n


@apart
def attention(room, team, cache, layer, rows, small, settings):
    """room.mixed = this thread's heads, of some texts. The rows' keys and values enter the cache before.

    Heads are shared, text after text. Threads whose heads share keys write the same numbers.
    """
    H = settings.n_heads
    first, last = share(n_texts_in(rows) * H, team)
    if is_on_tiles(cache):
        configure(room.tile[team.worker, :TILE_CONFIG].view(np.uint8))
    begin = 0
    ask_for_text(room, cache, layer, begin, rows, settings)
    while begin < rows.texts.size and last > 0:
        end = end_of_text(rows, begin)
        if first < H:
            ask_for_text(room, cache, layer, end, rows, settings)
            heads = max(first, 0), min(last, H)
            attend_text(room, team.worker, cache, layer, (begin, end), heads, rows, small, settings)
        first, last, begin = first - H, last - H, end
    if is_on_tiles(cache):
        finish()
