"""Activations and their derivatives, row by row, rounded for the product that follows (see `rounding`).

For each name there is `NAME(y, slopes, x, spare)`, of x (M, D): y becomes f(x), and slopes f'(x). Each is an
operand or a float32 array; slopes may be x itself, which is used up, and `spare` has room for a row. Both
need the same exponentials, and backward is left with one product.

The parametric ReLU keeps x in place of slopes: the gradient of its parameter needs it. The formulas are those
of the ops.
"""

import numpy as np

from handgrad.kernels import functions as f
from handgrad.kernels.functions import ONE, TWO, ZERO
from handgrad.kernels.jit import kernel
from handgrad.kernels.rounding import float_row, round_row, value
from handgrad.ops import gelu_tanh as formula

LEAK = np.float32(0.01)
SLOPE, CUBIC = np.float32(formula.SLOPE), np.float32(formula.CUBIC)
SLOPE_3CUBIC = np.float32(formula.SLOPE * 3 * formula.CUBIC)


@kernel
def sigmoid(y, slopes, x, spare):
    for m in range(x.shape[0]):
        row, out = x[m], float_row(y, m, spare, x.shape[1])
        for i in range(row.size):
            s = f.sigmoid(row[i])
            out[i] = s
            row[i] = s * (ONE - s)
        round_row(y, m, out)
        round_row(slopes, m, row)


@kernel
def tanh(y, slopes, x, spare):
    for m in range(x.shape[0]):
        row, out = x[m], float_row(y, m, spare, x.shape[1])
        for i in range(row.size):
            t = f.tanh(row[i])
            out[i] = t
            row[i] = ONE - t * t
        round_row(y, m, out)
        round_row(slopes, m, row)


@kernel
def relu(y, slopes, x, spare):
    for m in range(x.shape[0]):
        row, out = x[m], float_row(y, m, spare, x.shape[1])
        for i in range(row.size):
            z = row[i]
            out[i] = ZERO if z <= ZERO else z
            row[i] = ONE if z > ZERO else ZERO
        round_row(y, m, out)
        round_row(slopes, m, row)


@kernel
def leaky_relu(y, slopes, x, spare):
    for m in range(x.shape[0]):
        row, out = x[m], float_row(y, m, spare, x.shape[1])
        for i in range(row.size):
            z = row[i]
            out[i] = z if z > ZERO else LEAK * z
            row[i] = ONE if z > ZERO else LEAK
        round_row(y, m, out)
        round_row(slopes, m, row)


@kernel
def relu_squared(y, slopes, x, spare):
    for m in range(x.shape[0]):
        row, out = x[m], float_row(y, m, spare, x.shape[1])
        for i in range(row.size):
            r = ZERO if row[i] <= ZERO else row[i]
            out[i] = r * r
            row[i] = TWO * r
        round_row(y, m, out)
        round_row(slopes, m, row)


@kernel
def gelu(y, slopes, x, spare):
    for m in range(x.shape[0]):
        row, out = x[m], float_row(y, m, spare, x.shape[1])
        for i in range(row.size):
            z = row[i]
            bell = f.bell(z)
            cdf = f.normal_cdf(z, bell)
            out[i] = z * cdf
            row[i] = cdf + z * f.normal_density(bell)
        round_row(y, m, out)
        round_row(slopes, m, row)


@kernel
def gelu_tanh(y, slopes, x, spare):
    for m in range(x.shape[0]):
        row, out = x[m], float_row(y, m, spare, x.shape[1])
        for i in range(row.size):
            z = row[i]
            s = f.sigmoid(TWO * SLOPE * (z + CUBIC * z * z * z))
            out[i] = z * s  # (1 + tanh u) / 2, which cancels where u is negative
            row[i] = s + TWO * z * (s * (ONE - s)) * (SLOPE + SLOPE_3CUBIC * z * z)
        round_row(y, m, out)
        round_row(slopes, m, row)


@kernel
def silu(y, slopes, x, spare):
    for m in range(x.shape[0]):
        row, out = x[m], float_row(y, m, spare, x.shape[1])
        for i in range(row.size):
            z = row[i]
            s = f.sigmoid(z)
            out[i] = z * s
            row[i] = s * (ONE + z * (ONE - s))
        round_row(y, m, out)
        round_row(slopes, m, row)


@kernel
def prelu(y, kept, x, alpha, spare):
    """`alpha` holds one slope for all, or one for each column of x (M, D)."""
    shared = alpha.size == 1
    for m in range(x.shape[0]):
        row, out = x[m], float_row(y, m, spare, x.shape[1])
        for j in range(row.size):
            slope = alpha[0] if shared else alpha[j]
            out[j] = row[j] if row[j] > ZERO else slope * row[j]
        round_row(y, m, out)
        round_row(kept, m, row)


@kernel
def backward(dx, dy, slopes):
    """dy becomes dy f'(x), and dx its operand; a float32 dx is dy itself."""
    for m in range(dy.shape[0]):
        drow, slope = dy[m], slopes[m]
        for i in range(drow.size):
            drow[i] *= value(slope[i])
        round_row(dx, m, drow)


@kernel
def prelu_backward(dx, dalpha, dy, kept, alpha):
    """dalpha is added to."""
    shared = alpha.size == 1
    for m in range(dy.shape[0]):
        row, drow = kept[m], dy[m]
        for j in range(drow.size):
            x = value(row[j])
            positive = x > ZERO
            slope = alpha[0] if shared else alpha[j]
            dalpha[0 if shared else j] += ZERO if positive else drow[j] * x
            drow[j] = drow[j] if positive else slope * drow[j]
        round_row(dx, m, drow)
