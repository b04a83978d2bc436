r"""The exponentials of a row, and sums with them, in whole vectors.

LLVM makes vectors of such a loop by itself, many at a time, and leaves what does not fill them to a loop of
single numbers: in attention, whose rows are short, that was most of the work. So rows are filled up here to a
multiple of `LANES`, with scores of $-\infty$ whose exponential is zero.

The exponential is that of `functions`, step by step.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from handgrad.kernels import functions as f
from handgrad.kernels.machine import LANES
from handgrad.kernels.vector import (
    I32,
    VECTOR,
    at_address,
    counted_loop,
    i64,
    load_vector,
    multiply_adder,
    splat,
    sum_of,
)

INTEGERS = ir.VectorType(I32, LANES)
NOTHING = np.float32(-np.inf)


def _constant(number: np.float32) -> ir.Constant:
    return ir.Constant(VECTOR, [float(number)] * LANES)


def emit_exp(builder: ir.IRBuilder, x: ir.Value) -> ir.Value:
    """`functions.exp` of a vector."""
    multiply_add = multiply_adder(builder)
    lowest, highest = _constant(f.LOWEST), _constant(f.HIGHEST)
    x = builder.select(builder.fcmp_ordered("<", x, lowest), lowest, x)  # these two leave a NaN
    x = builder.select(builder.fcmp_ordered(">", x, highest), highest, x)
    number = builder.select(builder.fcmp_ordered(">", x, lowest), x, lowest)  # and this one does not
    rint = builder.module.declare_intrinsic(f"llvm.rint.v{LANES}f32", (), ir.FunctionType(VECTOR, [VECTOR]))
    n = builder.call(rint, [builder.fmul(number, _constant(f.INVERSE_LN2))])
    r = multiply_add(n, _constant(-f.LN2_HIGH), x)
    r = multiply_add(n, _constant(-f.LN2_LOW), r)
    p = _constant(f.T7)
    for coefficient in (f.T6, f.T5, f.T4, f.T3, f.HALF):
        p = multiply_add(p, r, _constant(coefficient))
    exponent = builder.add(builder.fptosi(n, INTEGERS), ir.Constant(INTEGERS, [127] * LANES))
    power = builder.bitcast(builder.shl(exponent, ir.Constant(INTEGERS, [23] * LANES)), VECTOR)
    e = builder.fadd(multiply_add(builder.fmul(p, r), r, r), _constant(f.ONE))
    return builder.fmul(e, power)


def _summing(step: Callable[..., tuple[ir.Value, ir.Value]], n_rows: int) -> Any:
    """Walk along rows at `n_rows` addresses, `n` vectors of them: the sum of what `step` gives second.

    What it gives first is written into the first row.
    """

    @intrinsic
    def walk(typing_context: Any, rows: Any, n: Any, numbers: Any) -> Any:
        """`rows` is a tuple of addresses, `numbers` one of float32 numbers."""

        def emit(context: Any, builder: ir.IRBuilder, signature: Any, args: Sequence[ir.Value]) -> Any:
            addresses = [builder.extract_value(args[0], i) for i in range(n_rows)]
            factors = [splat(builder, builder.extract_value(args[2], i)) for i in range(len(numbers))]

            def body(state: list[ir.Value]) -> list[ir.Value]:
                at, total = state
                here = [builder.add(address, at) for address in addresses]
                vectors = [load_vector(builder, address) for address in here]
                kept, counted = step(builder, vectors, factors)
                builder.store(kept, at_address(builder, here[0], 0, VECTOR), align=4)
                return [builder.add(at, i64(4 * LANES)), builder.fadd(total, counted)]

            zero = ir.Constant(VECTOR, [0.0] * LANES)
            _, total = counted_loop(builder, args[1], [i64(0), zero], body)
            return sum_of(builder, total)

        return types.float32(rows, types.int64, numbers), emit

    return walk


def _numerator(
    builder: ir.IRBuilder, vectors: list[ir.Value], numbers: list[ir.Value]
) -> tuple[ir.Value, ir.Value]:
    (x,), (scale, top) = vectors, numbers
    e = emit_exp(builder, builder.fmul(builder.fsub(x, top), scale))
    return e, e


def _probability(
    builder: ir.IRBuilder, vectors: list[ir.Value], numbers: list[ir.Value]
) -> tuple[ir.Value, ir.Value]:
    (x, dp), (scale, top, z) = vectors, numbers
    p = builder.fmul(emit_exp(builder, builder.fmul(builder.fsub(x, top), scale)), z)
    return p, builder.fmul(p, dp)


numerators = _summing(_numerator, 1)
"""numerators((row,), n, (scale, top)): n vectors of `row` become exp(scale (row - top)); their sum."""
probabilities = _summing(_probability, 2)
"""probabilities((row, dprobs), n, (scale, top, z)): `row` becomes z exp(scale (row - top)).

It returns the sum of `row` times `dprobs`.
"""
