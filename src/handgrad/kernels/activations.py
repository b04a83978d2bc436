"""Activations and their derivatives, a row of numbers at a time: one pass, no array between.

For each name there is `NAME(y, x)` and `NAME_backward(dy, x)`, of flat arrays; the latter turns dy into dx in
its place. (With dx as an argument of its own the compiler could not tell that it is the same array, and
would use no vectors.) The parametric ReLU also takes its slopes. The formulas are those of the ops.
"""

import numpy as np

from handgrad.kernels import functions as f
from handgrad.kernels.functions import ONE, TWO, ZERO
from handgrad.kernels.jit import kernel
from handgrad.ops import gelu_tanh as formula

LEAK = np.float32(0.01)
SLOPE, CUBIC = np.float32(formula.SLOPE), np.float32(formula.CUBIC)
SLOPE_3CUBIC = np.float32(formula.SLOPE * 3 * formula.CUBIC)


@kernel
def sigmoid(y, x):
    for i in range(x.size):
        y[i] = f.sigmoid(x[i])


@kernel
def sigmoid_backward(dy, x):
    for i in range(x.size):
        s = f.sigmoid(x[i])
        dy[i] *= s * (ONE - s)


@kernel
def tanh(y, x):
    for i in range(x.size):
        y[i] = f.tanh(x[i])


@kernel
def tanh_backward(dy, x):
    for i in range(x.size):
        t = f.tanh(x[i])
        dy[i] *= ONE - t * t


@kernel
def relu(y, x):
    for i in range(x.size):
        y[i] = ZERO if x[i] <= ZERO else x[i]


@kernel
def relu_backward(dy, x):
    for i in range(x.size):
        dy[i] = dy[i] if x[i] > ZERO else ZERO


@kernel
def leaky_relu(y, x):
    for i in range(x.size):
        y[i] = x[i] if x[i] > ZERO else LEAK * x[i]


@kernel
def leaky_relu_backward(dy, x):
    for i in range(x.size):
        dy[i] = dy[i] if x[i] > ZERO else LEAK * dy[i]


@kernel
def relu_squared(y, x):
    for i in range(x.size):
        r = ZERO if x[i] <= ZERO else x[i]
        y[i] = r * r


@kernel
def relu_squared_backward(dy, x):
    for i in range(x.size):
        r = ZERO if x[i] <= ZERO else x[i]
        dy[i] *= TWO * r


@kernel
def gelu(y, x):
    for i in range(x.size):
        y[i] = x[i] * f.normal_cdf(x[i], f.bell(x[i]))


@kernel
def gelu_backward(dy, x):
    for i in range(x.size):
        bell = f.bell(x[i])
        dy[i] *= f.normal_cdf(x[i], bell) + x[i] * f.normal_density(bell)


@kernel
def gelu_tanh(y, x):
    for i in range(x.size):
        u = SLOPE * (x[i] + CUBIC * x[i] * x[i] * x[i])
        y[i] = x[i] * f.sigmoid(TWO * u)  # (1 + tanh u) / 2, which cancels where u is negative


@kernel
def gelu_tanh_backward(dy, x):
    for i in range(x.size):
        u = SLOPE * (x[i] + CUBIC * x[i] * x[i] * x[i])
        s = f.sigmoid(TWO * u)
        du = SLOPE + SLOPE_3CUBIC * x[i] * x[i]
        dy[i] *= s + TWO * x[i] * (s * (ONE - s)) * du


@kernel
def silu(y, x):
    for i in range(x.size):
        y[i] = x[i] * f.sigmoid(x[i])


@kernel
def silu_backward(dy, x):
    for i in range(x.size):
        s = f.sigmoid(x[i])
        dy[i] *= s * (ONE + x[i] * (ONE - s))


@kernel
def prelu(y, x, alpha):
    """`alpha` holds one slope for all, or one for each column of x (M, D)."""
    M, D = x.shape
    shared = alpha.size == 1
    for m in range(M):
        for j in range(D):
            slope = alpha[0] if shared else alpha[j]
            y[m, j] = x[m, j] if x[m, j] > ZERO else slope * x[m, j]


@kernel
def prelu_backward(dy, dalpha, x, alpha):
    """dy becomes dx; dalpha is added to."""
    M, D = x.shape
    shared = alpha.size == 1
    for m in range(M):
        for j in range(D):
            positive = x[m, j] > ZERO
            slope = alpha[0] if shared else alpha[j]
            dalpha[0 if shared else j] += ZERO if positive else dy[m, j] * x[m, j]
            dy[m, j] = dy[m, j] if positive else slope * dy[m, j]
