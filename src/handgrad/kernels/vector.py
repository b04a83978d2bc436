"""What Numba's Python cannot say: vectors held in registers, written as LLVM instructions.

Addresses are integers, in bytes. A tile is a small block of a product, C[rows, columns] = A[rows, K] @
B[K, columns] + start, accumulated in registers over all of K. B is packed, so that a step of K is one
contiguous run of `TILE_COLUMNS` numbers. There are two kinds of A:

- `tile_of_rows`: A[i, k] lies at a + i stride + 4 k, as in a row-major array;
- `tile_of_columns`: A[i, k] lies at a + k stride + 4 i, as in a transposed one, or in one packed for it.
"""

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from handgrad.kernels.machine import LANES, TILE_ROWS

I32, I64, F32 = ir.IntType(32), ir.IntType(64), ir.FloatType()
VECTOR = ir.VectorType(F32, LANES)
UNDEFINED = ir.Constant(VECTOR, ir.Undefined)
UNROLL = 4
N_VECTORS = 2
"""Vectors in a row of a tile."""


def _i64(value: int) -> ir.Constant:
    return ir.Constant(I64, value)


def at_address(builder: Any, address: Any, offset: int, kind: Any) -> Any:
    return builder.inttoptr(builder.add(address, _i64(offset)) if offset else address, kind.as_pointer())


def _load(builder: Any, address: Any, offset: int = 0) -> Any:
    return builder.load(at_address(builder, address, offset, VECTOR), align=4)


def _broadcast(builder: Any, address: Any, offset: int) -> Any:
    """A vector with the number at address + offset in every lane."""
    number = builder.load(at_address(builder, address, offset, F32), align=4)
    first = builder.insert_element(UNDEFINED, number, ir.Constant(I32, 0))
    return builder.shuffle_vector(first, UNDEFINED, ir.Constant(ir.VectorType(I32, LANES), [0] * LANES))


def _prefetch(builder: Any, address: Any, *, to_write: bool) -> None:
    pointer = ir.IntType(8).as_pointer()
    kind = ir.FunctionType(ir.VoidType(), [pointer, I32, I32, I32])
    function = builder.module.declare_intrinsic("llvm.prefetch.p0", (), kind)
    builder.call(
        function, [builder.inttoptr(address, pointer), *(ir.Constant(I32, i) for i in (int(to_write), 3, 1))]
    )


def multiply_adder(builder: Any) -> Callable[[Any, Any, Any], Any]:
    kind = ir.FunctionType(VECTOR, [VECTOR] * 3)
    function = builder.module.declare_intrinsic(f"llvm.fmuladd.v{LANES}f32", (), kind)
    return lambda a, b, c: builder.call(function, [a, b, c])


def counted_loop(
    builder: Any, count: Any, state: list[Any], body: Callable[[list[Any]], list[Any]]
) -> list[Any]:
    """`state = body(state)`, `count` times, the state in registers."""
    before, function = builder.block, builder.function
    head, inside, after = (function.append_basic_block(name) for name in ("head", "body", "after"))
    builder.branch(head)
    builder.position_at_end(head)
    step = builder.phi(I64)
    step.add_incoming(_i64(0), before)
    phis = [builder.phi(value.type) for value in state]
    for phi, value in zip(phis, state, strict=True):
        phi.add_incoming(value, before)
    builder.cbranch(builder.icmp_signed("<", step, count), inside, after)
    builder.position_at_end(inside)
    result = body(phis)
    step.add_incoming(builder.add(step, _i64(1)), builder.block)
    for phi, value in zip(phis, result, strict=True):
        phi.add_incoming(value, builder.block)
    builder.branch(head)
    builder.position_at_end(after)
    return phis


def _tile(by_columns: bool) -> Any:
    @intrinsic
    def tile(
        typing_context: Any, c: Any, c_stride: Any, start: Any, start_stride: Any, a: Any, a_stride: Any,
        last_row: Any, b: Any, n_steps: Any,
    ) -> Any:  # fmt: skip
        """C = A @ B + start, for one tile; rows of A after `last_row` are read as that row."""

        def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            c, c_stride, start, start_stride, a, a_stride, last_row, b, n_steps = args
            multiply_add = multiply_adder(builder)
            for i in range(TILE_ROWS):
                _prefetch(builder, builder.add(c, builder.mul(c_stride, _i64(i))), to_write=True)

            def row(i: int) -> Any:
                index = _i64(i)
                within = builder.icmp_signed("<", index, last_row)
                return builder.add(a, builder.mul(a_stride, builder.select(within, index, last_row)))

            rows = [] if by_columns else [row(i) for i in range(TILE_ROWS)]

            def steps(n: int) -> Callable[[list[Any]], list[Any]]:
                """n steps of K. The state: how far A has been read, where B is, the accumulators."""

                def body(state: list[Any]) -> list[Any]:
                    at, b, *sums = state
                    for step in range(n):
                        columns = [
                            _load(builder, b, 4 * LANES * (N_VECTORS * step + j)) for j in range(N_VECTORS)
                        ]
                        for i in range(TILE_ROWS):
                            if by_columns:
                                factor = _broadcast(builder, at, 4 * i)
                            else:
                                factor = _broadcast(builder, builder.add(rows[i], at), 4 * step)
                            for j in range(N_VECTORS):
                                n_sum = N_VECTORS * i + j
                                sums[n_sum] = multiply_add(factor, columns[j], sums[n_sum])
                        if by_columns:
                            at = builder.add(at, a_stride)
                    if not by_columns:
                        at = builder.add(at, _i64(4 * n))
                    return [at, builder.add(b, _i64(4 * LANES * N_VECTORS * n)), *sums]

                return body

            zero = ir.Constant(VECTOR, [0.0] * LANES)
            state = [a if by_columns else _i64(0), b, *([zero] * (TILE_ROWS * N_VECTORS))]
            state = counted_loop(builder, builder.sdiv(n_steps, _i64(UNROLL)), state, steps(UNROLL))
            state = counted_loop(builder, builder.srem(n_steps, _i64(UNROLL)), state, steps(1))
            for i in range(TILE_ROWS):
                from_row = builder.add(start, builder.mul(start_stride, _i64(i)))
                to_row = builder.add(c, builder.mul(c_stride, _i64(i)))
                for j in range(N_VECTORS):
                    total = builder.fadd(
                        state[2 + N_VECTORS * i + j], _load(builder, from_row, 4 * LANES * j)
                    )
                    builder.store(total, at_address(builder, to_row, 4 * LANES * j, VECTOR), align=4)
            return context.get_dummy_value()

        return types.void(*[types.int64] * 9), emit

    return tile


