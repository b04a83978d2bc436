"""The twin of `ops.activation`, for every activation of a transformer."""

from typing import NamedTuple

import numpy as np

from handgrad.kernels import activations
from handgrad.kernels.workspace import Weight, Workspace, rows


class ActivationTwin:
    class Saved(NamedTuple):
        name: str
        x: np.ndarray
        alpha: Weight | None

    def __init__(self, workspace: Workspace):
        self.workspace = workspace

    def forward(self, x: np.ndarray, alpha: Weight | None = None, *, name: str) -> tuple[np.ndarray, Saved]:
        """`alpha` holds the parametric ReLU's slopes."""
        y = self.workspace.like(x)
        if alpha is not None:
            activations.prelu(rows(y), rows(x), alpha.value)
        else:
            getattr(activations, name)(y.reshape(-1), x.reshape(-1))
        return y, self.Saved(name, x, alpha)

    def backward(self, dy: np.ndarray, saved: Saved) -> tuple[np.ndarray, np.ndarray | None]:
        """dx is written into dy."""
        name, x, alpha = saved
        if alpha is not None:
            activations.prelu_backward(rows(dy), alpha.gradient, rows(x), alpha.value)
            return dy, alpha.gradient
        getattr(activations, f"{name}_backward")(dy.reshape(-1), x.reshape(-1))
        return dy, None
