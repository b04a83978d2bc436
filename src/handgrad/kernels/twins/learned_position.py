"""The twin of `ops.learned_position`."""

from typing import NamedTuple

import numpy as np

from handgrad.kernels import elementwise
from handgrad.kernels.twins.linear import add_sums
from handgrad.kernels.workspace import Weight, Workspace, rows


class LearnedPositionTwin:
    class Saved(NamedTuple):
        weight: Weight
        offset: int

    def __init__(self, workspace: Workspace):
        self.workspace = workspace

    def forward(self, x: np.ndarray, weight: Weight, *, offset: int = 0) -> tuple[np.ndarray, Saved]:
        y = self.workspace.like(x)
        elementwise.add_rows(rows(y), rows(x), weight.value[offset : offset + x.shape[-2]])
        return y, self.Saved(weight, offset)

    def backward(self, dy: np.ndarray, saved: Saved) -> tuple[np.ndarray, np.ndarray]:
        used = saved.weight.gradient[saved.offset : saved.offset + dy.shape[-2]]
        add_sums(used, dy)
        return dy, saved.weight.gradient
