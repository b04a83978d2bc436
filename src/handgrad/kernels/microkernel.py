"""The microkernel: a block of a product, in registers.

    C[rows, columns] = A[rows, K] @ B[K, columns] + start

B is packed: a step of K reads `MICRO_COLUMNS` numbers that lie side by side, and multiplies them with one
number of each row of A, broadcast to all lanes. A comes in two layouts:

- by rows: A[i, k] lies at a + i stride + 4 k, as in a row-major array;
- by columns: A[i, k] lies at a + k stride + 4 i, as in a transposed array, or a packed one.

What the numbers are is a `Kind`: float32, or words of scaled integers, whose sums are multiplied by the scale
of their row and that of their column when they are done. C and start are float32.
"""

import functools
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from handgrad.kernels.integer_dot import word_multiply_adder
from handgrad.kernels.machine import LANES, MICRO_ROWS
from handgrad.kernels.own_function import own_function
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
)

UNROLL = 4
N_VECTORS = 2
"""Vectors in a row of the block."""
VECTOR_BYTES = 4 * LANES


class Matrix(NamedTuple):
    """A row-major array of 32-bit numbers."""

    at: int
    """Its address."""
    stride: int
    """Bytes from row to row."""


Finish = Callable[[ir.Value, ir.Value, int, int], ir.Value]
"""What is written: of sums, what they are added to, the row, and the vector in the row."""


class Kind(NamedTuple):
    """What the numbers of A and B are, 32 bits for each step of K."""

    name: str
    vector: ir.VectorType
    multiply_adder: Callable[[ir.IRBuilder], Callable[[ir.Value, ir.Value, ir.Value], ir.Value]]
    finisher: Callable[..., Finish]
    """Of the builder, the number of the last row, and where scales are: those of rows, how far apart they are
    (zero: all rows have the same), and those of columns."""


def _add(builder: ir.IRBuilder, last_row: ir.Value, *no_scales: ir.Value) -> Finish:
    return lambda total, begin, i, j: builder.fadd(total, begin)


def _scale_and_add(
    builder: ir.IRBuilder, last_row: ir.Value, at: ir.Value, stride: ir.Value, columns: ir.Value
) -> Finish:
    """Sums are multiplied by the scales of their row and column, and added."""
    row_scales = [broadcast(builder, row) for row in _row_addresses(builder, at, stride, last_row)]
    column_scales = [load_vector(builder, columns, VECTOR_BYTES * j) for j in range(N_VECTORS)]
    multiply_add = multiply_adder(builder)

    def finish(total: ir.Value, begin: ir.Value, i: int, j: int) -> ir.Value:
        scale = builder.fmul(row_scales[i], column_scales[j])
        return multiply_add(builder.sitofp(total, VECTOR), scale, begin)

    return finish


FLOAT32 = Kind("float32", VECTOR, multiply_adder, _add)
INT16 = Kind("int16", WORDS, word_multiply_adder, _scale_and_add)

Steps = Callable[[list[ir.Value]], list[ir.Value]]
"""Some steps of K. The state: how far A has been read, where B is, the accumulators (all in registers)."""


def _steps_along_rows(builder: ir.IRBuilder, kind: Kind, rows: list[ir.Value], n: int) -> Steps:
    def body(state: list[ir.Value]) -> list[ir.Value]:
        at, b, *sums = state
        for step in range(n):
            factors = (broadcast(builder, builder.add(row, at), 4 * step, kind.vector) for row in rows)
            sums = _multiply_step(builder, kind, factors, b, step, sums)
        return [builder.add(at, i64(4 * n)), builder.add(b, i64(VECTOR_BYTES * N_VECTORS * n)), *sums]

    return body


def _steps_along_columns(builder: ir.IRBuilder, kind: Kind, stride: ir.Value, n: int) -> Steps:
    def body(state: list[ir.Value]) -> list[ir.Value]:
        at, b, *sums = state
        for step in range(n):
            factors = (broadcast(builder, at, 4 * i, kind.vector) for i in range(MICRO_ROWS))
            sums = _multiply_step(builder, kind, factors, b, step, sums)
            at = builder.add(at, stride)
        return [at, builder.add(b, i64(VECTOR_BYTES * N_VECTORS * n)), *sums]

    return body


