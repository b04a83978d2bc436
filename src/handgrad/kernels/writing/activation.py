"""Activations of a text's rows, by number."""

from handgrad.kernels import functions as f
from handgrad.kernels.activations import CUBIC, LEAK, SLOPE
from handgrad.kernels.functions import TWO, ZERO
from handgrad.kernels.jit import apart

ACTIVATIONS = (
    "sigmoid", "tanh", "relu", "leaky_relu", "relu_squared", "gelu", "gelu_tanh", "silu", "prelu",
)  # fmt: skip
SIGMOID, TANH, RELU, LEAKY, SQUARED, GELU, GELU_TANH, SILU, PRELU = range(9)
"""Their numbers."""


@apart
def activate(x, kind, alpha):
    """x becomes f(x)."""
    if kind == SIGMOID:
        for i in range(x.size):
            x[i] = f.sigmoid(x[i])
    elif kind == TANH:
        for i in range(x.size):
            x[i] = f.tanh(x[i])
    elif kind == RELU:
        for i in range(x.size):
            x[i] = ZERO if x[i] <= ZERO else x[i]
    elif kind == LEAKY:
        for i in range(x.size):
            x[i] = x[i] if x[i] > ZERO else LEAK * x[i]
    elif kind == SQUARED:
        for i in range(x.size):
            r = ZERO if x[i] <= ZERO else x[i]
            x[i] = r * r
    elif kind == GELU:
        for i in range(x.size):
            x[i] = x[i] * f.normal_cdf(x[i], f.bell(x[i]))
    elif kind == GELU_TANH:
        for i in range(x.size):
            z = x[i]
            x[i] = z * f.sigmoid(TWO * SLOPE * (z + CUBIC * z * z * z))
    elif kind == SILU:
        for i in range(x.size):
            x[i] = x[i] * f.sigmoid(x[i])
    else:
        for i in range(x.size):
            slope = alpha[0] if alpha.size == 1 else alpha[i]
            x[i] = x[i] if x[i] > ZERO else slope * x[i]
