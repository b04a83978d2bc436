r"""Products of a few rows with a matrix of quantized blocks, in integers, as they lie.

A block is 32 numbers of a column, whole numbers u from 0 to 15 or 255 with one scale d; a row of x becomes
blocks likewise, 32 numbers q from -127 to 127 with a scale e. Products and sums of whole numbers are exact,
so a block adds, whatever the order,

$$d\,e\,\Big(\sum_k u_k q_k - z \sum_k q_k\Big) + m\,e\sum_k q_k$$

where z is the u that stands for zero, and m, in blocks that have one, the least number. The bound of it all:
every x is off by at most half a unit, $|x - eq| \le \max|x| / 254$ over its block.

A panel is `LANES` columns. Block after block it holds their scales, their least numbers, and their whole
numbers, four of a column side by side; of 4 bits, a byte holds number k and number k + 16.

Rows of x lie in groups of 16, or one alone: block after block, the whole numbers of all its rows,
and then their notes.
"""

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from handgrad.kernels.integer_dot import byte_multiply_adder
from handgrad.kernels.machine import FEATURES, LANES
from handgrad.kernels.own_function import own_function
from handgrad.kernels.quantize import LEAST_BITS, ROUNDING, larger
from handgrad.kernels.vector import (
    F32,
    I32,
    VECTOR,
    WORDS,
    at_address,
    broadcast,
    counted_loop,
    emit_prefetch,
    i64,
    load_vector,
    multiply_adder,
    row_address,
    same,
    splat,
)

BLOCK = 32
"""Numbers of a block."""
TOP = 127.0
NOTES = 16
"""Bytes beside a block of x: its scale e, e times its sum, minus 128 and minus 8 times its sum."""
GROUP = 16
"""Rows of a group."""
MOST_ROWS = 8 if LANES == 16 else 4
"""Rows at a time: as many as there are registers for."""
AHEAD = 8192
"""Bytes of a panel from what is multiplied to what is asked for."""
HAS_HALVES = bool(FEATURES.get("f16c") or FEATURES.get("fullfp16"))
SCALE: type = np.float16 if HAS_HALVES else np.float32
"""What scales are kept as: float16, as files have them, where the processor converts them."""
SCALES = ir.VectorType(ir.HalfType() if HAS_HALVES else F32, LANES)
SCALE_BYTES = np.dtype(SCALE).itemsize * LANES


class Kind(NamedTuple):
    """What a panel's blocks are."""

    name: str
    n_bits: int
    zero: int
    """The whole number that stands for zero."""
    has_least: bool

    @property
    def header(self) -> int:
        """Bytes of a block's scales and least numbers."""
        return SCALE_BYTES * (2 if self.has_least else 1)

    @property
    def start(self) -> int:
        """Bytes from a row's notes to minus `zero` times its sum, where zero is not 0."""
        return 8 if self.zero == 128 else 12

    @property
    def size(self) -> int:
        """Bytes of a block of a panel."""
        return self.header + BLOCK * LANES * self.n_bits // 8


Q8_0 = Kind("Q8_0", 8, 128, False)
Q4_0 = Kind("Q4_0", 4, 8, False)
Q4_1 = Kind("Q4_1", 4, 0, True)


def emit_scales(builder: ir.IRBuilder, at: ir.Value, offset: int) -> ir.Value:
    """The float32 scales, or least numbers, of a block."""
    numbers = builder.load(at_address(builder, at, offset, SCALES), align=2)
    return builder.fpext(numbers, VECTOR) if HAS_HALVES else numbers


def emit_whole_numbers(builder: ir.IRBuilder, kind: Kind, at: ir.Value) -> list[ir.Value]:
    """Eight vectors: four numbers of every column each."""
    n_vectors = BLOCK * kind.n_bits // 32
    packed = [load_vector(builder, at, kind.header + 4 * LANES * v, WORDS) for v in range(n_vectors)]
    if kind.n_bits == 8:
        return packed
    nibbles, four = same(WORDS, 0x0F0F0F0F), same(WORDS, 4)
    low = [builder.and_(word, nibbles) for word in packed]
    return low + [builder.and_(builder.lshr(word, four), nibbles) for word in packed]


