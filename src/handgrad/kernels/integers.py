r"""Scaled 16-bit integers in vectors: rounding, pairing, multiplying.

A number x becomes the integer $q = \operatorname{round}(x\,p)$. With p = `TOP` / max |x| the largest one
becomes `TOP`; the scale, what a unit is worth, is 1/p. Where the largest number is below `LEAST` both are 0,
where one is infinite or NaN both are NaN. Two integers that follow each other along a summed axis make a
*word* of 32 bits, the first in its lower half.

Rounding adds $1.5\cdot2^{23}$: float32 numbers there are whole, so the sum is rounded to one, and its lowest
16 bits are q in two's complement.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from llvmlite import binding, ir
from numba import types
from numba.extending import intrinsic

from handgrad.kernels.machine import FEATURES, INT16, LANES, MICRO_COLUMNS, MICRO_ROWS
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
    splat,
)

I1, I16, I64 = ir.IntType(1), ir.IntType(16), ir.IntType(64)
HALVES, LINE = ir.VectorType(I16, 2 * LANES), ir.VectorType(I16, LANES)
ROUNDING = 1.5 * 2.0**23
BYTES = 4 * LANES
"""Of a vector."""
N_VECTORS = MICRO_COLUMNS // LANES
EVEX = LANES == 16 or FEATURES.get("avx512vl", False)
"""AVX512-VNNI; else AVX-VNNI, whose instruction is encoded otherwise and knows half of the registers."""
VNNI = ("vpdpwssd $3, $2, $0", "=v,0,v,v") if EVEX else ("{vex} vpdpwssd $3, $2, $0", "=x,0,x,x")
"""Assembly, and where its operands are: LLVM's intrinsic may become vpmaddwd and vpaddd, of shorter latency
and half the speed."""
AS_WRITTEN = "", "=v,0" if LANES == 16 else "=x,0"
"""No assembly at all, but LLVM does not look through it: it would add the products of several steps first,
for shorter latency, and run out of registers (a third of the speed)."""
binding.initialize_native_asmparser()
MADD = {4: "llvm.x86.sse2.pmadd.wd", 8: "llvm.x86.avx2.pmadd.wd", 16: "llvm.x86.avx512.pmaddw.d.512"}[LANES]


TOP = 2047
"""The largest integer."""
LEAST = 2.0**-100
LEAST_BITS, INFINITE_BITS = (int(np.float32(number).view(np.int32)) for number in (LEAST, np.inf))


def _same(kind: ir.Type, value: float) -> ir.Constant:
    """A number, or a vector of it."""
    return ir.Constant(kind, [value] * kind.count if isinstance(kind, ir.VectorType) else value)


def _per_one(builder: ir.IRBuilder, size: ir.Value) -> ir.Value:
    """p, of the bits of the largest |x|, for one or a vector: as integers a NaN's are the largest."""
    kind = VECTOR if isinstance(size.type, ir.VectorType) else F32
    p = builder.fdiv(_same(kind, float(TOP)), builder.bitcast(size, kind))
    p = builder.select(builder.icmp_signed("<", size, _same(size.type, LEAST_BITS)), _same(kind, 0.0), p)
    finite = builder.icmp_signed("<", size, _same(size.type, INFINITE_BITS))
    return builder.select(finite, p, _same(kind, math.nan))


def _scale(builder: ir.IRBuilder, p: ir.Value) -> ir.Value:
    """1/p, for a number or a vector; zero for zero."""
    zero = _same(p.type, 0.0)
    is_zero = builder.fcmp_ordered("==", p, zero)
    return builder.select(is_zero, zero, builder.fdiv(_same(p.type, 1.0), p))


@intrinsic
def scale_of(typing_context: Any, p: Any) -> Any:
    """What one unit is worth."""

    def emit(context: Any, builder: ir.IRBuilder, signature: Any, args: Sequence[ir.Value]) -> Any:
        return _scale(builder, args[0])

    return types.float32(types.float32), emit


