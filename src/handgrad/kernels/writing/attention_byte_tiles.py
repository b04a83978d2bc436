"""Attention's products with a KV cache of 8 bits on AMX tiles: whole numbers become bfloat16, which has them.

What they are and what their scales multiply, `attention_int8` says; they lie in words of two as those of
`attention_tiles` do. Some of a panel at a time is widened into room that stays in the first cache, once for
all queries that meet it. Queries and the numerators of probabilities, the latter times the values' scales,
are rounded to bfloat16.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from handgrad.kernels.amx import CACHE_LINE, LINE, NOTHING, SIDE
from handgrad.kernels.jit import inner
from handgrad.kernels.machine import LANES
from handgrad.kernels.microkernel import Matrix
from handgrad.kernels.vector import (
    VECTOR,
    WORDS,
    at_address,
    counted_loop,
    i64,
    load_vector,
    prefetch_far,
    prefetch_to_write,
    same,
    store_byte,
)
from handgrad.kernels.vector_bfloat16 import emit_halves, store_halves
from handgrad.kernels.writing.attention_int8 import scale, scaled_numbers, whole_number
from handgrad.kernels.writing.tiles import block, filled

PART = 64
"""Words of a panel of values that are widened at a time; whole tiles."""
AHEAD = 4096
"""Bytes of a panel from what is widened to what is asked for."""


def room(K: int) -> int:
    """16-bit numbers that are widened at a time."""
    return 2 * SIDE * max(PART, K // 2)


@inner
def key_place(keys, position, K):
    """Where a position's first number is."""
    return keys + position // SIDE * SIDE * filled(K) + 2 * (position % SIDE)


@inner
def value_place(values, position):
    return values + 2 * SIDE * (position // 2) + position % 2


@inner
def remember(cache, keys, values, position, key, value):
    """Write one position's key and value into the cache."""
    K, to, into = key.size, key_place(keys, position, key.size), value_place(values, position)
    p = scaled_numbers(keys + cache.key_scales + 4 * position, key)
    for i in range(K):
        store_byte(to + 2 * SIDE * (i // 2) + i % 2, whole_number(key[i], p))
    for i in range(K, filled(K)):
        store_byte(to + 2 * SIDE * (i // 2) + i % 2, np.uint8(0))
    p = scaled_numbers(values + cache.value_scales + 4 * position, value)
    for i in range(K):
        store_byte(into + i // SIDE * cache.value_panel + 2 * (i % SIDE), whole_number(value[i], p))


@inner
def ask_for(cache, keys, values, position, K):
    """Ask for the lines that a position's key and value are written to: a cache seldom has them."""
    to, into = key_place(keys, position, K), value_place(values, position)
    for i in range(filled(K) // 2):
        prefetch_to_write(to + CACHE_LINE * i)
    for panel in range(filled(K) // SIDE):
        prefetch_to_write(into + panel * cache.value_panel)
    prefetch_to_write(keys + cache.key_scales + 4 * position)
    prefetch_to_write(values + cache.value_scales + 4 * position)


@intrinsic
def widen(typing_context: Any, to: Any, source: Any, n: Any) -> Any:
    """n whole numbers of 8 bits as bfloat16; n is a multiple of 2 LANES, `to` and `source` are addresses."""

    def emit(context: Any, builder: ir.IRBuilder, signature: Any, args: Sequence[ir.Value]) -> Any:
        to, source, n = args
        some = ir.VectorType(ir.IntType(8), LANES)

        def body(state: list[ir.Value]) -> list[ir.Value]:
            to, source = state
            parts = [builder.load(at_address(builder, source, LANES * j, some), align=1) for j in range(2)]
            floats = [builder.sitofp(builder.sext(part, WORDS), VECTOR) for part in parts]
            store_halves(builder, emit_halves(builder, *floats), to)
            return [builder.add(to, i64(4 * LANES)), builder.add(source, i64(2 * LANES))]

        counted_loop(builder, builder.udiv(n, i64(2 * LANES)), [to, source], body)
        return context.get_dummy_value()

    return types.void(*[types.int64] * 3), emit


@intrinsic
def multiply_halves(typing_context: Any, to: Any, factors: Any, n: Any) -> Any:
    """n bfloat16 numbers times float32 factors, rounded; zero stays zero, whatever the factor."""

    def emit(context: Any, builder: ir.IRBuilder, signature: Any, args: Sequence[ir.Value]) -> Any:
        to, factors, n = args
        some = ir.VectorType(ir.IntType(16), LANES)

        def body(state: list[ir.Value]) -> list[ir.Value]:
            to, factors = state
            products = []
            for j in range(2):
                halves = builder.load(at_address(builder, to, 2 * LANES * j, some), align=2)
                word = builder.shl(builder.zext(halves, WORDS), same(WORDS, 16))
                factor = load_vector(builder, factors, 4 * LANES * j)
                product = builder.fmul(builder.bitcast(word, VECTOR), factor)
                is_zero = builder.icmp_unsigned("==", word, same(WORDS, 0))
                products.append(builder.select(is_zero, same(VECTOR, 0.0), product))
            store_halves(builder, emit_halves(builder, *products), to)
            return [builder.add(to, i64(4 * LANES)), builder.add(factors, i64(8 * LANES))]

        counted_loop(builder, builder.udiv(n, i64(2 * LANES)), [to, factors], body)
        return context.get_dummy_value()

    return types.void(*[types.int64] * 3), emit


@inner
def widen_words(to, source, n_words):
    """Words of a panel; those that come later are asked for."""
    for line in range(0, 2 * SIDE * n_words, CACHE_LINE):
        prefetch_far(source + AHEAD + line)
    widen(to, source, 2 * SIDE * n_words)


@inner
def score(scores, queries, cache, keys, n_seen, n, spare):
    """scores (n, n_seen filled up) = queries keys^T; `spare` is the address of `room`."""
    n_words = queries.shape[1] // 2
    left = Matrix(queries.ctypes.data, queries.strides[0])
    for p in range(filled(n_seen) // SIDE):
        widen_words(spare, keys + p * 2 * SIDE * n_words, n_words)
        block(Matrix(scores.ctypes.data + LINE * p, scores.strides[0]), NOTHING, left, spare, n_words, n)
    scale(scores, keys + cache.key_scales, filled(n_seen), n)


@inner
def add_up(heads, numerators, cache, values, n_seen, n, spare):
    """heads (n, K filled up) = numerators values; numerators are overwritten.

    Positions after a query's own have numerators of zero, and values that are whole numbers, whatever they
    are: what stands there adds nothing.
    """
    n_words = filled(n_seen) // 2
    for i in range(n):
        multiply_halves(numerators[i].ctypes.data, values + cache.value_scales, 2 * n_words)
    for p in range(heads.shape[1] // SIDE):
        to = Matrix(heads.ctypes.data + LINE * p, heads.strides[0])
        for k in range(0, n_words, PART):
            some = min(PART, n_words - k)
            widen_words(spare, values + p * cache.value_panel + 2 * SIDE * k, some)
            left = Matrix(numerators.ctypes.data + 4 * k, numerators.strides[0])
            block(to, to if k else NOTHING, left, spare, some, n)
