r"""Numbers scaled and rounded to integers, in vectors.

A number x becomes the integer $q = \operatorname{round}(x\,p)$. With p = `TOP` / max |x| the largest one
becomes `TOP`; the scale, what a unit is worth, is 1/p. Where the largest number is below `LEAST` both are 0,
where one is infinite or NaN both are NaN. Two integers that follow each other along a summed axis make a
*word* of 32 bits, the first in its lower half.

Rounding adds $1.5\cdot2^{23}$: float32 numbers there are whole, so the sum is rounded to one, and its lowest
16 bits are q in two's complement.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

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

TOP = 2047
"""The largest integer."""
ROUNDING = 1.5 * 2.0**23
BYTES = 4 * LANES
"""Of a vector."""
LEAST = 2.0**-100
LEAST_BITS, INFINITE_BITS = (int(np.float32(number).view(np.int32)) for number in (LEAST, np.inf))


def per_one_from(builder: ir.IRBuilder, size: ir.Value) -> ir.Value:
    """p, of the bits of the largest |x|, for one or a vector: as integers a NaN's are the largest."""
    kind = VECTOR if isinstance(size.type, ir.VectorType) else F32
    p = builder.fdiv(same(kind, float(TOP)), builder.bitcast(size, kind))
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


@intrinsic
def per_one_of_row(typing_context: Any, source: Any, n: Any) -> Any:
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
        return per_one_from(builder, builder.call(reduce, [last]))

    return types.float32(types.int64, types.int64), emit


@intrinsic
def round_words(typing_context: Any, target: Any, source: Any, p: Any, n: Any) -> Any:
    """LANES words of the first n (at most 2 LANES) float32 at `source`, times p; zeros after them."""

    def emit(context: Any, builder: ir.IRBuilder, signature: Any, args: Sequence[ir.Value]) -> Any:
        target, source, p, n = args
        factor, halves = splat(builder, p), ir.VectorType(ir.IntType(16), 2 * LANES)
        parts = [rounded_product(builder, load_some(builder, source, LANES * j, n), factor) for j in range(2)]
        everything = ir.Constant(ir.VectorType(I32, 2 * LANES), list(range(2 * LANES)))
        numbers = builder.trunc(builder.shuffle_vector(*parts, everything), halves)
        builder.store(builder.bitcast(numbers, WORDS), at_address(builder, target, 0, WORDS), align=4)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, types.float32, types.int64), emit
