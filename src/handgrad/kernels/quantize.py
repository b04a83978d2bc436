r"""Numbers scaled and rounded to integers, in vectors.

A number x becomes the integer $q = \operatorname{round}(x\,p)$. With p = `top` / max |x| the largest one
becomes `top`; the scale, what a unit is worth, is 1/p. Where the largest number is below `LEAST` both are 0,
where one is infinite or NaN both are NaN. Integers that follow each other along a summed axis make a *word*
of 32 bits, the first in its lowest bits.

Rounding adds $1.5\cdot2^{23}$: float32 numbers there are whole, so the sum is rounded to one, and its lowest
bits are q in two's complement.
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from handgrad.kernels.integer_dot import OFFSET
from handgrad.kernels.machine import LANES
from handgrad.kernels.vector import (
    F32,
    I32,
    VECTOR,
    WORDS,
    at_address,
    counted_loop,
    i64,
    load_vector,
    multiply_adder,
    same,
    splat,
)


class Integers(NamedTuple):
    """A kind of scaled integers."""

    per_word: int
    """How many make a word of 32 bits."""
    top: int
    """The largest."""
    heads: int
    """Rows of a panel that belong to a block but hold no numbers: scales, and offsets (see `integer_dot`)."""


INT16, INT8 = Integers(2, 2047, 1), Integers(4, 127, 2)
NARROWER = round(2**15 * INT8.top / INT16.top)
NARROWING = 2**15 / NARROWER
"""What an 8-bit unit is worth in 16-bit ones, where those are narrowed to these."""
ROUNDING = 1.5 * 2.0**23
BYTES = 4 * LANES
"""Of a vector."""
LEAST = 2.0**-100
LEAST_BITS, INFINITE_BITS = (int(np.float32(number).view(np.int32)) for number in (LEAST, np.inf))


def per_one_from(builder: ir.IRBuilder, size: ir.Value, top: int) -> ir.Value:
    """p, of the bits of the largest |x|, for one or a vector: as integers a NaN's are the largest."""
    kind = VECTOR if isinstance(size.type, ir.VectorType) else F32
    p = builder.fdiv(same(kind, float(top)), builder.bitcast(size, kind))
    p = builder.select(builder.icmp_signed("<", size, same(size.type, LEAST_BITS)), same(kind, 0.0), p)
    finite = builder.icmp_signed("<", size, same(size.type, INFINITE_BITS))
    return builder.select(finite, p, same(kind, math.nan))


def scale_from(builder: ir.IRBuilder, p: ir.Value) -> ir.Value:
    """1/p, for a number or a vector; zero for zero."""
    zero = same(p.type, 0.0)
    is_zero = builder.fcmp_ordered("==", p, zero)
    return builder.select(is_zero, zero, builder.fdiv(same(p.type, 1.0), p))


@intrinsic
def scale_of(typing_context: Any, p: Any) -> Any:
    """What one unit is worth."""

    def emit(context: Any, builder: ir.IRBuilder, signature: Any, args: Sequence[ir.Value]) -> Any:
        return scale_from(builder, args[0])

    return types.float32(types.float32), emit


def load_some(builder: ir.IRBuilder, address: ir.Value, first: int, n: ir.Value) -> ir.Value:
    """Numbers `first` to `first` + LANES of the n float32 at an address; zeros after the last, not read."""
    number = ir.Constant(WORDS, [first + lane for lane in range(LANES)])
    mask = builder.icmp_signed("<", number, splat(builder, builder.trunc(n, I32)))
    pointer = at_address(builder, address, 4 * first, VECTOR)
    masks = ir.VectorType(ir.IntType(1), LANES)
    kind = ir.FunctionType(VECTOR, [pointer.type, I32, masks, VECTOR])
    load = builder.module.declare_intrinsic(f"llvm.masked.load.v{LANES}f32.p0", (), kind)
    return builder.call(load, [pointer, ir.Constant(I32, 4), mask, ir.Constant(VECTOR, None)])


def rounded_product(builder: ir.IRBuilder, x: ir.Value, p: ir.Value) -> ir.Value:
    """round(x p) in the lowest bits of words; the others hold anything."""
    return builder.bitcast(multiply_adder(builder)(x, p, same(VECTOR, ROUNDING)), WORDS)


def larger(builder: ir.IRBuilder, top: ir.Value, x: ir.Value) -> ir.Value:
    """The larger of `top`, the bits of the largest |x| so far, and those of x, in every lane."""
    size = builder.and_(builder.bitcast(x, WORDS), same(WORDS, 0x7FFFFFFF))
    return builder.select(builder.icmp_signed(">", size, top), size, top)


