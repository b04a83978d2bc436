"""Softmax cross-entropy on rows of logits, which become their own gradient while they are at hand."""

import math

import numpy as np

from handgrad.kernels.functions import exp, largest
from handgrad.kernels.jit import kernel, reduction


@reduction
def exponentials(x, largest_x):
    """x becomes exp(x - largest_x); its sum."""
    s = np.float32(0.0)
    for i in range(x.size):
        e = exp(x[i] - largest_x)
        x[i] = e
        s += e
    return s


@kernel
def cross_entropy(logits, targets, ignore, dloss, with_gradient):
    """The summed loss of the counted rows. With gradient, logits becomes (softmax - one-hot) dloss."""
    loss = 0.0
    for m in range(logits.shape[0]):
        row, target = logits[m], targets[m]
        counted = target != ignore
        if not counted:
            if with_gradient:
                row[:] = 0.0
            continue
        top = largest(row)
        at_target = row[target] - top
        sum_of_exp = exponentials(row, top)
        loss += math.log(sum_of_exp) - at_target
        if with_gradient:
            factor = dloss / sum_of_exp
            for i in range(row.size):
                row[i] *= factor
            row[target] -= dloss
    return loss
