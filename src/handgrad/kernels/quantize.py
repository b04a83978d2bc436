r"""Numbers scaled and rounded to integers, in vectors.

A number x becomes the integer $q = \operatorname{round}(x\,p)$. With p = `top` / max |x| the largest one
becomes `top`; the scale, what a unit is worth, is 1/p. Where the largest number is below `LEAST` both are 0,
where one is infinite or NaN both are NaN. Integers that follow each other along a summed axis make a *word*
of 32 bits, the first in its lowest bits.

Rounding adds $1.5\cdot2^{23}$: float32 numbers there are whole, so the sum is rounded to one, and its lowest
bits are q in two's complement.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from handgrad.kernels.integer_dot import OFFSET
from handgrad.kernels.machine import LANES, MICRO_COLUMNS
from handgrad.kernels.vector import (
    F32,
    I32,
    VECTOR,
    WORDS,
    at_address,
    broadcast,
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
N_VECTORS = MICRO_COLUMNS // LANES
LEAST = 2.0**-100
LEAST_BITS, INFINITE_BITS = (int(np.float32(number).view(np.int32)) for number in (LEAST, np.inf))


def _per_one(builder: ir.IRBuilder, size: ir.Value, top: int) -> ir.Value:
    """p, of the bits of the largest |x|, for one or a vector: as integers a NaN's are the largest."""
    kind = VECTOR if isinstance(size.type, ir.VectorType) else F32
    p = builder.fdiv(same(kind, float(top)), builder.bitcast(size, kind))
    p = builder.select(builder.icmp_signed("<", size, same(size.type, LEAST_BITS)), same(kind, 0.0), p)
    finite = builder.icmp_signed("<", size, same(size.type, INFINITE_BITS))
    return builder.select(finite, p, same(kind, math.nan))


def _scale(builder: ir.IRBuilder, p: ir.Value) -> ir.Value:
    """1/p, for a number or a vector; zero for zero."""
    zero = same(p.type, 0.0)
    is_zero = builder.fcmp_ordered("==", p, zero)
    return builder.select(is_zero, zero, builder.fdiv(same(p.type, 1.0), p))


@intrinsic
def scale_of(typing_context: Any, p: Any) -> Any:
    """What one unit is worth."""

    def emit(context: Any, builder: ir.IRBuilder, signature: Any, args: Sequence[ir.Value]) -> Any:
        return _scale(builder, args[0])

    return types.float32(types.float32), emit


def _load_some(builder: ir.IRBuilder, address: ir.Value, first: int, n: ir.Value) -> ir.Value:
    """Numbers `first` to `first` + LANES of the n float32 at an address; zeros after the last, not read."""
    number = ir.Constant(WORDS, [first + lane for lane in range(LANES)])
    mask = builder.icmp_signed("<", number, splat(builder, builder.trunc(n, I32)))
    pointer = at_address(builder, address, 4 * first, VECTOR)
    masks = ir.VectorType(ir.IntType(1), LANES)
    kind = ir.FunctionType(VECTOR, [pointer.type, I32, masks, VECTOR])
    load = builder.module.declare_intrinsic(f"llvm.masked.load.v{LANES}f32.p0", (), kind)
    return builder.call(load, [pointer, ir.Constant(I32, 4), mask, ir.Constant(VECTOR, None)])


def _rounded(builder: ir.IRBuilder, x: ir.Value, p: ir.Value) -> ir.Value:
    """round(x p) in the lowest bits of words; the others hold anything."""
    return builder.bitcast(multiply_adder(builder)(x, p, same(VECTOR, ROUNDING)), WORDS)


def _larger(builder: ir.IRBuilder, top: ir.Value, x: ir.Value) -> ir.Value:
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
                tops = [_larger(builder, top, x) for top, x in zip(tops, found, strict=True)]
                return [builder.add(at, i64(BYTES * many)), *tops]

            def rest(state: list[ir.Value]) -> list[ir.Value]:
                at, left, top = state
                top = _larger(builder, top, _load_some(builder, at, 0, left))
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
            return _per_one(builder, builder.call(reduce, [last]), integers.top)

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
                _rounded(builder, _load_some(builder, source, LANES * j, n), factor)
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
    return [_load_some(builder, position[0], LANES * j, n_columns) for j in range(N_VECTORS)]


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
                tops = [_larger(builder, top, x) for top, x in zip(tops, found, strict=True)]
                return [*tops, *rows.after(builder, position, stride)]

            state = [*[ir.Constant(WORDS, None)] * N_VECTORS, *rows.begin(source, more)]
            state = counted_loop(builder, n_rows, state, body)
            for j, top in enumerate(state[:N_VECTORS]):
                p = _per_one(builder, top, integers.top)
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
                builder.store(_scale(builder, p), at_address(builder, scales, BYTES * j, VECTOR), align=4)

            def add_row(
                words: list[ir.Value], shift: ir.Value, position: Position
            ) -> tuple[list[ir.Value], Position]:
                """A row's integers, `shift` bits up in their words."""
                found = (
                    builder.and_(_rounded(builder, x, p), same(WORDS, (1 << n_bits) - 1))
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
