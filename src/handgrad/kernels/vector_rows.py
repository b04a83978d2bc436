"""Parts of rows, of any width, moved in vectors: the last is masked, so nothing beyond is read or written."""

from collections.abc import Callable, Sequence
from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from handgrad.kernels.machine import LANES
from handgrad.kernels.vector import I32, VECTOR, WORDS, at_address, counted_loop, i64, splat
from handgrad.kernels.vector_bfloat16 import emit_halves, part_of

HALF_WORDS = ir.VectorType(ir.IntType(16), LANES)


def among_first(builder: ir.IRBuilder, column: ir.Value, n: ir.Value) -> ir.Value:
    """Which of LANES columns, from this one on, are among the first n."""
    lanes = ir.Constant(WORDS, list(range(LANES)))
    return builder.icmp_signed("<", lanes, splat(builder, builder.trunc(builder.sub(n, column), I32)))


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
    size = 2 if kind == HALF_WORDS else 4
    return at_address(builder, builder.add(address, builder.mul(column, i64(size))), 0, kind)


def _load_some(
    builder: ir.IRBuilder, kind: ir.VectorType, address: ir.Value, column: ir.Value, n: ir.Value
) -> ir.Value:
    """A vector of a row, of which the first n numbers count; the others are not read, and are zeros."""
    place, seen = _place(builder, kind, address, column), among_first(builder, column, n)
    signature = ir.FunctionType(kind, [place.type, I32, seen.type, kind])
    function = builder.module.declare_intrinsic(f"llvm.masked.load.{_name(kind)}.p0", (), signature)
    return builder.call(function, [place, ir.Constant(I32, 2), seen, ir.Constant(kind, None)])


def _store_some(builder: ir.IRBuilder, x: ir.Value, address: ir.Value, column: ir.Value, n: ir.Value) -> None:
    place, seen = _place(builder, x.type, address, column), among_first(builder, column, n)
    signature = ir.FunctionType(ir.VoidType(), [x.type, place.type, I32, seen.type])
    function = builder.module.declare_intrinsic(f"llvm.masked.store.{_name(x.type)}.p0", (), signature)
    builder.call(function, [x, place, ir.Constant(I32, 2), seen])


def _name(kind: ir.VectorType) -> str:
    return f"v{LANES}{kind.element.intrinsic_name}"


copy_along = _moving(HALF_WORDS, lambda builder, x, factors: x)
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
