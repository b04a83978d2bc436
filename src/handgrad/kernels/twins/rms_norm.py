"""The twin of `ops.rms_norm`: LayerNorm's kernels, told that the mean is zero."""

from typing import NamedTuple

import numpy as np

from handgrad.kernels import norms
from handgrad.kernels.workspace import NONE, Weight, Workspace, rows


class RMSNormTwin:
    class Saved(NamedTuple):
        x: np.ndarray
        gamma: Weight
        mean: np.ndarray
        """Zeros."""
        rstd: np.ndarray

    def __init__(self, workspace: Workspace, before_products: bool = False):
        """Where the only readers of y are products, `before_products`, y need not be kept in full."""
        self.workspace, self.before_products = workspace, before_products

    def forward(self, x: np.ndarray, gamma: Weight, *, eps: float = 1e-5) -> tuple[np.ndarray, Saved]:
        y, n_rows = self.workspace.normed(x, self.before_products), x.size // x.shape[-1]
        mean, rstd = (self.workspace.arena.take(n_rows) for _ in range(2))
        norms.forward(rows(y), mean, rstd, rows(x), gamma.value, NONE, np.float32(eps), False)
        return y, self.Saved(x, gamma, mean, rstd)

    def backward(self, dy: np.ndarray, saved: Saved) -> tuple[np.ndarray, np.ndarray]:
        """dx is written into dy."""
        x, gamma, mean, rstd = saved
        norms.backward(rows(dy), gamma.gradient, NONE, rows(x), gamma.value, mean, rstd, False)
        return dy, gamma.gradient
