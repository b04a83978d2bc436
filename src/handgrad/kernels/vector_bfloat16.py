"""Vectors of float32 numbers, rounded to bfloat16: by an instruction, where there is one, or by arithmetic.

Both round to the nearest, ties to even. The instruction takes numbers below 2^-126, which float32 holds with
fewer digits, for zeros; arithmetic, as in `rounding`, rounds these too.
"""

from collections.abc import Callable, Sequence
from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from handgrad.kernels.machine import FEATURES, LANES
from handgrad.kernels.softmax_steps import emit_seen
from handgrad.kernels.vector import (
    I32,
    VECTOR,
    WORDS,
    at_address,
    counted_loop,
    i64,
    same,
    splat,
)

HALVES = ir.VectorType(ir.IntType(16), 2 * LANES)
"""Two vectors of numbers, rounded."""
HAS_INSTRUCTION = bool(FEATURES.get("avx512bf16")) and LANES == 16


def _by_instruction(builder: ir.IRBuilder, first: ir.Value, second: ir.Value) -> ir.Value:
    kind = ir.FunctionType(HALVES, [first.type] * 2)
    function = builder.module.declare_intrinsic("llvm.x86.avx512bf16.cvtne2ps2bf16.512", (), kind)
    return builder.call(function, [second, first])


def _by_arithmetic(builder: ir.IRBuilder, first: ir.Value, second: ir.Value) -> ir.Value:
    rounded, by = [], same(WORDS, 16)
    for x in (first, second):
        pattern = builder.bitcast(x, WORDS)
        odd = builder.and_(builder.lshr(pattern, by), same(WORDS, 1))
        pattern = builder.add(builder.add(pattern, same(WORDS, 0x7FFF)), odd)
        rounded.append(builder.trunc(builder.lshr(pattern, by), ir.VectorType(ir.IntType(16), LANES)))
    return builder.shuffle_vector(
        *rounded, ir.Constant(ir.VectorType(I32, 2 * LANES), list(range(2 * LANES)))
    )


emit_halves = _by_instruction if HAS_INSTRUCTION else _by_arithmetic
"""Two vectors, rounded, one after the other: `HALVES`."""


def part_of(builder: ir.IRBuilder, halves: ir.Value, i: int) -> ir.Value:
    """The first (0) or second (1) of the two vectors that `emit_halves` rounded."""
    lanes = ir.Constant(WORDS, list(range(i * LANES, (i + 1) * LANES)))
    return builder.shuffle_vector(halves, halves, lanes)


def in_words(builder: ir.IRBuilder, halves: ir.Value) -> ir.Value:
    """The two vectors in LANES words: the first's numbers are the lower halves."""
    lanes = [number for j in range(LANES) for number in (j, LANES + j)]
    return builder.shuffle_vector(halves, halves, ir.Constant(ir.VectorType(I32, 2 * LANES), lanes))


def store_halves(builder: ir.IRBuilder, halves: ir.Value, address: ir.Value) -> None:
    """Write 16-bit numbers to an address."""
    builder.store(halves, at_address(builder, address, 0, halves.type), align=2)


def _moving(kind: ir.VectorType, convert: Callable[..., ir.Value]) -> Any:
    @intrinsic
    def move(typing_context: Any, to: Any, source: Any, n: Any, width: Any, factor: Any) -> Any:
        def emit(context: Any, builder: ir.IRBuilder, signature: Any, args: Sequence[ir.Value]) -> Any:
            to, source, n, width, factor = args
            factors = splat(builder, factor)

            def body(state: list[ir.Value]) -> list[ir.Value]:
                (column,) = state
                x = _load_some(builder, kind, source, column, n)
                _store_some(builder, convert(builder, x, factors), to, column, width)
                return [builder.add(column, i64(LANES))]

            count = builder.udiv(builder.add(width, i64(LANES - 1)), i64(LANES))
            counted_loop(builder, count, [i64(0)], body)
            return context.get_dummy_value()

        return types.void(*[types.int64] * 4, types.float32), emit

    return move


def _place(builder: ir.IRBuilder, kind: ir.VectorType, address: ir.Value, column: ir.Value) -> ir.Value:
    size = kind.element.width // 8 if isinstance(kind.element, ir.IntType) else 4
    return at_address(builder, builder.add(address, builder.mul(column, i64(size))), 0, kind)


def _load_some(
    builder: ir.IRBuilder, kind: ir.VectorType, address: ir.Value, column: ir.Value, n: ir.Value
) -> ir.Value:
    """A vector of a row, of which the first n numbers count; the others are not read, and are zeros."""
    place, seen = _place(builder, kind, address, column), emit_seen(builder, column, n)
    signature = ir.FunctionType(kind, [place.type, I32, seen.type, kind])
    function = builder.module.declare_intrinsic(f"llvm.masked.load.{_name(kind)}.p0", (), signature)
    return builder.call(function, [place, ir.Constant(I32, 2), seen, ir.Constant(kind, None)])


def _store_some(builder: ir.IRBuilder, x: ir.Value, address: ir.Value, column: ir.Value, n: ir.Value) -> None:
    place, seen = _place(builder, x.type, address, column), emit_seen(builder, column, n)
    signature = ir.FunctionType(ir.VoidType(), [x.type, place.type, I32, seen.type])
    function = builder.module.declare_intrinsic(f"llvm.masked.store.{_name(x.type)}.p0", (), signature)
    builder.call(function, [x, place, ir.Constant(I32, 2), seen])


def _name(kind: ir.VectorType) -> str:
    return f"v{LANES}{kind.element.intrinsic_name}"


NUMBERS = ir.VectorType(ir.IntType(16), LANES)
copy_along = _moving(NUMBERS, lambda builder, x, factors: x)
"""copy_along(to, source, n, width, factor): `width` numbers of 16 bits: the source's first n, then zeros.

They meet no factor. Nothing is read beyond n, nothing is written beyond `width`.
"""
scale_along = _moving(VECTOR, lambda builder, x, factors: builder.fmul(x, factors))
"""The same of float32 numbers times a factor."""
round_along = _moving(
    VECTOR,
    lambda builder, x, factors: part_of(builder, emit_halves(builder, *[builder.fmul(x, factors)] * 2), 0),
)
"""The same, rounded."""