tile_of_rows = _tile(by_columns=False)
tile_of_columns = _tile(by_columns=True)


@intrinsic
def transpose_block(
    typing_context: Any, target: Any, target_stride: Any, source: Any, source_stride: Any
) -> Any:
    """Transpose LANES x LANES numbers: stage s exchanges bit s of the row with bit s of the column."""

    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        target, target_stride, source, source_stride = args
        rows = [
            _load(builder, builder.add(source, builder.mul(source_stride, _i64(i)))) for i in range(LANES)
        ]
        bit = 1
        while bit < LANES:
            upper = [LANES + (c ^ bit) if c & bit else c for c in range(LANES)]
            lower = [LANES + c if c & bit else c | bit for c in range(LANES)]
            masks = [ir.Constant(ir.VectorType(I32, LANES), lanes) for lanes in (upper, lower)]
            for i in (i for i in range(LANES) if not i & bit):
                pair = rows[i], rows[i | bit]
                rows[i], rows[i | bit] = (builder.shuffle_vector(*pair, mask) for mask in masks)
            bit *= 2
        for i in range(LANES):
            to_row = builder.add(target, builder.mul(target_stride, _i64(i)))
            builder.store(rows[i], at_address(builder, to_row, 0, VECTOR), align=4)
        return context.get_dummy_value()

    return types.void(*[types.int64] * 4), emit


@intrinsic
def prefetch(typing_context: Any, address: Any) -> Any:
    """Ask for the cache line at an address; nothing happens where there is none."""

    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        _prefetch(builder, args[0], to_write=False)
        return context.get_dummy_value()

    return types.void(types.int64), emit


@intrinsic
def load(typing_context: Any, address: Any) -> Any:
    """The float32 at an address."""

    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.load(at_address(builder, args[0], 0, F32), align=4)

    return types.float32(types.int64), emit


@intrinsic
def store(typing_context: Any, address: Any, number: Any) -> Any:
    """Write a float32 to an address."""

    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        builder.store(args[1], at_address(builder, args[0], 0, F32), align=4)
        return context.get_dummy_value()

    return types.void(types.int64, types.float32), emit


@intrinsic
def move(typing_context: Any, target: Any, source: Any) -> Any:
    """Copy one vector from address to address: addresses may overlap, so a loop of numbers stays one."""

    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        target, source = args
        builder.store(_load(builder, source), at_address(builder, target, 0, VECTOR), align=4)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64), emit


@intrinsic
def larger(typing_context: Any, x: Any, y: Any) -> Any:
    """The larger of two float32; either, where one is NaN. Sums of it, so to speak, run in vectors."""

    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        function = builder.module.declare_intrinsic("llvm.maxnum.f32", (), ir.FunctionType(F32, [F32, F32]))
        return builder.call(function, args, fastmath=("nnan", "nsz"))

    return types.float32(types.float32, types.float32), emit


@intrinsic
def rounded(typing_context: Any, x: Any) -> Any:
    """The nearest whole number, as a float32."""

    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        function = builder.module.declare_intrinsic("llvm.rint.f32", (), ir.FunctionType(F32, [F32]))
        return builder.call(function, args)

    return types.float32(types.float32), emit


@intrinsic
def power_of_two(typing_context: Any, n: Any) -> Any:
    """2^n for a whole number n from -127 (which gives 0) to 127, put together from its bits."""

    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        exponent = builder.add(builder.fptosi(args[0], I32), ir.Constant(I32, 127))
        return builder.bitcast(builder.shl(exponent, ir.Constant(I32, 23)), F32)

    return types.float32(types.float32), emit


@intrinsic
def bits(typing_context: Any, x: Any) -> Any:
    """The bits of a float32."""

    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.bitcast(args[0], I32)

    return types.uint32(types.float32), emit


@intrinsic
def from_bits(typing_context: Any, pattern: Any) -> Any:
    """The float32 of these bits."""

    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.bitcast(args[0], F32)

    return types.float32(types.uint32), emit
