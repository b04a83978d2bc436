"""Layer and root-mean-square normalization: one pass over rows that stay in the first-level cache."""

import numpy as np

from handgrad.kernels.jit import inner, kernel, reduction


@reduction
def total(x):
    s = np.float32(0.0)
    for i in range(x.size):
        s += x[i]
    return s


@reduction
def square_deviation(x, mean):
    s = np.float32(0.0)
    for i in range(x.size):
        s += (x[i] - mean) * (x[i] - mean)
    return s


@reduction
def weighted_sums(dy, gamma, x, mean, rstd):
    """The sums of g and of g x_hat, where g = gamma dy."""
    plain, along = np.float32(0.0), np.float32(0.0)
    for i in range(x.size):
        g = gamma[i] * dy[i]
        plain += g
        along += g * ((x[i] - mean) * rstd)
    return plain, along


@inner
def normalize(out, row, gamma, beta, eps, centred):
    """LayerNorm of a row where `centred`, else RMSNorm, whose mean is zero. No beta has length 0.

    It returns the mean and the reciprocal of the deviation.
    """
    D = row.size
    mean = total(row) / np.float32(D) if centred else np.float32(0.0)
    variance = square_deviation(row, mean) / np.float32(D)
    if variance == np.inf:  # the squares overflowed: as the op, NaN and not the shift alone
        variance = np.float32(np.nan)
    rstd = np.float32(1.0) / np.sqrt(variance + eps)
    if beta.size:
        for i in range(D):
            out[i] = gamma[i] * ((row[i] - mean) * rstd) + beta[i]
    else:
        for i in range(D):
            out[i] = gamma[i] * ((row[i] - mean) * rstd)
    return mean, rstd


@kernel
def forward(y, means, rstds, x, gamma, beta, eps, centred):
    """Every row of x; `means` and `rstds` are what backward needs."""
    for m in range(x.shape[0]):
        means[m], rstds[m] = normalize(y[m], x[m], gamma, beta, eps, centred)


@kernel
def backward(dy, dgamma, dbeta, x, gamma, means, rstds, centred):
    """dy becomes dx; dgamma and dbeta are added to."""
    M, D = x.shape
    for m in range(M):
        row, dy_row = x[m], dy[m]
        mean, rstd = means[m], rstds[m]
        plain, along = weighted_sums(dy_row, gamma, row, mean, rstd)
        plain = plain / np.float32(D) if centred else np.float32(0.0)
        along /= np.float32(D)
        if dbeta.size:
            for i in range(D):
                dbeta[i] += dy_row[i]
        for i in range(D):
            x_hat = (row[i] - mean) * rstd
            dgamma[i] += dy_row[i] * x_hat
            dy_row[i] = rstd * (gamma[i] * dy_row[i] - plain - x_hat * along)
