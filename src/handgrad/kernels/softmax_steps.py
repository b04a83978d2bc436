r"""What softmax does to one vector: exponentials and dropout's mask, as LLVM instructions.

$$2^x = 2^n (1 + r p(r)),\qquad n = \operatorname{round}(x),\quad |r| = |x - n| \le \tfrac12$$

The polynomial p has degree 4: $2^r$ is exact to $2\cdot10^{-7}$ of itself, two of float32's roundings.
"""

import math

import numpy as np
from llvmlite import ir

from handgrad.counted import FIRST, GOLDEN, SECOND
from handgrad.kernels.machine import LANES
from handgrad.kernels.vector import I32, VECTOR, WORDS, multiply_adder, same, splat

ZERO = same(VECTOR, 0.0)
INVERSE_LN2 = np.float32(1.0 / math.log(2.0))
LOWEST = -127.0
"""2^LOWEST as computed is 0."""
MAGIC = 1.5 * 2.0**23 + 127
"""A small number added to this is rounded to a whole one, n: the last bits become n + 127, as in 2^n."""
LN2 = math.log(2.0)
SERIES = np.polynomial.Polynomial([LN2**k / math.factorial(k) for k in range(1, 20)])
"""(2^r - 1) / r: the terms that follow are below float64's rounding."""
POLYNOMIAL = np.polynomial.Chebyshev.interpolate(SERIES, 4, [-0.5, 0.5]).convert(kind=type(SERIES))


def emit_exp2(builder: ir.IRBuilder, x: ir.Value) -> ir.Value:
    """2^x of a vector of numbers up to 0; a NaN stays one."""
    multiply_add = multiply_adder(builder)
    x = builder.select(builder.fcmp_ordered("<", x, same(VECTOR, LOWEST)), same(VECTOR, LOWEST), x)
    shifted = builder.fadd(x, same(VECTOR, MAGIC))
    r = builder.fsub(x, builder.fsub(shifted, same(VECTOR, MAGIC)))
    *coefficients, result = (same(VECTOR, float(np.float32(c))) for c in (1.0, *POLYNOMIAL.coef))
    for coefficient in reversed(coefficients):
        result = multiply_add(result, r, coefficient)
    power = builder.shl(builder.bitcast(shifted, WORDS), same(WORDS, 23))
    return builder.fmul(result, builder.bitcast(power, VECTOR))


def _half_mixed(builder: ir.IRBuilder, x: ir.Value) -> ir.Value:
    """One mixing of `random.draw`, without its first and its last step: x ^ (x >> 16)."""
    x = builder.mul(x, same(WORDS, FIRST))
    return builder.mul(_with_upper(builder, x, 15), same(WORDS, SECOND))


def _with_upper(builder: ir.IRBuilder, x: ir.Value, bits: int) -> ir.Value:
    return builder.xor(x, builder.lshr(x, same(x.type, bits)))


def emit_kept(builder: ir.IRBuilder, index: ir.Value, dropping: ir.Value) -> ir.Value:
    """Whether dropout keeps LANES numbers, the first of which has this index; `dropping` drops some.

    x ^ (x >> 16) undoes itself: where the first mixing's last step meets the second one's first, that of
    the key's half is left. The 24 bits drawn are compared where they stand, as the upper ones of 32.
    """
    low, high, limit = (builder.extract_value(dropping, i) for i in range(3))
    golden = ir.Constant(I32, GOLDEN)
    first = builder.add(builder.mul(builder.trunc(index, I32), golden), low)
    steps = ir.Constant(WORDS, [i * GOLDEN % (1 << 32) for i in range(LANES)])
    x = _half_mixed(builder, _with_upper(builder, builder.add(splat(builder, first), steps), 16))
    x = _half_mixed(builder, builder.xor(x, splat(builder, _with_upper(builder, high, 16))))
    dropped = builder.sub(builder.shl(limit, ir.Constant(I32, 8)), ir.Constant(I32, 1))  # up to this number
    return builder.icmp_unsigned(">", _with_upper(builder, x, 16), splat(builder, dropped))


def keep_where(builder: ir.IRBuilder, condition: ir.Value, x: ir.Value) -> ir.Value:
    """x, or zero."""
    return builder.select(condition, x, ZERO)