def word_multiply_adder(builder: ir.IRBuilder) -> Callable[[ir.Value, ir.Value, ir.Value], ir.Value]:
    """The function of words a, b and sums c: c + a's first times b's first + a's second times b's second."""
    if INT16 == "vnni":
        dot = ir.InlineAsm(ir.FunctionType(WORDS, [WORDS] * 3), *VNNI)
        return lambda a, b, c: builder.call(dot, [c, a, b])
    if INT16 == "madd":
        madd = builder.module.declare_intrinsic(MADD, (), ir.FunctionType(WORDS, [HALVES] * 2))
        kept = ir.InlineAsm(ir.FunctionType(WORDS, [WORDS]), *AS_WRITTEN)

        def add_pairs(a: ir.Value, b: ir.Value, c: ir.Value) -> ir.Value:
            product = builder.call(madd, [builder.bitcast(x, HALVES) for x in (a, b)])
            return builder.call(kept, [builder.add(c, builder.call(kept, [product]))])

        return add_pairs
    sixteen = _same(WORDS, 16)

    def first(x: ir.Value) -> ir.Value:
        return builder.ashr(builder.shl(x, sixteen), sixteen)

    def second(x: ir.Value) -> ir.Value:
        return builder.ashr(x, sixteen)

    def multiply_add(a: ir.Value, b: ir.Value, c: ir.Value) -> ir.Value:
        firsts, seconds = builder.mul(first(a), first(b)), builder.mul(second(a), second(b))
        return builder.add(c, builder.add(firsts, seconds))

    return multiply_add


def _load_some(builder: ir.IRBuilder, address: ir.Value, first: int, n: ir.Value) -> ir.Value:
    """Numbers `first` to `first` + LANES of the n float32 at an address; zeros after the last, not read."""
    number = ir.Constant(WORDS, [first + lane for lane in range(LANES)])
    mask = builder.icmp_signed("<", number, splat(builder, builder.trunc(n, I32)))
    pointer = at_address(builder, address, 4 * first, VECTOR)
    masks = ir.VectorType(I1, LANES)
    kind = ir.FunctionType(VECTOR, [pointer.type, I32, masks, VECTOR])
    load = builder.module.declare_intrinsic(f"llvm.masked.load.v{LANES}f32.p0", (), kind)
    return builder.call(load, [pointer, ir.Constant(I32, 4), mask, ir.Constant(VECTOR, None)])


def _rounded(builder: ir.IRBuilder, x: ir.Value, p: ir.Value) -> ir.Value:
    """round(x p) in the lower halves of words; the upper ones hold anything."""
    return builder.bitcast(multiply_adder(builder)(x, p, _same(VECTOR, ROUNDING)), WORDS)


def _larger(builder: ir.IRBuilder, top: ir.Value, x: ir.Value) -> ir.Value:
    """The larger of `top`, the bits of the largest |x| so far, and those of x, in every lane."""
    size = builder.and_(builder.bitcast(x, WORDS), _same(WORDS, 0x7FFFFFFF))
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
        return _per_one(builder, builder.call(reduce, [last]))

    return types.float32(types.int64, types.int64), emit


@intrinsic
def round_words(typing_context: Any, target: Any, source: Any, p: Any, n: Any) -> Any:
    """LANES words of the first n (at most 2 LANES) float32 at `source`, times p; zeros after them."""

    def emit(context: Any, builder: ir.IRBuilder, signature: Any, args: Sequence[ir.Value]) -> Any:
        target, source, p, n = args
        low, high = (
            _rounded(builder, _load_some(builder, source, LANES * j, n), splat(builder, p)) for j in range(2)
        )
        everything = ir.Constant(ir.VectorType(I32, 2 * LANES), list(range(2 * LANES)))
        halves = builder.trunc(builder.shuffle_vector(low, high, everything), HALVES)
        builder.store(builder.bitcast(halves, WORDS), at_address(builder, target, 0, WORDS), align=4)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, types.float32, types.int64), emit


