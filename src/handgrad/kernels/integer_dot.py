"""Multiply-adds of integers in vectors: a word of 32 bits times a word, number by number, added to a sum.

Of 16-bit integers a word holds two: `vpdpwssd` multiplies and adds them in one instruction, `vpmaddwd` and
`vpaddd` in two. Of 8-bit integers it holds four, which `vpdpbusd` multiplies, those of a without a sign: a
holds q + `OFFSET`, and a sum begins with the negative of what the offset adds to it, `OFFSET` times the sum
of b's column. Where a processor has no such instruction, and in tests, plain arithmetic computes the same.
"""

from collections.abc import Callable, Sequence
from typing import Any

from llvmlite import binding, ir
from numba import types
from numba.extending import intrinsic

from handgrad.kernels.machine import FEATURES, INT8, INT16, LANES, MICRO_COLUMNS
from handgrad.kernels.vector import WORDS, at_address, counted_loop, i64, load_vector, same

MultiplyAdd = Callable[[ir.Value, ir.Value, ir.Value], ir.Value]
"""Of words a, words b, and sums c."""
HALVES = ir.VectorType(ir.IntType(16), 2 * LANES)
EVEX = LANES == 16 or FEATURES.get("avx512vl", False)
"""AVX512-VNNI; else AVX-VNNI, whose instruction is encoded otherwise and knows half of the registers."""
OFFSET = 128
AS_WRITTEN = "", "=v,0" if LANES == 16 else "=x,0"
"""No assembly at all, but LLVM does not look through it: it would add the products of several steps first,
for shorter latency, and run out of registers (a third of the speed)."""
binding.initialize_native_asmparser()
MADD = {4: "llvm.x86.sse2.pmadd.wd", 8: "llvm.x86.avx2.pmadd.wd", 16: "llvm.x86.avx512.pmaddw.d.512"}[LANES]


def _vnni(instruction: str) -> ir.InlineAsm:
    """Written in assembly: LLVM's vpdpwssd may become vpmaddwd and vpaddd, of shorter latency and half the
    speed."""
    register = "v" if EVEX else "x"
    code = f"{'' if EVEX else '{vex} '}{instruction} $3, $2, $0"
    return ir.InlineAsm(ir.FunctionType(WORDS, [WORDS] * 3), code, f"={register},0,{register},{register}")


def of_int16(builder: ir.IRBuilder) -> MultiplyAdd:
    """c + a's first times b's first + a's second times b's second."""
    if INT16 == "vnni":
        dot = _vnni("vpdpwssd")
        return lambda a, b, c: builder.call(dot, [c, a, b])
    if INT16 == "madd":
        madd = builder.module.declare_intrinsic(MADD, (), ir.FunctionType(WORDS, [HALVES] * 2))
        kept = ir.InlineAsm(ir.FunctionType(WORDS, [WORDS]), *AS_WRITTEN)

        def add_pairs(a: ir.Value, b: ir.Value, c: ir.Value) -> ir.Value:
            product = builder.call(madd, [builder.bitcast(x, HALVES) for x in (a, b)])
            return builder.call(kept, [builder.add(c, builder.call(kept, [product]))])

        return add_pairs
    sixteen = same(WORDS, 16)

    def first(x: ir.Value) -> ir.Value:
        return builder.ashr(builder.shl(x, sixteen), sixteen)

    def second(x: ir.Value) -> ir.Value:
        return builder.ashr(x, sixteen)

    def multiply_add(a: ir.Value, b: ir.Value, c: ir.Value) -> ir.Value:
        firsts, seconds = builder.mul(first(a), first(b)), builder.mul(second(a), second(b))
        return builder.add(c, builder.add(firsts, seconds))

    return multiply_add


def of_int8(builder: ir.IRBuilder) -> MultiplyAdd:
    """c + the sum of a's four bytes, without a sign, times b's, with one."""
    if INT8 == "vnni":
        dot = _vnni("vpdpbusd")
        return lambda a, b, c: builder.call(dot, [c, a, b])

    def multiply_add(a: ir.Value, b: ir.Value, c: ir.Value) -> ir.Value:
        for i in range(4):
            byte = builder.and_(builder.lshr(a, same(WORDS, 8 * i)), same(WORDS, 255))
            signed = builder.ashr(builder.shl(b, same(WORDS, 24 - 8 * i)), same(WORDS, 24))
            c = builder.add(c, builder.mul(byte, signed))
        return c

    return multiply_add


@intrinsic
def write_offsets(typing_context: Any, target: Any, source: Any, n_words: Any) -> Any:
    """What sums of 8-bit integers begin with, for MICRO_COLUMNS columns of so many words."""

    def emit(context: Any, builder: ir.IRBuilder, signature: Any, args: Sequence[ir.Value]) -> Any:
        target, source, n_words = args
        multiply_add = of_int8(builder)
        zero, ones = ir.Constant(WORDS, None), same(WORDS, OFFSET * 0x01010101)
        places = [4 * first for first in range(0, MICRO_COLUMNS, LANES)]

        def body(state: list[ir.Value]) -> list[ir.Value]:
            at, *sums = state
            columns = (load_vector(builder, at, place, WORDS) for place in places)
            sums = [multiply_add(ones, b, total) for b, total in zip(columns, sums, strict=True)]
            return [builder.add(at, i64(4 * MICRO_COLUMNS)), *sums]

        _, *sums = counted_loop(builder, n_words, [source, *[zero] * len(places)], body)
        for place, total in zip(places, sums, strict=True):
            builder.store(builder.sub(zero, total), at_address(builder, target, place, WORDS), align=4)
        return context.get_dummy_value()

    return types.void(*[types.int64] * 3), emit
