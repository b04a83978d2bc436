"""Vectors of float32 numbers, rounded to bfloat16: by an instruction, where there is one, or by arithmetic.

Both round to the nearest, ties to even. The instruction takes numbers below 2^-126, which float32 holds with
fewer digits, for zeros; arithmetic, as in `rounding`, rounds these too.
"""

from llvmlite import ir

from handgrad.kernels.machine import FEATURES, LANES
from handgrad.kernels.vector import I32, WORDS, at_address, same

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
