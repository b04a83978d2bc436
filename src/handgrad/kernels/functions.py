r"""Elementary functions of one float32, without branches: loops of them run in vectors.

$$e^x = 2^n e^r,\qquad n = \operatorname{round}(x/\ln2),\quad |r| = |x - n\ln2| \le \tfrac12\ln2$$

$e^r$ is Taylor's polynomial of degree 7, whose rest is $5\cdot10^{-9}$ there, below float32's rounding;
$\ln2$ is split in two so that $n\ln2$ loses nothing (Cody & Waite, "Software manual for the elementary
functions", 1980). The error function is the op's, with the op's polynomial.
"""

import math

import numpy as np

from handgrad.kernels.jit import inner
from handgrad.kernels.vector import bits, from_bits, power_of_two, rounded
from handgrad.ops.erf import P_FLOAT32

ZERO, ONE, TWO, HALF = np.float32(0.0), np.float32(1.0), np.float32(2.0), np.float32(0.5)
LOWEST, HIGHEST = np.float32(-88.0), np.float32(88.7)
"""Beyond these e^x as computed is 0 or infinite: infinite from 127.5 ln 2 = 88.38 on."""
INVERSE_LN2 = np.float32(1.0 / math.log(2.0))
LN2_HIGH = np.float32(0.693359375)
LN2_LOW = np.float32(math.log(2.0) - 0.693359375)
T3, T4, T5, T6, T7 = (np.float32(1.0 / math.factorial(n)) for n in range(3, 8))
E0, E1, E2, E3, E4, E5, E6, E7, E8, E9, E10 = (np.float32(c) for c in P_FLOAT32)
THREE = np.float32(3.0)
LEAST = np.int32(-(1 << 31))
SQRT_HALF = np.float32(math.sqrt(0.5))
INVERSE_SQRT_TWO_PI = np.float32(1.0 / math.sqrt(2.0 * math.pi))


@inner
def exp(x):
    power, r, p = _reduced(x)
    return (p * r * r + r + ONE) * power


@inner
def _reduced(x):
    """2^n, r, and the p of e^r = 1 + r + p r^2. A NaN stays one in r, but n is a number even then."""
    x = LOWEST if x < LOWEST else x
    x = HIGHEST if x > HIGHEST else x
    n = rounded((x if x > LOWEST else LOWEST) * INVERSE_LN2)
    r = (x - n * LN2_HIGH) - n * LN2_LOW
    p = ((((T7 * r + T6) * r + T5) * r + T4) * r + T3) * r + HALF
    return power_of_two(n), r, p


@inner
def sigmoid(x):
    return ONE / (ONE + exp(-x))


@inner
def tanh(x):
    """From e^(-2|x|) - 1, which is 2^n (e^r - 1) + (2^n - 1): exact to some roundings near zero, too."""
    power, r, p = _reduced(-TWO * (x if x > ZERO else -x))
    e = (p * r * r + r) * power + (power - ONE)
    t = e / (e + TWO)
    return t if x < ZERO else -t


@inner
def bell(x):
    """exp(-x^2 / 2), of which `normal_cdf` and `normal_density` are made."""
    return exp(-HALF * x * x)


@inner
def normal_cdf(x, bell_x):
    """The probability that a standard normal number is below x, by the tail: erfc(|x| / sqrt 2) / 2."""
    z = (x if x > ZERO else -x) * SQRT_HALF
    t = THREE / (THREE + z)
    s = TWO * t - ONE
    p = ((((E0 * s + E1) * s + E2) * s + E3) * s + E4) * s + E5
    p = ((((p * s + E6) * s + E7) * s + E8) * s + E9) * s + E10
    tail = HALF * t * p * bell_x
    return ONE - tail if x > ZERO else tail


@inner
def normal_density(bell_x):
    return INVERSE_SQRT_TWO_PI * bell_x


@inner
def largest(x):
    """The largest of x. It may ignore a NaN; later arithmetic on x propagates it.

    It compares bit patterns as integers, which sort like the numbers. LLVM vectorizes a maximum of integers;
    of float32 only if told that there is no NaN.
    """
    top = LEAST
    for i in range(x.size):
        top = max(top, _ordered(np.int32(bits(x[i]))))
    return from_bits(np.uint32(_ordered(top)))


@inner
def _ordered(pattern):
    """A float32's bits as an integer, negative numbers turned round; its own inverse."""
    return np.int32(pattern ^ (np.int32(pattern >> np.int32(31)) & np.int32(0x7FFFFFFF)))
