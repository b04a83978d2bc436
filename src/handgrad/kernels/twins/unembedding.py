"""The twin of `ops.unembedding`: the tied output head, by the panels of the table's transpose."""

from typing import NamedTuple

import numpy as np

from handgrad.kernels.twins.linear import LinearTwin
from handgrad.kernels.workspace import Weight, Workspace


class UnembeddingTwin:
    class Saved(NamedTuple):
        a: np.ndarray
        """The operand of x."""
        weight: Weight

    def __init__(self, workspace: Workspace):
        self.workspace, self.linear = workspace, LinearTwin(workspace)

    def forward(self, x: np.ndarray, weight: Weight) -> tuple[np.ndarray, Saved]:
        logits = self.workspace.arena.take(*x.shape[:-1], weight.value.shape[0])
        a = self.workspace.operand(x)
        self.linear.product(logits, a, weight.transposed)
        return logits, self.Saved(a, weight)

    def backward(self, dz: np.ndarray, saved: Saved) -> tuple[np.ndarray, np.ndarray]:
        """dx is written into `passing`."""
        a, weight = saved
        self.workspace.passing.reset()
        dx = self.workspace.passing.take(*dz.shape[:-1], weight.value.shape[1])
        d = self.workspace.passing_operand(dz)
        self.linear.add_gradient(weight, d, a)
        self.linear.product(dx, d, weight.panels)
        return dx, weight.gradient
