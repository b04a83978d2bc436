"""Muon on the CPU engine: one worker updates a matrix of the blocks in place, with the engine's products."""

import math
from typing import NamedTuple

import numpy as np

from handgrad.engines.engine import OptimizerSettings
from handgrad.kernels import optimizer
from handgrad.kernels.workspace import NONE, Workspace
from handgrad.optim import muon


class Matrix(NamedTuple):
    """A matrix that Muon updates, and what belongs to it, all (m, n)."""

    weight: np.ndarray
    gradient: np.ndarray
    velocity: np.ndarray

    @property
    def cost(self) -> int:
        """Multiplications of one polynomial."""
        short, long = sorted(self.weight.shape)
        return short * short * (2 * long + short)


def dealt(matrices: dict[str, Matrix], n: int) -> list[list[str]]:
    """Their names for n workers, so that none has much more to multiply than another."""
    hands, costs = [list[str]() for _ in range(n)], [0] * n
    for name in sorted(matrices, key=lambda name: -matrices[name].cost):
        least = costs.index(min(costs))
        hands[least].append(name)
        costs[least] += matrices[name].cost
    return hands


def update(
    matrix: Matrix, workspace: Workspace, settings: OptimizerSettings, factor: float, learning_rate: float
) -> None:
    """`muon.update` in place, of a gradient that clipping multiplies by `factor`; it is overwritten."""
    weight, gradient, velocity = matrix
    rate = learning_rate * settings.matrix_rate
    squares = optimizer.look_ahead(gradient, velocity, np.float32(factor), np.float32(settings.momentum))
    workspace.arena.reset()
    step = orthogonalized(gradient, math.sqrt(squares), workspace)
    shrunk = np.float32(1.0 - rate * settings.weight_decay)
    optimizer.move(weight, step, np.float32(-rate * muon.scale(*weight.shape)), shrunk)


def orthogonalized(matrix: np.ndarray, norm: float, workspace: Workspace) -> np.ndarray:
    """`muon.orthogonalized` of a matrix of that norm, longer side first: (n, k), in the worker's arena."""
    products, take = workspace.kernels.products, workspace.arena.take
    n, k = sorted(matrix.shape, reverse=True)
    x, square, p = take(n, k), take(k, k), take(k, k)
    y = x if workspace.rounds else take(n, k)  # products read x rounded, or x itself
    x_operand, square_operand = (workspace.place(like, workspace.arena) for like in (x, square))
    panels, of_transposed = (take(*products.packed_shape(k, k), dtype=products.DTYPE) for _ in range(2))
    panels[...], of_transposed[...] = 0, 0  # edges are read and never written
    scratch = workspace.need(products.scratch_size(k))
    optimizer.scaled(x, matrix, np.float32(1.0 / (norm + muon.EPSILON)))
    for coefficients in muon.BEST:
        a = workspace.round(x, x_operand)
        products.add_gradient(square, a, a, False, scratch)  # X^T X = S
        s = workspace.round(square, square_operand)
        products.add_gradient(p, s, s, False, scratch)  # S^T S = S S
        optimizer.polynomial(p, square, *map(np.float32, coefficients))
        products.pack(panels, of_transposed, p, 0, k)
        products.affine(y, a, panels, NONE, False, scratch)
        x, y = y, x
    return x
