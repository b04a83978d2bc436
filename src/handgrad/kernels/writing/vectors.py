"""Products of a few rows with a matrix, whose numbers are read once, in the order in which they lie.

A training step multiplies hundreds of rows, and its matrices stay in the cache; a text in progress has one
row, and every matrix comes from memory. So panels are as wide as the registers hold sums for, `WIDTH`
columns, and what is read is float32, bfloat16 or int8 numbers in the order of the sum.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from handgrad.kernels.jit import inner
from handgrad.kernels.machine import LANES
from handgrad.kernels.own_function import own_function
from handgrad.kernels.rounding import round_rows
from handgrad.kernels.vector import (
    VECTOR,
    WORDS,
    at_address,
    broadcast,
    counted_loop,
    emit_prefetch,
    i64,
    load_vector,
    multiply_adder,
    row_address,
    same,
)

N_VECTORS = 4
WIDTH = N_VECTORS * LANES
"""Columns of a panel."""
MOST_ROWS = 4 if LANES == 16 else 2
"""Rows at a time: as many as there are registers for."""
AHEAD = 8192
"""Bytes of a panel from what is multiplied to what is asked for."""
HALVES, BYTES = (ir.VectorType(ir.IntType(n_bits), LANES) for n_bits in (16, 8))


class Kind(NamedTuple):
    """What a panel's numbers are."""

    name: str
    size: int
    """Bytes of a number."""
    load: Callable[[ir.IRBuilder, ir.Value, int], ir.Value]
    """The vector at an address + an offset, as float32."""


def _load_halves(builder: ir.IRBuilder, at: ir.Value, offset: int) -> ir.Value:
    halves = builder.load(at_address(builder, at, offset, HALVES), align=2)
    return builder.bitcast(builder.shl(builder.zext(halves, WORDS), same(WORDS, 16)), VECTOR)


def _load_bytes(builder: ir.IRBuilder, at: ir.Value, offset: int) -> ir.Value:
    whole = builder.load(at_address(builder, at, offset, BYTES), align=1)
    return builder.sitofp(builder.sext(whole, WORDS), VECTOR)


KINDS = Kind("float32", 4, load_vector), Kind("bfloat16", 2, _load_halves), Kind("int8", 1, _load_bytes)


def packed(weight: np.ndarray, dtype: type) -> np.ndarray:
    """The panels (N / WIDTH, K, WIDTH) of a weight (K, N), filled up with zeros; uint16 means bfloat16."""
    K, N = weight.shape
    whole = np.zeros((K, -(-N // WIDTH) * WIDTH), np.float32)
    whole[:, :N] = weight
    panels = np.ascontiguousarray(whole.reshape(K, -1, WIDTH).swapaxes(0, 1))
    if dtype is np.float32:
        return panels
    rounded = np.empty(panels.shape, np.uint16)
    round_rows(rounded.reshape(-1, WIDTH), panels.reshape(-1, WIDTH))
    return rounded


def _emit(
    n_rows: int, kind: Kind, builder: ir.IRBuilder, at: ir.Value, K: ir.Value, x: ir.Value,
    x_stride: ir.Value, out: ir.Value, out_stride: ir.Value,
) -> None:  # fmt: skip
    """The sums of one panel."""
    multiply_add, step = multiply_adder(builder), WIDTH * kind.size

    def body(state: list[ir.Value]) -> list[ir.Value]:
        at, k, *totals = state
        for line in range(0, step, 64):
            emit_prefetch(builder, builder.add(at, i64(AHEAD + line)), to_write=False, locality=1)
        columns = [kind.load(builder, at, kind.size * LANES * j) for j in range(N_VECTORS)]
        for i in range(n_rows):
            left = broadcast(builder, builder.add(row_address(builder, x, x_stride, i), k))
            for j in range(N_VECTORS):
                n = i * N_VECTORS + j
                totals[n] = multiply_add(left, columns[j], totals[n])
        return [builder.add(at, i64(step)), builder.add(k, i64(4)), *totals]

    zeros = [same(VECTOR, 0.0)] * (n_rows * N_VECTORS)
    _, _, *totals = counted_loop(builder, K, [at, i64(0), *zeros], body)
    for n, total in enumerate(totals):
        to = row_address(builder, out, out_stride, n // N_VECTORS)
        builder.store(total, at_address(builder, to, 4 * LANES * (n % N_VECTORS), VECTOR), align=4)


def _summing(n_rows: int, kind: Kind) -> Any:
    @intrinsic
    def sums(typing_context: Any, at: Any, K: Any, x: Any, out: Any) -> Any:
        def call(context: Any, builder: ir.IRBuilder, signature: Any, args: Sequence[ir.Value]) -> Any:
            at, K, *matrices = args
            places = [builder.extract_value(matrix, i) for matrix in matrices for i in range(2)]
            emit = functools.partial(_emit, n_rows, kind)
            function = own_function(builder.module, f"sums_of_{n_rows}_rows_{kind.name}", 6, emit)
            builder.call(function, [at, K, *places])
            return context.get_dummy_value()

        return types.void(types.int64, types.int64, x, out), call

    return sums


def _of_any_rows(kind: Kind) -> Any:
    one, two, three, four = (_summing(n, kind) for n in (1, 2, 3, 4))

    @inner
    def sums(at, K, x, out, n):
        if n >= 4 and MOST_ROWS == 4:
            four(at, K, (x.at, x.stride), (out.at, out.stride))
        elif n == 3 and MOST_ROWS == 4:
            three(at, K, (x.at, x.stride), (out.at, out.stride))
        elif n >= 2:
            two(at, K, (x.at, x.stride), (out.at, out.stride))
        else:
            one(at, K, (x.at, x.stride), (out.at, out.stride))

    return sums


sums_float32, sums_bfloat16, sums_int8 = map(_of_any_rows, KINDS)
"""sums(at, K, x, out, n): the columns of the panel at an address, of the first n <= MOST_ROWS rows of x.

x and out are `Matrix`es; the panel's numbers are float32, bfloat16 or int8.
"""
