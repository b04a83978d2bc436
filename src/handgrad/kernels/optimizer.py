"""The end of a step: the workers' gradients summed and measured, then clipping and AdamW in one pass.

For Muon, what is done number by number: its products are those of `products`.
"""

from typing import NamedTuple

import numpy as np

from handgrad.kernels.jit import kernel, reduction

ROOM = 4096
"""Numbers summed at a time: they stay in the first-level cache between the sum and its square."""


LINE = 16
"""Numbers of a cache line: matrices are transposed in strips so wide."""


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


@kernel
def look_ahead(gradient, velocity, factor, beta):
    """The velocity after this gradient, times `factor`; the gradient becomes what both together point to.

    Returns the squared norm of that.
    """
    gradients, velocities, squares = gradient.reshape(-1), velocity.reshape(-1), 0.0
    for start in range(0, gradients.size, ROOM):
        g, v = gradients[start : start + ROOM], velocities[start : start + ROOM]
        for i in range(g.size):
            clipped = factor * g[i]
            v[i] = beta * v[i] + clipped
            g[i] = clipped + beta * v[i]
        squares += square_sum(g)
    return squares


@kernel
def scaled(x, matrix, factor):
    """x (N, K) becomes the matrix times `factor`: (N, K), or (K, N), which is transposed."""
    N, K = x.shape
    if matrix.shape[0] == N:
        for i in range(N):
            for j in range(K):
                x[i, j] = factor * matrix[i, j]
    else:
        for first in range(0, N, LINE):
            for j in range(K):
                for i in range(first, min(first + LINE, N)):
                    x[i, j] = factor * matrix[j, i]


@kernel
def polynomial(p, square, a, b, c):
    """a I + b S + c P, in the place of P (K, K)."""
    for i in range(p.shape[0]):
        for j in range(p.shape[1]):
            p[i, j] = b * square[i, j] + c * p[i, j]
        p[i, i] += a


@kernel
def move(weight, step, rate, shrunk):
    """weight (M, N) becomes `shrunk` times itself and `rate` times the step: (M, N), or (N, M)."""
    M, N = weight.shape
    if step.shape[0] == M:
        for i in range(M):
            for j in range(N):
                weight[i, j] = shrunk * weight[i, j] + rate * step[i, j]
    else:
        for first in range(0, N, LINE):
            for i in range(M):
                for j in range(first, min(first + LINE, N)):
                    weight[i, j] = shrunk * weight[i, j] + rate * step[j, i]
