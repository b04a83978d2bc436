"""The twin of `ops.activation`, for every activation of a transformer."""

from typing import NamedTuple

import numpy as np

from handgrad.kernels import activations
from handgrad.kernels.workspace import Weight, Workspace, rows


class ActivationTwin:
    class Saved(NamedTuple):
        name: str
        slopes: np.ndarray
        """f'(x); x itself where there is `alpha`."""
        alpha: Weight | None

    def __init__(self, workspace: Workspace):
        self.workspace = workspace

    def forward(self, x: np.ndarray, alpha: Weight | None = None, *, name: str) -> tuple[np.ndarray, Saved]:
        """`alpha` holds the parametric ReLU's slopes. f'(x) is written into x."""
        y, saved = self.workspace.like(x), self.Saved(name, x, alpha)
        self.write(rows(y), x, saved)
        return y, saved

    def backward(self, dy: np.ndarray, saved: Saved) -> tuple[np.ndarray, np.ndarray | None]:
        """dx is written into dy."""
        return dy, self.write_backward(rows(dy), dy, saved)

    def write(self, y: np.ndarray, x: np.ndarray, saved: Saved) -> None:
        """Write f(x) into y and f'(x) into what is saved, operands or float32 arrays (M, D). x is used up."""
        name, slopes, alpha = saved
        spare = self.workspace.need(x.shape[-1])
        if alpha is None:
            getattr(activations, name)(y, rows(slopes), rows(x), spare)
        else:
            activations.prelu(y, rows(slopes), rows(x), alpha.value, spare)

    def write_backward(self, dx: np.ndarray, dy: np.ndarray, saved: Saved) -> np.ndarray | None:
        """dx, an operand or dy itself, becomes the gradient of x, for which dy is used up. Returns dalpha."""
        _, slopes, alpha = saved
        if alpha is None:
            activations.backward(dx, rows(dy), rows(slopes))
            return None
        activations.prelu_backward(dx, alpha.gradient, rows(dy), rows(slopes), alpha.value)
        return alpha.gradient