def _emit(
    kind: Kind, n_rows: int, builder: ir.IRBuilder, at: ir.Value, n_blocks: ir.Value, q: ir.Value,
    notes: ir.Value, step: ir.Value, out: ir.Value, out_stride: ir.Value,
) -> None:  # fmt: skip
    """The sums of one panel."""
    dot, multiply_add = byte_multiply_adder(builder), multiply_adder(builder)

    def body(state: list[ir.Value]) -> list[ir.Value]:
        at, q, notes, *totals = state
        for line in range(0, kind.size, 64):
            emit_prefetch(builder, builder.add(at, i64(AHEAD + line)), to_write=False, locality=1)
        scales = emit_scales(builder, at, 0)
        least = emit_scales(builder, at, SCALE_BYTES) if kind.has_least else None
        numbers = emit_whole_numbers(builder, kind, at)
        for i in range(n_rows):
            start = same(WORDS, 0)
            if kind.zero:
                start = broadcast(builder, notes, NOTES * i + kind.start, WORDS)
            halves = [start, same(WORDS, 0)]  # two sums: neither waits for all products
            for j, number in enumerate(numbers):
                four = broadcast(builder, q, BLOCK * i + 4 * j, WORDS)
                halves[j % 2] = dot(number, four, halves[j % 2])
            whole = builder.sitofp(builder.add(*halves), VECTOR)
            factor = builder.fmul(scales, broadcast(builder, notes, NOTES * i))
            totals[i] = multiply_add(whole, factor, totals[i])
            if least is not None:
                totals[i] = multiply_add(least, broadcast(builder, notes, NOTES * i + 4), totals[i])
        return [builder.add(at, i64(kind.size)), builder.add(q, step), builder.add(notes, step), *totals]

    zeros = [same(VECTOR, 0.0)] * n_rows
    _, _, _, *totals = counted_loop(builder, n_blocks, [at, q, notes, *zeros], body)
    for i, total in enumerate(totals):
        builder.store(
            total, at_address(builder, row_address(builder, out, out_stride, i), 0, VECTOR), align=4
        )


def _summing(kind: Kind, n_rows: int) -> Any:
    @intrinsic
    def sums(typing_context: Any, at: Any, n_blocks: Any, q: Any, notes: Any, step: Any, out: Any) -> Any:
        def call(context: Any, builder: ir.IRBuilder, signature: Any, args: Sequence[ir.Value]) -> Any:
            *first, out = args
            place = [builder.extract_value(out, i) for i in range(2)]
            emit = functools.partial(_emit, kind, n_rows)
            function = own_function(builder.module, f"sums_of_{n_rows}_rows_{kind.name}", 7, emit)
            builder.call(function, [*first, *place])
            return context.get_dummy_value()

        return types.void(*[types.int64] * 5, out), call

    return sums


SUMS = {kind: {n: _summing(kind, n) for n in (1, 2, 4, MOST_ROWS)} for kind in (Q8_0, Q4_0, Q4_1)}
"""SUMS[kind][n](at, n_blocks, q, notes, step, (out, stride)): one panel's columns of n rows.

q and notes are the addresses of the first row's; those of its next block are `step` bytes on.
"""


def _emit_quantize(
    builder: ir.IRBuilder, q: ir.Value, notes: ir.Value, step: ir.Value, x: ir.Value, n_blocks: ir.Value
) -> None:
    n_vectors, bytes_of = BLOCK // LANES, ir.VectorType(ir.IntType(8), LANES)
    multiply_add = multiply_adder(builder)
    reduced = {
        name: builder.module.declare_intrinsic(
            f"llvm.vector.reduce.{name}.v{LANES}i32", (), ir.FunctionType(I32, [WORDS])
        )
        for name in ("smax", "add")
    }

    def body(state: list[ir.Value]) -> list[ir.Value]:
        q, notes, x = state
        numbers = [load_vector(builder, x, 4 * LANES * j) for j in range(n_vectors)]
        top = same(WORDS, 0)
        for number in numbers:
            top = larger(builder, top, number)
        size = builder.call(reduced["smax"], [top])
        largest = builder.bitcast(size, F32)
        is_nothing = builder.icmp_signed("<", size, ir.Constant(I32, LEAST_BITS))
        per_one = builder.select(is_nothing, same(F32, 0.0), builder.fdiv(same(F32, TOP), largest))
        scale = builder.select(is_nothing, same(F32, 0.0), builder.fmul(largest, same(F32, 1.0 / TOP)))
        factor, sums = splat(builder, per_one), same(WORDS, 0)
        base = same(WORDS, int(np.float32(ROUNDING).view(np.int32)))
        for j, number in enumerate(numbers):
            word = builder.bitcast(multiply_add(number, factor, same(VECTOR, ROUNDING)), WORDS)
            word = builder.sub(word, base)
            sums = builder.add(sums, word)
            small = builder.trunc(word, bytes_of)
            builder.store(small, at_address(builder, q, LANES * j, bytes_of), align=1)
        total = builder.call(reduced["add"], [sums])
        weighted = builder.fmul(scale, builder.sitofp(total, F32))
        minus = [builder.mul(total, ir.Constant(I32, -kind.zero)) for kind in (Q8_0, Q4_0)]
        for j, note in enumerate([scale, weighted, *minus]):
            builder.store(note, at_address(builder, notes, 4 * j, note.type), align=4)
        return [builder.add(q, step), builder.add(notes, step), builder.add(x, i64(4 * BLOCK))]

    counted_loop(builder, n_blocks, [q, notes, x], body)


@intrinsic
def quantize_row(typing_context: Any, q: Any, notes: Any, step: Any, x: Any, n_blocks: Any) -> Any:
    """Blocks of whole numbers at `q` and their notes, of the float32 numbers at `x`: all are addresses.

    The next block's are `step` bytes on. Where one of a block is no number, the block's scale is none.
    """

    def emit(context: Any, builder: ir.IRBuilder, signature: Any, args: Sequence[ir.Value]) -> Any:
        builder.call(own_function(builder.module, "quantize_row", 5, _emit_quantize), args)
        return context.get_dummy_value()

    return types.void(*[types.int64] * 5), emit
