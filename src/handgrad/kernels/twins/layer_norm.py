"""The twin of `ops.layer_norm`: one pass over each row."""

from typing import NamedTuple

import numpy as np

from handgrad.kernels import norms
from handgrad.kernels.workspace import Weight, Workspace, gradient_of, rows, value_of


class LayerNormTwin:
    class Saved(NamedTuple):
        x: np.ndarray
        gamma: Weight
        beta: Weight | None
        mean: np.ndarray
        rstd: np.ndarray

    def __init__(self, workspace: Workspace, before_products: bool = False):
        """Where the only readers of y are products, `before_products`, y need not be kept in full."""
        self.workspace, self.before_products = workspace, before_products

    def forward(
        self, x: np.ndarray, gamma: Weight, beta: Weight | None = None, *, eps: float = 1e-5
    ) -> tuple[np.ndarray, Saved]:
        y, n_rows = self.workspace.normed(x, self.before_products), x.size // x.shape[-1]
        mean, rstd = (self.workspace.arena.take(n_rows) for _ in range(2))
        norms.forward(rows(y), mean, rstd, rows(x), gamma.value, value_of(beta), np.float32(eps), True)
        return y, self.Saved(x, gamma, beta, mean, rstd)

    def backward(self, dy: np.ndarray, saved: Saved) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
        """dx is written into dy."""
        x, gamma, beta, mean, rstd = saved
        dbeta = gradient_of(beta)
        norms.backward(rows(dy), gamma.gradient, dbeta, rows(x), gamma.value, mean, rstd, True)
        return dy, gamma.gradient, None if beta is None else dbeta
