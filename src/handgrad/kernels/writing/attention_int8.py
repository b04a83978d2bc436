r"""Attention with a KV cache of 8 bits: whole numbers, and a float32 scale for each key and each value.

A head's key or value x becomes

$$q = \operatorname{round}(x / s),\qquad s = \max|x| / 127,\qquad |x - s q| \le s / 2$$

Keys are quantized after they are turned. Since a scale belongs to a position, it leaves the sums over
components: a score is $s_k \sum_i x_i q_i$. Values are summed over positions, so that their scales multiply
the numerators of probabilities before: $\sum_t (e_t s_t) q_t$. Queries, scores and sums are float32.

Whole numbers lie in panels as other caches' numbers do (`arrays.Cache`), scales (S,) behind a head's keys,
and behind its values. Where there are tiles: `attention_byte_tiles`.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from handgrad.kernels.jit import inner
from handgrad.kernels.machine import LANES
from handgrad.kernels.quantize import ROUNDING, TOP, per_one_of_row, scale_of
from handgrad.kernels.vector import (
    VECTOR,
    at_address,
    bits,
    counted_loop,
    i64,
    load_vector,
    store,
    store_byte,
)
from handgrad.kernels.writing.vectors import WIDTH

SHARE = np.float32(127 / TOP)
"""`quantize` makes the largest number `TOP`; here it is 127."""
ROUND = np.float32(ROUNDING)


@inner
def key_place(keys, position, K):
    """Where a position's first number is; the others are `WIDTH` bytes apart."""
    return keys + position // WIDTH * K * WIDTH + position % WIDTH


@inner
def scaled_numbers(to, x):
    """Write the scale of a key or value to an address; the factor that makes its numbers whole."""
    p = SHARE * per_one_of_row(x.ctypes.data, x.size)
    store(to, scale_of(p))
    return p


@inner
def whole_number(x, p):
    """x p, rounded, in two's complement."""
    return np.uint8(bits(x * p + ROUND))


@inner
def remember(cache, keys, values, position, key, value):
    """Write one position's key and value into the cache."""
    K, to = key.size, key_place(keys, position, key.size)
    p = scaled_numbers(keys + cache.key_scales + 4 * position, key)
    for i in range(K):
        store_byte(to + WIDTH * i, whole_number(key[i], p))
    p = scaled_numbers(values + cache.value_scales + 4 * position, value)
    for i in range(K):
        into = values + i // WIDTH * cache.value_panel + position * WIDTH + i % WIDTH
        store_byte(into, whole_number(value[i], p))


@intrinsic
def multiply_along(typing_context: Any, to: Any, factors: Any, n_vectors: Any) -> Any:
    """Vectors of numbers are multiplied by those of others; both are addresses."""

    def emit(context: Any, builder: ir.IRBuilder, signature: Any, args: Sequence[ir.Value]) -> Any:
        to, factors, n_vectors = args

        def body(state: list[ir.Value]) -> list[ir.Value]:
            to, factors = state
            product = builder.fmul(load_vector(builder, to), load_vector(builder, factors))
            builder.store(product, at_address(builder, to, 0, VECTOR), align=4)
            return [builder.add(address, i64(4 * LANES)) for address in state]

        counted_loop(builder, n_vectors, [to, factors], body)
        return context.get_dummy_value()

    return types.void(*[types.int64] * 3), emit


@inner
def scale(rows, scales, n_positions, n):
    """The first n rows, of whole panels of positions, times the positions' scales."""
    for i in range(n):
        multiply_along(rows.ctypes.data + i * rows.strides[0], scales, n_positions // LANES)
