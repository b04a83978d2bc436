"""The end of a step: the lanes' gradients summed and measured, then clipping and AdamW in one pass."""

import numpy as np

from handgrad.kernels.jit import kernel, reduction


@reduction
def square_sum(x):
    s = np.float32(0.0)
    for i in range(x.size):
        s += x[i] * x[i]
    return s


@kernel
def collect(gradients, first, last):
    """Sum the lanes' gradients (lanes, W) into lane 0, from `first` to `last`; return the sum's square."""
    squares = 0.0
    for start in range(first, last, 4096):
        stop = min(start + 4096, last)
        total = gradients[0, start:stop]
        for lane in range(1, gradients.shape[0]):
            other = gradients[lane, start:stop]
            for i in range(total.size):
                total[i] += other[i]
        squares += square_sum(total)
    return squares


@kernel
def adamw(
    weight, gradient, mean, square, factor, learning_rate, decay, beta1, beta2, eps, correct1, correct2
):
    """AdamW on flat arrays, in place. `factor` clips; `correct` is 1 / (1 - beta^step)."""
    one = np.float32(1.0)
    for i in range(weight.size):
        g = factor * gradient[i]
        m = beta1 * mean[i] + (one - beta1) * g
        v = beta2 * square[i] + (one - beta2) * g * g
        mean[i], square[i] = m, v
        step = learning_rate * (m * correct1) / (np.sqrt(v * correct2) + eps)
        weight[i] = weight[i] - learning_rate * decay * weight[i] - step
