"""Multiply-adds of integers in vectors: a word of two 16-bit integers times a word, added to a sum.

`vpdpwssd` multiplies and adds both in one instruction, `vpmaddwd` and `vpaddd` in two. Where a processor has
neither, and in tests, plain arithmetic computes the same.
"""

from collections.abc import Callable

from llvmlite import binding, ir

from handgrad.kernels.machine import FEATURES, INT16, LANES
from handgrad.kernels.vector import WORDS, same

MultiplyAdd = Callable[[ir.Value, ir.Value, ir.Value], ir.Value]
"""Of words a, words b, and sums c."""
HALVES = ir.VectorType(ir.IntType(16), 2 * LANES)
EVEX = LANES == 16 or FEATURES.get("avx512vl", False)
"""AVX512-VNNI; else AVX-VNNI, whose instruction is encoded otherwise and knows half of the registers."""
AS_WRITTEN = "", "=v,0" if LANES == 16 else "=x,0"
"""No assembly at all, but LLVM does not look through it: it would add the products of several steps first,
for shorter latency, and run out of registers (a third of the speed)."""
binding.initialize_native_asmparser()
MADD = {4: "llvm.x86.sse2.pmadd.wd", 8: "llvm.x86.avx2.pmadd.wd", 16: "llvm.x86.avx512.pmaddw.d.512"}[LANES]


def _vpdpwssd() -> ir.InlineAsm:
    """Written in assembly: LLVM's may become vpmaddwd and vpaddd, of shorter latency and half the speed."""
    register = "v" if EVEX else "x"
    code = f"{'' if EVEX else '{vex} '}vpdpwssd $3, $2, $0"
    return ir.InlineAsm(ir.FunctionType(WORDS, [WORDS] * 3), code, f"={register},0,{register},{register}")


def word_multiply_adder(builder: ir.IRBuilder) -> MultiplyAdd:
    """c + a's first times b's first + a's second times b's second."""
    if INT16 == "vnni":
        dot = _vpdpwssd()
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


def _vpdpbusd() -> ir.InlineAsm:
    register = "v" if EVEX else "x"
    code = f"{'' if EVEX else '{vex} '}vpdpbusd $3, $2, $0"
    return ir.InlineAsm(ir.FunctionType(WORDS, [WORDS] * 3), code, f"={register},0,{register},{register}")


def byte_multiply_adder(builder: ir.IRBuilder) -> MultiplyAdd:
    """c + the products of a's four bytes, from 0 to 255, and b's, from -128 to 127: exact.

    Without VNNI even and odd bytes become words of 16-bit integers. (vpmaddubsw is shorter, and saturates.)
    """
    if INT16 == "vnni":
        dot = _vpdpbusd()
        return lambda a, b, c: builder.call(dot, [c, a, b])
    multiply_add, eight = word_multiply_adder(builder), same(HALVES, 8)

    def even_and_odd(x: ir.Value, shift: Callable[..., ir.Value]) -> list[ir.Value]:
        halves = builder.bitcast(x, HALVES)
        pairs = shift(builder.shl(halves, eight), eight), shift(halves, eight)
        return [builder.bitcast(pair, WORDS) for pair in pairs]

    def multiply_add_bytes(a: ir.Value, b: ir.Value, c: ir.Value) -> ir.Value:
        pairs = zip(even_and_odd(a, builder.lshr), even_and_odd(b, builder.ashr), strict=True)
        for left, right in pairs:
            c = multiply_add(left, right, c)
        return c

    return multiply_add_bytes
