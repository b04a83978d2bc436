"""Columns scaled and rounded to integers, in vectors: MICRO_COLUMNS of them side by side, row by row.

Rows are read as float32, or as an operand's integers times what each row's are worth.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from handgrad.kernels.machine import LANES, MICRO_COLUMNS
from handgrad.kernels.quantize import (
    BYTES,
    larger,
    load_some,
    per_one_from,
    rounded_product,
    scale_from,
)
from handgrad.kernels.vector import (
    VECTOR,
    WORDS,
    at_address,
    broadcast,
    counted_loop,
    i64,
    load_vector,
    same,
)

N_VECTORS = MICRO_COLUMNS // LANES
Position = list[ir.Value]


class Rows(NamedTuple):
    """How to read MICRO_COLUMNS columns, row by row, as float32."""

    begin: Callable[[ir.Value, ir.Value], Position]
    """Where the first row lies: of the addresses `source` and `more`."""
    read: Callable[[ir.IRBuilder, Position, ir.Value], list[ir.Value]]
    """A row: of where it lies, and `more`."""
    after: Callable[[ir.IRBuilder, Position, ir.Value], Position]
    """Where the next row lies: of where this one does, and the stride."""


def _read_floats(builder: ir.IRBuilder, position: Position, n_columns: ir.Value) -> list[ir.Value]:
    return [load_some(builder, position[0], LANES * j, n_columns) for j in range(N_VECTORS)]


def _read_scaled(builder: ir.IRBuilder, position: Position, more: ir.Value) -> list[ir.Value]:
    at, factor_at = position
    factor = broadcast(builder, factor_at)
    line = ir.VectorType(ir.IntType(16), LANES)
    lines = (builder.load(at_address(builder, at, 2 * LANES * j, line), align=2) for j in range(N_VECTORS))
    return [builder.fmul(builder.sitofp(builder.sext(line, WORDS), VECTOR), factor) for line in lines]


FLOATS = Rows(
    lambda source, n_columns: [source],
    _read_floats,
    lambda builder, position, stride: [builder.add(position[0], stride)],
)
"""Rows of float32; `more` says how many columns there are, and what is missing is zero."""
SCALED = Rows(
    lambda source, factors: [source, factors],
    _read_scaled,
    lambda builder, position, stride: [builder.add(position[0], stride), builder.add(position[1], i64(4))],
)
"""Rows of 16-bit integers; `more` is the address of what a row's are multiplied by, one float32 each."""


def per_one_of_columns(rows: Rows) -> Any:
    """An intrinsic."""

    @intrinsic
    def per_one(typing_context: Any, target: Any, source: Any, stride: Any, n_rows: Any, more: Any) -> Any:
        """Each column's p, to `target`."""

        def emit(context: Any, builder: ir.IRBuilder, signature: Any, args: Sequence[ir.Value]) -> Any:
            target, source, stride, n_rows, more = args

            def body(state: list[ir.Value]) -> list[ir.Value]:
                tops, position = state[:N_VECTORS], state[N_VECTORS:]
                found = rows.read(builder, position, more)
                tops = [larger(builder, top, x) for top, x in zip(tops, found, strict=True)]
                return [*tops, *rows.after(builder, position, stride)]

            state = [*[ir.Constant(WORDS, None)] * N_VECTORS, *rows.begin(source, more)]
            state = counted_loop(builder, n_rows, state, body)
            for j, top in enumerate(state[:N_VECTORS]):
                p = per_one_from(builder, top)
                builder.store(p, at_address(builder, target, BYTES * j, VECTOR), align=4)
            return context.get_dummy_value()

        return types.void(*[types.int64] * 5), emit

    return per_one


def round_columns(rows: Rows) -> Any:
    """An intrinsic."""

    @intrinsic
    def words(
        typing_context: Any, target: Any, scales: Any, source: Any, stride: Any, n_rows: Any, more: Any
    ) -> Any:
        """Words of rows 2w and 2w + 1; the last may be alone. `scales`: each column's p, then its scale."""

        def emit(context: Any, builder: ir.IRBuilder, signature: Any, args: Sequence[ir.Value]) -> Any:
            target, scales, source, stride, n_rows, more = args
            columns = [load_vector(builder, scales, BYTES * j) for j in range(N_VECTORS)]
            for j, p in enumerate(columns):
                builder.store(scale_from(builder, p), at_address(builder, scales, BYTES * j, VECTOR), align=4)

            def read(position: Position) -> tuple[list[ir.Value], Position]:
                vectors = rows.read(builder, position, more)
                rounded = [rounded_product(builder, x, p) for x, p in zip(vectors, columns, strict=True)]
                return rounded, rows.after(builder, position, stride)

            def store(to: ir.Value, firsts: list[ir.Value], seconds: list[ir.Value]) -> ir.Value:
                for j, (first, second) in enumerate(zip(firsts, seconds, strict=True)):
                    low = builder.and_(first, same(WORDS, 0xFFFF))
                    word = builder.or_(low, builder.shl(second, same(WORDS, 16)))
                    builder.store(word, at_address(builder, to, BYTES * j, WORDS), align=4)
                return builder.add(to, i64(BYTES * N_VECTORS))

            def pair(state: list[ir.Value]) -> list[ir.Value]:
                to, *position = state
                first, position = read(position)
                second, position = read(position)
                return [store(to, first, second), *position]

            def single(state: list[ir.Value]) -> list[ir.Value]:
                to, *position = state
                first, position = read(position)
                return [store(to, first, [ir.Constant(WORDS, None)] * N_VECTORS), *position]

            state = [target, *rows.begin(source, more)]
            state = counted_loop(builder, builder.sdiv(n_rows, i64(2)), state, pair)
            counted_loop(builder, builder.srem(n_rows, i64(2)), state, single)
            return context.get_dummy_value()

        return types.void(*[types.int64] * 6), emit

    return words
