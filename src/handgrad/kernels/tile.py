"""A tile of a float32 product, held in registers: C[rows, columns] = A[rows, K] @ B[K, columns] + start.

B is packed, so that a step of K is one contiguous run of `TILE_COLUMNS` numbers. There are two kinds of A:

- `tile_of_rows`: A[i, k] lies at a + i stride + 4 k, as in a row-major array;
- `tile_of_columns`: A[i, k] lies at a + k stride + 4 i, as in a transposed one, or in one packed for it.
"""

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from handgrad.kernels.machine import LANES, TILE_ROWS
from handgrad.kernels.vector import (
    VECTOR,
    at_address,
    broadcast,
    counted_loop,
    emit_prefetch,
    i64,
    load_vector,
    multiply_adder,
)

UNROLL = 4
N_VECTORS = 2
"""Vectors in a row of a tile."""
VECTOR_BYTES = 4 * LANES
Steps = Callable[[list[Any]], list[Any]]
"""Some steps of K. The state: how far A has been read, where B is, the accumulators."""


def _steps_along_rows(builder: Any, rows: list[Any], n: int) -> Steps:
    def body(state: list[Any]) -> list[Any]:
        at, b, *sums = state
        for step in range(n):
            factors = (broadcast(builder, builder.add(row, at), 4 * step) for row in rows)
            sums = _multiply_step(builder, factors, b, step, sums)
        return [builder.add(at, i64(4 * n)), builder.add(b, i64(VECTOR_BYTES * N_VECTORS * n)), *sums]

    return body


def _steps_along_columns(builder: Any, stride: Any, n: int) -> Steps:
    def body(state: list[Any]) -> list[Any]:
        at, b, *sums = state
        for step in range(n):
            factors = (broadcast(builder, at, 4 * i) for i in range(TILE_ROWS))
            sums = _multiply_step(builder, factors, b, step, sums)
            at = builder.add(at, stride)
        return [at, builder.add(b, i64(VECTOR_BYTES * N_VECTORS * n)), *sums]

    return body


def _multiply_step(builder: Any, factors: Any, b: Any, step: int, sums: list[Any]) -> list[Any]:
    """sums + factors (rows) times a row of B: one step of K."""
    multiply_add = multiply_adder(builder)
    offsets = (VECTOR_BYTES * (N_VECTORS * step + j) for j in range(N_VECTORS))
    columns = [load_vector(builder, b, offset) for offset in offsets]
    products = ((factor, column) for factor in factors for column in columns)
    return [multiply_add(*product, total) for product, total in zip(products, sums, strict=True)]


def _row_addresses(builder: Any, a: Any, stride: Any, last_row: Any) -> list[Any]:
    """Where the rows begin; those after the last are taken to be that one."""

    def row(i: Any) -> Any:
        within = builder.icmp_signed("<", i, last_row)
        return builder.add(a, builder.mul(stride, builder.select(within, i, last_row)))

    return [row(i64(i)) for i in range(TILE_ROWS)]


def _tile(by_columns: bool) -> Any:
    @intrinsic
    def tile(
        typing_context: Any, c: Any, c_stride: Any, start: Any, start_stride: Any, a: Any, a_stride: Any,
        last_row: Any, b: Any, n_steps: Any,
    ) -> Any:  # fmt: skip
        """C = A @ B + start, for one tile; rows of A after `last_row` are read as that row."""

        def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            c, c_stride, start, start_stride, a, a_stride, last_row, b, n_steps = args
            for i in range(TILE_ROWS):
                emit_prefetch(builder, builder.add(c, builder.mul(c_stride, i64(i))), to_write=True)
            rows = [] if by_columns else _row_addresses(builder, a, a_stride, last_row)

            def steps(n: int) -> Steps:
                if by_columns:
                    return _steps_along_columns(builder, a_stride, n)
                return _steps_along_rows(builder, rows, n)

            zero = ir.Constant(VECTOR, [0.0] * LANES)
            state = [a if by_columns else i64(0), b, *([zero] * (TILE_ROWS * N_VECTORS))]
            state = counted_loop(builder, builder.sdiv(n_steps, i64(UNROLL)), state, steps(UNROLL))
            _, _, *sums = counted_loop(builder, builder.srem(n_steps, i64(UNROLL)), state, steps(1))
            for number, total in enumerate(sums):
                i, offset = i64(number // N_VECTORS), VECTOR_BYTES * (number % N_VECTORS)
                begin = load_vector(builder, builder.add(start, builder.mul(start_stride, i)), offset)
                to = at_address(builder, builder.add(c, builder.mul(c_stride, i)), offset, VECTOR)
                builder.store(builder.fadd(total, begin), to, align=4)
            return context.get_dummy_value()

        return types.void(*[types.int64] * 9), emit

    return tile


tile_of_rows = _tile(by_columns=False)
tile_of_columns = _tile(by_columns=True)