def _multiply_step(
    builder: ir.IRBuilder,
    kind: Kind,
    factors: Iterable[ir.Value],
    b: ir.Value,
    step: int,
    sums: list[ir.Value],
) -> list[ir.Value]:
    """sums + factors (rows) times a row of B: one step of K."""
    multiply_add = kind.multiply_adder(builder)
    offsets = (VECTOR_BYTES * (N_VECTORS * step + j) for j in range(N_VECTORS))
    columns = [load_vector(builder, b, offset, kind.vector) for offset in offsets]
    products = ((factor, column) for factor in factors for column in columns)
    return [multiply_add(*product, total) for product, total in zip(products, sums, strict=True)]


def _row_addresses(
    builder: ir.IRBuilder, a: ir.Value, stride: ir.Value, last_row: ir.Value
) -> list[ir.Value]:
    """Where rows begin. Those after the last are read as the last: no branch, nothing outside A."""

    def row(i: ir.Value) -> ir.Value:
        within = builder.icmp_signed("<", i, last_row)
        return builder.add(a, builder.mul(stride, builder.select(within, i, last_row)))

    return [row(i64(i)) for i in range(MICRO_ROWS)]


def _emit(
    kind: Kind, by_columns: bool, builder: ir.IRBuilder, c: ir.Value, c_stride: ir.Value, start: ir.Value,
    start_stride: ir.Value, a: ir.Value, a_stride: ir.Value, last_row: ir.Value, b: ir.Value,
    n_steps: ir.Value, *scales: ir.Value,
) -> None:  # fmt: skip
    for i in range(MICRO_ROWS):  # C is written last: asked for now, it is there by then
        emit_prefetch(builder, builder.add(c, builder.mul(c_stride, i64(i))), to_write=True)
    rows = [] if by_columns else _row_addresses(builder, a, a_stride, last_row)

    def steps(n: int) -> Steps:
        if by_columns:
            return _steps_along_columns(builder, kind, a_stride, n)
        return _steps_along_rows(builder, kind, rows, n)

    state = [a if by_columns else i64(0), b, *[ir.Constant(kind.vector, None)] * (MICRO_ROWS * N_VECTORS)]
    state = counted_loop(builder, builder.sdiv(n_steps, i64(UNROLL)), state, steps(UNROLL))
    _, _, *sums = counted_loop(builder, builder.srem(n_steps, i64(UNROLL)), state, steps(1))
    finish = kind.finisher(builder, last_row, *scales)
    for number, total in enumerate(sums):
        i, j = divmod(number, N_VECTORS)
        offset = VECTOR_BYTES * j
        begin = load_vector(builder, builder.add(start, builder.mul(start_stride, i64(i))), offset)
        to = at_address(builder, builder.add(c, builder.mul(c_stride, i64(i))), offset, VECTOR)
        builder.store(finish(total, begin, i, j), to, align=4)


def microkernel(kind: Kind, by_columns: bool) -> Any:
    """The intrinsic that calls the microkernel of `kind`; by columns, A's columns lie side by side."""

    def call(context: Any, builder: ir.IRBuilder, signature: Any, args: Sequence[ir.Value]) -> Any:
        numbers: list[ir.Value] = []
        for kind_of, value in zip(signature.args, args, strict=True):
            is_tuple = isinstance(kind_of, types.BaseTuple)
            numbers += cgutils.unpack_tuple(builder, value) if is_tuple else [value]
        name = f"microkernel_of_{kind.name}_{'columns' if by_columns else 'rows'}"
        emit = functools.partial(_emit, kind, by_columns)
        builder.call(own_function(builder.module, name, len(numbers), emit), numbers)
        return context.get_dummy_value()

    @intrinsic
    def multiply_block(
        typing_context: Any, c: Any, start: Any, a: Any, last_row: Any, b: Any, n_steps: Any,
        row_scales: Any, column_scales: Any,
    ) -> Any:  # fmt: skip
        """C = A @ B + start, for one block; rows of A after `last_row` are read as that row."""
        return types.void(c, start, a, *[types.int64] * 3, row_scales, types.int64), call

    return multiply_block
