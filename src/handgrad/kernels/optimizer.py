"""The end of a step: the workers' gradients summed and measured, then clipping and AdamW in one pass."""

from typing import NamedTuple

import numpy as np

from handgrad.kernels.jit import kernel, reduction

ROOM = 4096
"""Numbers summed at a time: they stay in the first-level cache between the sum and its square."""


class AdamW(NamedTuple):
    """One update's numbers, float32."""

    factor: np.float32
    """Of the gradient: it clips."""
    learning_rate: np.float32
    decay: np.float32
    beta1: np.float32
    beta2: np.float32
    eps: np.float32
    correct1: np.float32
    """1 / (1 - beta1^step)."""
    correct2: np.float32


@reduction
def square_sum(x):
    s = np.float32(0.0)
    for i in range(x.size):
        s += x[i] * x[i]
    return s


@kernel
def collect(gradients, first, last):
    """Add the workers' gradients (workers, W) to the first's, from `first` to `last`.

    Returns the squared norm of that part of the sum.
    """
    squares = 0.0
    for start in range(first, last, ROOM):
        stop = min(start + ROOM, last)
        total = gradients[0, start:stop]
        for worker in range(1, gradients.shape[0]):
            other = gradients[worker, start:stop]
            for i in range(total.size):
                total[i] += other[i]
        squares += square_sum(total)
    return squares


@kernel
def adamw(weight, gradient, mean, square, update):
    """AdamW on flat arrays, in place."""
    one = np.float32(1.0)
    factor, learning_rate, decay, beta1, beta2, eps, correct1, correct2 = update
    for i in range(weight.size):
        g = factor * gradient[i]
        m = beta1 * mean[i] + (one - beta1) * g
        v = beta2 * square[i] + (one - beta2) * g * g
        mean[i], square[i] = m, v
        step = learning_rate * (m * correct1) / (np.sqrt(v * correct2) + eps)
        weight[i] = weight[i] - learning_rate * decay * weight[i] - step