def _pair_tokens(n: int) -> Any:
    @intrinsic
    def pair_tokens(typing_context: Any, target: Any, first: Any, second: Any) -> Any:
        """n words, each of one integer at `first` and one at `second`."""

        def emit(context: Any, builder: ir.IRBuilder, signature: Any, args: Sequence[ir.Value]) -> Any:
            halves, words = (ir.VectorType(kind, n) for kind in (I16, I32))
            target, *sources = args
            low, high = (
                builder.zext(builder.load(at_address(builder, source, 0, halves), align=2), words)
                for source in sources
            )
            word = builder.or_(low, builder.shl(high, _same(words, 16)))
            builder.store(word, at_address(builder, target, 0, words), align=4)
            return context.get_dummy_value()

        return types.void(*[types.int64] * 3), emit

    return pair_tokens


pair_tokens, pair_token = _pair_tokens(MICRO_ROWS), _pair_tokens(1)


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
    lines = (builder.load(at_address(builder, at, 2 * LANES * j, LINE), align=2) for j in range(N_VECTORS))
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
"""Rows of integers; `more` is the address of what a row's are multiplied by, one float32 for each row."""


def _per_one_of_columns(rows: Rows) -> Any:
    @intrinsic
    def per_one_of_columns(
        typing_context: Any, target: Any, source: Any, stride: Any, n_rows: Any, more: Any
    ) -> Any:
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
                p = _per_one(builder, top)
                builder.store(p, at_address(builder, target, BYTES * j, VECTOR), align=4)
            return context.get_dummy_value()

        return types.void(*[types.int64] * 5), emit

    return per_one_of_columns


def _round_columns(rows: Rows) -> Any:
    @intrinsic
    def round_columns(
        typing_context: Any, target: Any, scales: Any, source: Any, stride: Any, n_rows: Any, more: Any
    ) -> Any:
        """Words of rows 2w and 2w + 1; the last may be alone. `scales`: each column's p, then its scale."""

        def emit(context: Any, builder: ir.IRBuilder, signature: Any, args: Sequence[ir.Value]) -> Any:
            target, scales, source, stride, n_rows, more = args
            columns = [load_vector(builder, scales, BYTES * j) for j in range(N_VECTORS)]
            for j, p in enumerate(columns):
                builder.store(_scale(builder, p), at_address(builder, scales, BYTES * j, VECTOR), align=4)

            def read(position: Position) -> tuple[list[ir.Value], Position]:
                vectors = rows.read(builder, position, more)
                rounded = [_rounded(builder, x, p) for x, p in zip(vectors, columns, strict=True)]
                return rounded, rows.after(builder, position, stride)

            def words(to: ir.Value, firsts: list[ir.Value], seconds: list[ir.Value]) -> ir.Value:
                for j, (first, second) in enumerate(zip(firsts, seconds, strict=True)):
                    low = builder.and_(first, _same(WORDS, 0xFFFF))
                    word = builder.or_(low, builder.shl(second, _same(WORDS, 16)))
                    builder.store(word, at_address(builder, to, BYTES * j, WORDS), align=4)
                return builder.add(to, i64(BYTES * N_VECTORS))

            def pair(state: list[ir.Value]) -> list[ir.Value]:
                to, *position = state
                first, position = read(position)
                second, position = read(position)
                return [words(to, first, second), *position]

            def single(state: list[ir.Value]) -> list[ir.Value]:
                to, *position = state
                first, position = read(position)
                return [words(to, first, [ir.Constant(WORDS, None)] * N_VECTORS), *position]

            state = [target, *rows.begin(source, more)]
            state = counted_loop(builder, builder.sdiv(n_rows, i64(2)), state, pair)
            counted_loop(builder, builder.srem(n_rows, i64(2)), state, single)
            return context.get_dummy_value()

        return types.void(*[types.int64] * 6), emit

    return round_columns


per_one_of_columns, round_columns = _per_one_of_columns(FLOATS), _round_columns(FLOATS)
per_one_of_scaled_columns, round_scaled_columns = _per_one_of_columns(SCALED), _round_columns(SCALED)
