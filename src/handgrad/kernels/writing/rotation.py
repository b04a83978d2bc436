"""Rotary positions of one head: neighbouring components are rotated, in vectors.

x_2i, x_2i+1 -> x_2i cos - x_2i+1 sin, x_2i+1 cos + x_2i sin
"""

from collections.abc import Sequence
from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from handgrad.kernels.jit import inner
from handgrad.kernels.machine import LANES
from handgrad.kernels.vector import (
    F32,
    I32,
    VECTOR,
    at_address,
    counted_loop,
    i64,
    load_vector,
    multiply_adder,
)

PAIRS = LANES // 2
"""Pairs in a vector."""
HALF_VECTOR = ir.VectorType(F32, PAIRS)


def _lanes(numbers: Sequence[int]) -> ir.Constant:
    return ir.Constant(ir.VectorType(I32, len(numbers)), list(numbers))


def _for_both(builder: ir.IRBuilder, address: ir.Value) -> ir.Value:
    """PAIRS numbers, each for both components of a pair."""
    numbers = builder.load(at_address(builder, address, 0, HALF_VECTOR), align=4)
    return builder.shuffle_vector(numbers, numbers, _lanes([i // 2 for i in range(LANES)]))


@intrinsic
def turn_vectors(typing_context: Any, to: Any, source: Any, cos: Any, sin: Any, n_vectors: Any) -> Any:
    """All are addresses; `to` may be `source`."""

    def emit(context: Any, builder: ir.IRBuilder, signature: Any, args: Sequence[ir.Value]) -> Any:
        *addresses, n_vectors = args
        signs = ir.Constant(VECTOR, [-1.0, 1.0] * PAIRS)
        multiply_add = multiply_adder(builder)

        def body(state: list[ir.Value]) -> list[ir.Value]:
            to, source, cos, sin = state
            x = load_vector(builder, source)
            other = builder.shuffle_vector(x, x, _lanes([i ^ 1 for i in range(LANES)]))
            turned = builder.fmul(other, builder.fmul(_for_both(builder, sin), signs))
            turned = multiply_add(x, _for_both(builder, cos), turned)
            builder.store(turned, at_address(builder, to, 0, VECTOR), align=4)
            sizes = (4 * LANES, 4 * LANES, 4 * PAIRS, 4 * PAIRS)
            return [builder.add(address, i64(size)) for address, size in zip(state, sizes, strict=True)]

        counted_loop(builder, n_vectors, addresses, body)
        return context.get_dummy_value()

    return types.void(*[types.int64] * 5), emit


@inner
def turn(head, source, cos, sin):
    """One head, which may be the source."""
    n = cos.size // PAIRS
    turn_vectors(head.ctypes.data, source.ctypes.data, cos.ctypes.data, sin.ctypes.data, n)
    for i in range(n * PAIRS, cos.size):
        even, odd = source[2 * i], source[2 * i + 1]
        head[2 * i], head[2 * i + 1] = even * cos[i] - odd * sin[i], odd * cos[i] + even * sin[i]
