"""Vectors of float32 numbers, rounded to bfloat16: by an instruction, where there is one, or by arithmetic.

Both round to the nearest, ties to even. The instruction takes numbers below 2^-126, which float32 holds with
fewer digits, for zeros; arithmetic, as in `rounding`, rounds these too.
"""

from collections.abc import Sequence
from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from handgrad.kernels.machine import FEATURES, LANES
from handgrad.kernels.vector import (
    I32,
    WORDS,
    at_address,
    counted_loop,
    i64,
    load_vector,
    same,
    splat,
)

HALVES = ir.VectorType(ir.IntType(16), 2 * LANES)
"""Two vectors of numbers, rounded."""
HAS_INSTRUCTION = bool(FEATURES.get("avx512bf16")) and LANES == 16


class _BFloat16(ir.Type):
    """LLVM's type, which llvmlite does not name."""

    def _to_string(self) -> str:
        return "bfloat"


def _by_instruction(builder: ir.IRBuilder, first: ir.Value, second: ir.Value) -> ir.Value:
    kind = ir.FunctionType(ir.VectorType(_BFloat16(), 2 * LANES), [first.type] * 2)
    function = builder.module.declare_intrinsic("llvm.x86.avx512bf16.cvtne2ps2bf16.512", (), kind)
    return builder.bitcast(builder.call(function, [second, first]), HALVES)


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


@intrinsic
def round_along(typing_context: Any, target: Any, source: Any, n: Any, factor: Any) -> Any:
    """round_along(target, source, n, factor): n numbers times a factor, rounded; 2 LANES n' of them."""

    def emit(context: Any, builder: ir.IRBuilder, signature: Any, args: Sequence[ir.Value]) -> Any:
        target, source, n, factor = args
        factors = splat(builder, factor)

        def body(state: list[ir.Value]) -> list[ir.Value]:
            (at,) = state
            here = builder.add(source, builder.shl(at, i64(1)))
            pair = [load_vector(builder, here, 4 * LANES * i) for i in range(2)]
            halves = emit_halves(builder, *(builder.fmul(x, factors) for x in pair))
            store_halves(builder, halves, builder.add(target, at))
            return [builder.add(at, i64(4 * LANES))]

        counted_loop(builder, builder.udiv(n, i64(2 * LANES)), [i64(0)], body)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, types.int64, types.float32), emit
