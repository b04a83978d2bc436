"""The twin of `ops.embedding`: rows looked up, and gradients added to the rows they belong to."""

from typing import NamedTuple

import numpy as np

from handgrad.kernels import elementwise
from handgrad.kernels.workspace import Weight, Workspace, rows


class EmbeddingTwin:
    class Saved(NamedTuple):
        weight: Weight
        token_ids: np.ndarray
        scale: np.float32

    def __init__(self, workspace: Workspace):
        self.workspace = workspace

    def forward(
        self, weight: Weight, token_ids: np.ndarray, *, scale: float = 1.0
    ) -> tuple[np.ndarray, Saved]:
        saved = self.Saved(weight, token_ids.reshape(-1), np.float32(scale))
        y = self.workspace.arena.take(*token_ids.shape, weight.value.shape[1])
        elementwise.gather(rows(y), weight.value, saved.token_ids, saved.scale)
        return y, saved

    def backward(self, dy: np.ndarray, saved: Saved) -> tuple[np.ndarray]:
        elementwise.scatter(saved.weight.gradient, rows(dy), saved.token_ids, saved.scale)
        return (saved.weight.gradient,)

    def join(self, dweight: np.ndarray, dhead: np.ndarray) -> np.ndarray:
        """The sum of a tied table's two gradients: both were added into the one buffer."""
        return dweight
