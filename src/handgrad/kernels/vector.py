"""What Numba's Python cannot say: vectors held in registers, written as LLVM instructions.

Addresses are integers, in bytes.
"""

from collections.abc import Callable, Sequence
from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from handgrad.kernels.machine import LANES

I32, I64, F32 = ir.IntType(32), ir.IntType(64), ir.FloatType()
VECTOR = ir.VectorType(F32, LANES)
WORDS = ir.VectorType(I32, LANES)


def i64(value: int) -> ir.Constant:
    """A constant."""
    return ir.Constant(I64, value)


def at_address(builder: ir.IRBuilder, address: ir.Value, offset: int, kind: ir.Type) -> ir.Value:
    """A pointer to `kind` at address + offset."""
    return builder.inttoptr(builder.add(address, i64(offset)) if offset else address, kind.as_pointer())


def load_vector(
    builder: ir.IRBuilder, address: ir.Value, offset: int = 0, kind: ir.VectorType = VECTOR
) -> ir.Value:
    """The vector at address + offset."""
    return builder.load(at_address(builder, address, offset, kind), align=4)


def broadcast(
    builder: ir.IRBuilder, address: ir.Value, offset: int = 0, kind: ir.VectorType = VECTOR
) -> ir.Value:
    """A vector with the number at address + offset in every lane."""
    return splat(builder, builder.load(at_address(builder, address, offset, kind.element), align=4))


def splat(builder: ir.IRBuilder, number: ir.Value) -> ir.Value:
    """A vector with `number` in every lane."""
    undefined = ir.Constant(ir.VectorType(number.type, LANES), ir.Undefined)
    first = builder.insert_element(undefined, number, ir.Constant(I32, 0))
    return builder.shuffle_vector(first, undefined, ir.Constant(WORDS, [0] * LANES))


def same(kind: ir.Type, value: float) -> ir.Constant:
    """A constant, or a vector with it in every lane."""
    return ir.Constant(kind, [value] * kind.count if isinstance(kind, ir.VectorType) else value)


def combined(
    builder: ir.IRBuilder, vector: ir.Value, both: Callable[[ir.Value, ir.Value], ir.Value]
) -> ir.Value:
    """A vector's numbers, combined in pairs: `both` of its halves, until one number is left."""
    width = LANES
    while width > 1:
        width //= 2
        lower, upper = (
            ir.Constant(ir.VectorType(I32, width), list(range(first, first + width))) for first in (0, width)
        )
        vector = both(*(builder.shuffle_vector(vector, vector, half) for half in (lower, upper)))
    return builder.extract_element(vector, ir.Constant(I32, 0))


def sum_of(builder: ir.IRBuilder, vector: ir.Value) -> ir.Value:
    """The sum of a vector's numbers."""
    return combined(builder, vector, builder.fadd)


def emit_prefetch(builder: ir.IRBuilder, address: ir.Value, *, to_write: bool, locality: int = 3) -> None:
    """Ask for the cache line at an address: 3 into the first cache, less into those behind it."""
    pointer = ir.IntType(8).as_pointer()
    kind = ir.FunctionType(ir.VoidType(), [pointer, I32, I32, I32])
    function = builder.module.declare_intrinsic("llvm.prefetch.p0", (), kind)
    builder.call(
        function,
        [builder.inttoptr(address, pointer), *(ir.Constant(I32, i) for i in (int(to_write), locality, 1))],
    )


def multiply_adder(builder: ir.IRBuilder) -> Callable[[ir.Value, ir.Value, ir.Value], ir.Value]:
    """The function a b + c of vectors, rounded once where the processor can."""
    kind = ir.FunctionType(VECTOR, [VECTOR] * 3)
    function = builder.module.declare_intrinsic(f"llvm.fmuladd.v{LANES}f32", (), kind)
    return lambda a, b, c: builder.call(function, [a, b, c])


def counted_loop(
    builder: ir.IRBuilder,
    count: ir.Value,
    state: list[ir.Value],
    body: Callable[[list[ir.Value]], list[ir.Value]],
) -> list[ir.Value]:
    """`state = body(state)`, `count` times. A phi for each part of the state keeps it in a register."""
    before, function = builder.block, builder.function
    head, inside, after = (function.append_basic_block(name) for name in ("head", "body", "after"))
    builder.branch(head)
    builder.position_at_end(head)
    step = builder.phi(I64)
    step.add_incoming(i64(0), before)
    phis = [builder.phi(value.type) for value in state]
    for phi, value in zip(phis, state, strict=True):
        phi.add_incoming(value, before)
    builder.cbranch(builder.icmp_signed("<", step, count), inside, after)
    builder.position_at_end(inside)
    result = body(phis)
    step.add_incoming(builder.add(step, i64(1)), builder.block)
    for phi, value in zip(phis, result, strict=True):
        phi.add_incoming(value, builder.block)
    builder.branch(head)
    builder.position_at_end(after)
    return phis


