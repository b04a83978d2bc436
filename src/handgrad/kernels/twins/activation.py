"""The twin of `ops.activation`, for every activation of a transformer."""

from typing import NamedTuple

import numpy as np

from handgrad.kernels import activations
from handgrad.kernels.workspace import Weight, Workspace, rows


class ActivationTwin:
    class Saved(NamedTuple):
        name: str
        x: np.ndarray
        """What becomes the derivative; for the parametric ReLU, x."""
        alpha: Weight | None

    def __init__(self, workspace: Workspace):
        self.workspace = workspace

    def forward(self, x: np.ndarray, alpha: Weight | None = None, *, name: str) -> tuple[np.ndarray, Saved]:
        """`alpha` holds the parametric ReLU's slopes. x becomes the derivative."""
        y, saved = self.workspace.like(x), self.Saved(name, x, alpha)
        self.write(rows(y), saved)
        return y, saved

    def backward(self, dy: np.ndarray, saved: Saved) -> tuple[np.ndarray, np.ndarray | None]:
        """dx is written into dy."""
        return dy, self.write_backward(rows(dy), dy, saved)

    def write(self, y: np.ndarray, saved: Saved) -> None:
        """y, an operand or a float32 array (M, D), becomes f(x), and x the derivative."""
        name, x, alpha = saved
        spare = self.workspace.need(x.shape[-1])
        if alpha is not None:
            activations.prelu(y, rows(x), alpha.value, spare)
        else:
            getattr(activations, name)(y, rows(x), spare)

    def write_backward(self, dx: np.ndarray, dy: np.ndarray, saved: Saved) -> np.ndarray | None:
        """dx, an operand or dy itself, becomes the gradient of x, for which dy is used up. Returns dalpha."""
        _, x, alpha = saved
        if alpha is None:
            activations.backward(dx, rows(dy), rows(x))
            return None
        activations.prelu_backward(dx, alpha.gradient, rows(dy), rows(x), alpha.value)
        return alpha.gradient
