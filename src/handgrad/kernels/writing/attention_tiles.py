"""Attention's products with a KV cache of bfloat16 on AMX tiles: up to 32 queries of a text at once, or one.

What products sum over lies in words of two numbers that follow each other: keys (S / 32, K / 2, 32) in words
of two components, values (K / 32, S / 2, 32) in words of two positions; K is filled up with zeros to whole
tiles. Queries and the numerators of their probabilities are rounded as well. Sums run over whole tiles of
positions: where the last is not full, its values are copied with zeros behind, so that a query meets the same
numbers whatever stands, or stood, behind its own.
"""

import numpy as np

from handgrad.kernels import functions as f
from handgrad.kernels.amx import LINE, NOTHING, WORDS
from handgrad.kernels.functions import ONE, ZERO
from handgrad.kernels.jit import inner
from handgrad.kernels.loss import exponentials
from handgrad.kernels.microkernel import Matrix
from handgrad.kernels.rounding import to_bfloat16
from handgrad.kernels.vector import bits, from_bits, load, prefetch_to_write, store, store_half
from handgrad.kernels.vector_rows import copy_along, round_along
from handgrad.kernels.writing.tiles import SIDE, block, filled

MOST_ROWS = SIDE
"""Queries at a time."""
LOWER_HALF = np.uint32(0xFFFF)


@inner
def key_place(keys, position, K):
    """Where a position's first word is; the others are `LINE` bytes apart."""
    return keys + position // SIDE * (LINE * (filled(K) // 2)) + 4 * (position % SIDE)


@inner
def value_place(values, position):
    """Where a position's half of the first word is; the others follow, `SIDE` in a panel."""
    return values + LINE * (position // 2) + 2 * (position % 2)


@inner
def remember(cache, keys, values, position, key, value):
    """Write one position's key and value into the cache."""
    K = key.size
    to, into = key_place(keys, position, K), value_place(values, position)
    for i in range(K):
        store_half(to + LINE * (i // 2) + 2 * (i % 2), to_bfloat16(key[i]))
        store_half(into + i // SIDE * cache.value_panel + 4 * (i % SIDE), to_bfloat16(value[i]))
    for i in range(K, filled(K)):
        store_half(to + LINE * (i // 2) + 2 * (i % 2), to_bfloat16(ZERO))


@inner
def ask_for(cache, keys, values, position, K):
    """Ask for the lines that a position's key and value are written to: a cache seldom has them."""
    to, into = key_place(keys, position, K), value_place(values, position)
    for i in range(filled(K) // 2):
        prefetch_to_write(to + LINE * i)
    for panel in range(filled(K) // SIDE):
        prefetch_to_write(into + panel * cache.value_panel)
        prefetch_to_write(into + panel * cache.value_panel + LINE // 2)


@inner
def round_queries(rounded, queries, n):
    K = queries.shape[1]
    for i in range(n):
        round_along(rounded[i].ctypes.data, queries[i].ctypes.data, K, rounded.shape[1], ONE)


@inner
def score(scores, queries, keys, n_seen, n):
    """scores (n, n_seen filled up) = queries keys^T"""
    n_words = queries.shape[1] // 2
    left = Matrix(queries.ctypes.data, queries.strides[0])
    for p in range((n_seen + SIDE - 1) // SIDE):
        to = Matrix(scores.ctypes.data + LINE * p, scores.strides[0])
        block(to, NOTHING, left, keys + p * LINE * n_words, n_words, n)


@inner
def soften(numerators, scores, n_own, n_seen):
    """The exponentials of the first n_own scores, rounded; zeros for the others; one divided by their sum."""
    own = scores[:n_own]
    z = ONE / exponentials(own, f.largest(own))
    round_along(numerators.ctypes.data, own.ctypes.data, n_own, filled(n_seen), ONE)
    return z


@inner
def copy_seen(to, values, n_seen):
    """The values of a tile's first n_seen positions, and zeros for the others."""
    n_words = (n_seen + 1) // 2
    copy_along(to, values, 2 * SIDE * n_words, 2 * SIDE * WORDS, ONE)
    if n_seen % 2:
        last = to + LINE * (n_words - 1)
        for word in range(last, last + LINE, 4):
            store(word, from_bits(np.uint32(bits(load(word)) & LOWER_HALF)))


@inner
def add_up(heads, numerators, cache, values, n_seen, n, spare):
    """heads (n, K filled up) = numerators values; `spare` is the address of a tile's two halves."""
    n_whole, n_left = n_seen // SIDE * WORDS, n_seen % SIDE
    left = Matrix(numerators.ctypes.data, numerators.strides[0])
    for p in range(heads.shape[1] // SIDE):
        to, panel = Matrix(heads.ctypes.data + LINE * p, heads.strides[0]), values + p * cache.value_panel
        block(to, NOTHING, left, panel, n_whole, n)
        if n_left:
            copy_seen(spare, panel + LINE * n_whole, n_left)
            rest = Matrix(left.at + 4 * n_whole, left.stride)
            block(to, to, rest, spare, WORDS, n)