def row_address(builder: ir.IRBuilder, address: ir.Value, stride: ir.Value, row: int) -> ir.Value:
    """The address of a row of numbers whose rows stand `stride` bytes apart."""
    return builder.add(address, builder.mul(stride, i64(row)))


def _prefetching(to_write: bool, locality: int = 3) -> Any:
    @intrinsic
    def prefetch(typing_context: Any, address: Any) -> Any:
        def emit(context: Any, builder: ir.IRBuilder, signature: Any, args: Sequence[ir.Value]) -> Any:
            emit_prefetch(builder, args[0], to_write=to_write, locality=locality)
            return context.get_dummy_value()

        return types.void(types.int64), emit

    return prefetch


prefetch, prefetch_to_write = _prefetching(False), _prefetching(True)
"""Ask for the cache line at an address, to read it or to write it; nothing happens where there is none."""
prefetch_far = _prefetching(False, locality=1)
"""The same, into a cache behind the first: more lines can be on their way there, which streams need."""


@intrinsic
def load(typing_context: Any, address: Any) -> Any:
    """The float32 at an address."""

    def emit(context: Any, builder: ir.IRBuilder, signature: Any, args: Sequence[ir.Value]) -> Any:
        return builder.load(at_address(builder, args[0], 0, F32), align=4)

    return types.float32(types.int64), emit


@intrinsic
def store(typing_context: Any, address: Any, number: Any) -> Any:
    """Write a float32 to an address."""

    def emit(context: Any, builder: ir.IRBuilder, signature: Any, args: Sequence[ir.Value]) -> Any:
        builder.store(args[1], at_address(builder, args[0], 0, F32), align=4)
        return context.get_dummy_value()

    return types.void(types.int64, types.float32), emit


@intrinsic
def store_half(typing_context: Any, address: Any, number: Any) -> Any:
    """Write 16 bits to an address."""

    def emit(context: Any, builder: ir.IRBuilder, signature: Any, args: Sequence[ir.Value]) -> Any:
        builder.store(args[1], at_address(builder, args[0], 0, ir.IntType(16)), align=2)
        return context.get_dummy_value()

    return types.void(types.int64, types.uint16), emit


@intrinsic
def store_byte(typing_context: Any, address: Any, number: Any) -> Any:
    """Write 8 bits to an address."""

    def emit(context: Any, builder: ir.IRBuilder, signature: Any, args: Sequence[ir.Value]) -> Any:
        builder.store(args[1], at_address(builder, args[0], 0, ir.IntType(8)), align=1)
        return context.get_dummy_value()

    return types.void(types.int64, types.uint8), emit


@intrinsic
def rounded(typing_context: Any, x: Any) -> Any:
    """The nearest whole number, as a float32."""

    def emit(context: Any, builder: ir.IRBuilder, signature: Any, args: Sequence[ir.Value]) -> Any:
        function = builder.module.declare_intrinsic("llvm.rint.f32", (), ir.FunctionType(F32, [F32]))
        return builder.call(function, args)

    return types.float32(types.float32), emit


@intrinsic
def power_of_two(typing_context: Any, n: Any) -> Any:
    """2^n for a whole number n from -127 (which gives 0) to 128 (infinity), put together from its bits."""

    def emit(context: Any, builder: ir.IRBuilder, signature: Any, args: Sequence[ir.Value]) -> Any:
        exponent = builder.add(builder.fptosi(args[0], I32), ir.Constant(I32, 127))
        return builder.bitcast(builder.shl(exponent, ir.Constant(I32, 23)), F32)

    return types.float32(types.float32), emit


@intrinsic
def bits(typing_context: Any, x: Any) -> Any:
    """The bits of a float32."""

    def emit(context: Any, builder: ir.IRBuilder, signature: Any, args: Sequence[ir.Value]) -> Any:
        return builder.bitcast(args[0], I32)

    return types.uint32(types.float32), emit


@intrinsic
def from_bits(typing_context: Any, pattern: Any) -> Any:
    """The float32 of these bits."""

    def emit(context: Any, builder: ir.IRBuilder, signature: Any, args: Sequence[ir.Value]) -> Any:
        return builder.bitcast(args[0], F32)

    return types.float32(types.uint32), emit