def per_one_of_row(integers: Integers) -> Any:
    """An intrinsic."""

    @intrinsic
    def per_one(typing_context: Any, source: Any, n: Any) -> Any:
        """p of the n float32 at `source`."""

        def emit(context: Any, builder: ir.IRBuilder, signature: Any, args: Sequence[ir.Value]) -> Any:
            source, n = args
            many = 4  # so that no comparison waits for the one before
            zero = ir.Constant(WORDS, None)

            def vectors(state: list[ir.Value]) -> list[ir.Value]:
                at, *tops = state
                found = (load_vector(builder, at, BYTES * j) for j in range(many))
                tops = [larger(builder, top, x) for top, x in zip(tops, found, strict=True)]
                return [builder.add(at, i64(BYTES * many)), *tops]

            def rest(state: list[ir.Value]) -> list[ir.Value]:
                at, left, top = state
                top = larger(builder, top, load_some(builder, at, 0, left))
                return [builder.add(at, i64(BYTES)), builder.sub(left, i64(LANES)), top]

            n_whole = builder.sdiv(n, i64(many * LANES))
            at, *tops = counted_loop(builder, n_whole, [source, *[zero] * many], vectors)
            left = builder.srem(n, i64(many * LANES))
            n_rest = builder.sdiv(builder.add(left, i64(LANES - 1)), i64(LANES))
            _, _, last = counted_loop(builder, n_rest, [at, left, zero], rest)
            for top in tops:
                last = builder.select(builder.icmp_signed(">", top, last), top, last)
            name = f"llvm.vector.reduce.smax.v{LANES}i32"
            reduce = builder.module.declare_intrinsic(name, (), ir.FunctionType(I32, [WORDS]))
            return per_one_from(builder, builder.call(reduce, [last]), integers.top)

        return types.float32(types.int64, types.int64), emit

    return per_one


def round_words(integers: Integers) -> Any:
    """An intrinsic."""

    @intrinsic
    def words(typing_context: Any, target: Any, source: Any, p: Any, n: Any) -> Any:
        """LANES words of the first n float32 at `source`, times p; zeros after them."""

        def emit(context: Any, builder: ir.IRBuilder, signature: Any, args: Sequence[ir.Value]) -> Any:
            target, source, p, n = args
            factor = splat(builder, p)
            parts = [
                rounded_product(builder, load_some(builder, source, LANES * j, n), factor)
                for j in range(integers.per_word)
            ]
            while len(parts) > 1:  # neighbours are joined
                joined = ir.Constant(ir.VectorType(I32, 2 * parts[0].type.count), None)
                order = ir.Constant(joined.type, list(range(joined.type.count)))
                pairs = zip(parts[::2], parts[1::2], strict=True)
                parts = [builder.shuffle_vector(*pair, order) for pair in pairs]
            numbers = ir.VectorType(ir.IntType(32 // integers.per_word), parts[0].type.count)
            word = builder.bitcast(builder.trunc(parts[0], numbers), WORDS)
            builder.store(word, at_address(builder, target, 0, WORDS), align=4)
            return context.get_dummy_value()

        return types.void(types.int64, types.int64, types.float32, types.int64), emit

    return words


@intrinsic
def narrow_words(typing_context: Any, target: Any, source: Any) -> Any:
    """LANES words of 8-bit integers, offset, of as many 16-bit ones: each q becomes round(q / NARROWING)."""

    def emit(context: Any, builder: ir.IRBuilder, signature: Any, args: Sequence[ir.Value]) -> Any:
        target, source = args
        halves, wide, narrow = (ir.VectorType(ir.IntType(n), 4 * LANES) for n in (16, 32, 8))
        q = builder.load(at_address(builder, source, 0, halves), align=2)
        product = builder.mul(builder.sext(q, wide), same(wide, NARROWER))
        # (product / 2^14 + 1) / 2 is product / 2^15, rounded: LLVM knows vpmulhrsw in this form
        half = builder.add(builder.lshr(product, same(wide, 14)), same(wide, 1))
        rounded = builder.trunc(builder.lshr(half, same(wide, 1)), halves)
        byte = builder.xor(builder.trunc(rounded, narrow), same(narrow, OFFSET))
        builder.store(builder.bitcast(byte, WORDS), at_address(builder, target, 0, WORDS), align=4)
        return context.get_dummy_value()

    return types.void(*[types.int64] * 2), emit
