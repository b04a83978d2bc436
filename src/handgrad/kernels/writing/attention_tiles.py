"""Attention's products with a KV cache of bfloat16 on AMX tiles: up to 32 queries of a text at once, or one.

What products sum over lies in words of two numbers that follow each other: keys (S / 32, K / 2, 32) in words
of two components, values (K / 32, S / 2, 32) in words of two positions; K is filled up with zeros to whole
tiles. Queries and the numerators of their probabilities are rounded as well. Sums run over whole tiles of
positions: where the last is not full, its values are copied with zeros behind, so that a query meets the same
numbers whatever stands, or stood, behind its own.
"""

import numpy as np

from handgrad.kernels.amx import LINE, NOTHING, WORDS
from handgrad.kernels.functions import ONE, ZERO
from handgrad.kernels.jit import inner
from handgrad.kernels.machine import LANES
from handgrad.kernels.microkernel import Matrix
from handgrad.kernels.softmax_bfloat16 import exponentials, largest
from handgrad.kernels.softmax_steps import INVERSE_LN2
from handgrad.kernels.vector import bits, from_bits, load, prefetch_to_write, store
from handgrad.kernels.vector_moves import move, move_word, store_every_other
from handgrad.kernels.vector_rows import round_along
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
def remember(cache, keys, values, position, key, value, rounded):
    """Write one position's key and value into the cache; `rounded` has room for one of them."""
    K, at = key.size, rounded.ctypes.data
    to, into = key_place(keys, position, K), value_place(values, position - position % 2)
    round_along(at, key.ctypes.data, K, filled(K), ONE)
    for word in range(filled(K) // 2):
        move_word(to + LINE * word, at + 4 * word)
    round_along(at, value.ctypes.data, K, filled(K), ONE)
    for i in range(0, filled(K), LANES):
        panel = into + i // SIDE * cache.value_panel
        store_every_other(panel + 4 * (i % SIDE), at + 2 * i, position % 2)


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
    places, size = (numerators.ctypes.data, scores.ctypes.data), (filled(n_seen) // SIDE, n_own)
    top = largest(scores.ctypes.data, (n_own + SIDE - 1) // SIDE, n_own)
    return ONE / exponentials(places, size, (INVERSE_LN2, top), 0, 0)


@inner
def copy_seen(to, values, n_seen):
    """The values of a tile's first n_seen positions, and zeros for the others."""
    n_words = (n_seen + 1) // 2
    for at in range(0, LINE * n_words, 4 * LANES):
        move(to + at, values + at)
    for at in range(LINE * n_words, LINE * WORDS, 4):
        store(to + at, ZERO)
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
