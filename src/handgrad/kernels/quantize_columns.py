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
    Integers,
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


def per_one_of_columns(integers: Integers, rows: Rows) -> Any:
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
                p = per_one_from(builder, top, integers.top)
                builder.store(p, at_address(builder, target, BYTES * j, VECTOR), align=4)
            return context.get_dummy_value()

        return types.void(*[types.int64] * 5), emit

    return per_one


def round_columns(integers: Integers, rows: Rows) -> Any:
    """An intrinsic."""
    n, n_bits = integers.per_word, 32 // integers.per_word

    @intrinsic
    def words(
        typing_context: Any, target: Any, scales: Any, source: Any, stride: Any, n_rows: Any, more: Any
    ) -> Any:
        """Words of rows below each other, the last filled up with zeros. `scales`: each column's p, then its
        scale."""

        def emit(context: Any, builder: ir.IRBuilder, signature: Any, args: Sequence[ir.Value]) -> Any:
            target, scales, source, stride, n_rows, more = args
            columns = [load_vector(builder, scales, BYTES * j) for j in range(N_VECTORS)]
            for j, p in enumerate(columns):
                builder.store(scale_from(builder, p), at_address(builder, scales, BYTES * j, VECTOR), align=4)

            def add_row(
                words: list[ir.Value], shift: ir.Value, position: Position
            ) -> tuple[list[ir.Value], Position]:
                """A row's integers, `shift` bits up in their words."""
                found = (
                    builder.and_(rounded_product(builder, x, p), same(WORDS, (1 << n_bits) - 1))
                    for x, p in zip(rows.read(builder, position, more), columns, strict=True)
                )
                words = [builder.or_(w, builder.shl(x, shift)) for w, x in zip(words, found, strict=True)]
                return words, rows.after(builder, position, stride)

            def store(to: ir.Value, words: list[ir.Value]) -> ir.Value:
                for j, word in enumerate(words):
                    builder.store(word, at_address(builder, to, BYTES * j, WORDS), align=4)
                return builder.add(to, i64(BYTES * N_VECTORS))

            nothing = [ir.Constant(WORDS, None)] * N_VECTORS

            def whole(state: list[ir.Value]) -> list[ir.Value]:
                to, *position = state
                words = nothing
                for i in range(n):
                    words, position = add_row(words, same(WORDS, n_bits * i), position)
                return [store(to, words), *position]

            def row_of_the_last(state: list[ir.Value]) -> list[ir.Value]:
                shift, *rest = state
                words, position = add_row(rest[:N_VECTORS], shift, rest[N_VECTORS:])
                return [builder.add(shift, same(WORDS, n_bits)), *words, *position]

            state = [target, *rows.begin(source, more)]
            to, *position = counted_loop(builder, builder.sdiv(n_rows, i64(n)), state, whole)
            n_left = builder.srem(n_rows, i64(n))
            state = [ir.Constant(WORDS, None), *nothing, *position]
            _, *last = counted_loop(builder, n_left, state, row_of_the_last)
            is_one = builder.zext(builder.icmp_signed(">", n_left, i64(0)), n_left.type)
            counted_loop(builder, is_one, [to], lambda state: [store(state[0], last[:N_VECTORS])])
            return context.get_dummy_value()

        return types.void(*[types.int64] * 6), emit

    return words
