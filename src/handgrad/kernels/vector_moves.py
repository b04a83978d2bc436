"""Numbers moved from place to place in vectors: copied, transposed, paired.

Addresses are integers, in bytes.
"""

from collections.abc import Sequence
from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from handgrad.kernels.machine import LANES
from handgrad.kernels.vector import I32, VECTOR, WORDS, at_address, load_vector, row_address, same, splat


def store_transposed(
    builder: ir.IRBuilder, address: ir.Value, stride: ir.Value, rows: list[ir.Value]
) -> None:
    """Write LANES vectors' columns as rows: stage s exchanges bit s of the row with bit s of the column."""
    bit = 1
    while bit < LANES:
        upper = [LANES + (c ^ bit) if c & bit else c for c in range(LANES)]
        lower = [LANES + c if c & bit else c | bit for c in range(LANES)]
        masks = [ir.Constant(WORDS, lanes) for lanes in (upper, lower)]
        for i in (i for i in range(LANES) if not i & bit):
            pair = rows[i], rows[i | bit]
            rows[i], rows[i | bit] = (builder.shuffle_vector(*pair, mask) for mask in masks)
        bit *= 2
    for i, row in enumerate(rows):
        builder.store(
            row, at_address(builder, row_address(builder, address, stride, i), 0, row.type), align=4
        )


@intrinsic
def transpose_block(
    typing_context: Any, target: Any, target_stride: Any, source: Any, source_stride: Any
) -> Any:
    """Transpose LANES x LANES numbers."""

    def emit(context: Any, builder: ir.IRBuilder, signature: Any, args: Sequence[ir.Value]) -> Any:
        target, target_stride, source, stride = args
        rows = [load_vector(builder, row_address(builder, source, stride, i)) for i in range(LANES)]
        store_transposed(builder, target, target_stride, rows)
        return context.get_dummy_value()

    return types.void(*[types.int64] * 4), emit


@intrinsic
def transpose_pairs(
    typing_context: Any, target: Any, target_stride: Any, source: Any, source_stride: Any
) -> Any:
    """Transpose 2 LANES x LANES 16-bit numbers to LANES x LANES words of two numbers of a column."""

    def emit(context: Any, builder: ir.IRBuilder, signature: Any, args: Sequence[ir.Value]) -> Any:
        target, target_stride, source, stride = args
        halves = ir.VectorType(ir.IntType(16), LANES)
        numbers = [
            builder.load(at_address(builder, row_address(builder, source, stride, i), 0, halves), align=2)
            for i in range(2 * LANES)
        ]
        order = ir.Constant(ir.VectorType(I32, 2 * LANES), [n for j in range(LANES) for n in (j, LANES + j)])
        rows = [
            builder.bitcast(builder.shuffle_vector(numbers[2 * i], numbers[2 * i + 1], order), WORDS)
            for i in range(LANES)
        ]
        store_transposed(builder, target, target_stride, rows)
        return context.get_dummy_value()

    return types.void(*[types.int64] * 4), emit


@intrinsic
def move(typing_context: Any, target: Any, source: Any) -> Any:
    """Copy one vector. (LLVM makes no vectors of a loop of copies between addresses, which may overlap.)"""

    def emit(context: Any, builder: ir.IRBuilder, signature: Any, args: Sequence[ir.Value]) -> Any:
        target, source = args
        builder.store(load_vector(builder, source), at_address(builder, target, 0, VECTOR), align=4)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64), emit


@intrinsic
def move_word(typing_context: Any, target: Any, source: Any) -> Any:
    """Copy 32 bits."""

    def emit(context: Any, builder: ir.IRBuilder, signature: Any, args: Sequence[ir.Value]) -> Any:
        target, source = (at_address(builder, address, 0, I32) for address in args)
        builder.store(builder.load(source, align=4), target, align=4)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64), emit


@intrinsic
def store_every_other(typing_context: Any, target: Any, source: Any, half: Any) -> Any:
    """LANES 16-bit numbers become the lower (0) or upper (1) halves of words; the other halves stay."""

    def emit(context: Any, builder: ir.IRBuilder, signature: Any, args: Sequence[ir.Value]) -> Any:
        target, source, half = args
        wide, numbers = (ir.VectorType(ir.IntType(16), n) for n in (2 * LANES, LANES))
        words = builder.zext(builder.load(at_address(builder, source, 0, numbers), align=2), WORDS)
        half = splat(builder, builder.trunc(half, I32))
        words = builder.shl(words, builder.shl(half, same(WORDS, 4)))
        upper = builder.trunc(half, ir.VectorType(ir.IntType(1), LANES))
        both = [builder.not_(upper), upper]
        order = [number for j in range(LANES) for number in (j, LANES + j)]
        written = builder.shuffle_vector(*both, ir.Constant(ir.VectorType(I32, 2 * LANES), order))
        place = at_address(builder, target, 0, wide)
        kind = ir.FunctionType(ir.VoidType(), [wide, place.type, I32, written.type])
        store = builder.module.declare_intrinsic(f"llvm.masked.store.v{2 * LANES}i16.p0", (), kind)
        builder.call(store, [builder.bitcast(words, wide), place, ir.Constant(I32, 2), written])
        return context.get_dummy_value()

    return types.void(*[types.int64] * 3), emit


@intrinsic
def merge_rows(typing_context: Any, target: Any, upper: Any, lower: Any) -> Any:
    """Words of 16-bit numbers that stand below each other: the upper row's number is a word's lower half.

    It reads 2 LANES numbers at each of `upper` and `lower` and writes as many words.
    """

    def emit(context: Any, builder: ir.IRBuilder, signature: Any, args: Sequence[ir.Value]) -> Any:
        target, *sources = args
        n = 2 * LANES
        halves = ir.VectorType(ir.IntType(16), n)
        rows = [builder.load(at_address(builder, source, 0, halves), align=2) for source in sources]
        for first in (0, LANES):
            order = [number for j in range(first, first + LANES) for number in (j, n + j)]
            words = builder.shuffle_vector(*rows, ir.Constant(ir.VectorType(I32, n), order))
            builder.store(words, at_address(builder, target, 4 * first, halves), align=4)
        return context.get_dummy_value()

    return types.void(*[types.int64] * 3), emit


def pairing(n: int) -> Any:
    """The same of n numbers at each address, for n that is no multiple of LANES."""

    @intrinsic
    def pair(typing_context: Any, target: Any, upper: Any, lower: Any) -> Any:
        def emit(context: Any, builder: ir.IRBuilder, signature: Any, args: Sequence[ir.Value]) -> Any:
            target, *sources = args
            halves, words = (ir.VectorType(kind, n) for kind in (ir.IntType(16), I32))
            firsts, seconds = (
                builder.zext(builder.load(at_address(builder, source, 0, halves), align=2), words)
                for source in sources
            )
            word = builder.or_(firsts, builder.shl(seconds, same(words, 16)))
            builder.store(word, at_address(builder, target, 0, words), align=4)
            return context.get_dummy_value()

        return types.void(*[types.int64] * 3), emit

    return pair
