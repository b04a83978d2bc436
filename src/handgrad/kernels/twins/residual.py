"""The twin of `ops.residual`: dropout and sum in one pass."""

from typing import NamedTuple

import numpy as np

from handgrad.counted import Counted
from handgrad.kernels import dropout as kernels
from handgrad.kernels import elementwise
from handgrad.kernels.dropout import KEEP_ALL, Dropping, next_draw
from handgrad.kernels.workspace import Workspace


class ResidualTwin:
    class Saved(NamedTuple):
        dropping: Dropping

    def __init__(self, workspace: Workspace):
        self.workspace = workspace

    def forward(
        self, x: np.ndarray, h: np.ndarray, *, dropout: float = 0.0, rng: Counted | None = None
    ) -> tuple[np.ndarray, Saved]:
        """y is written into h."""
        dropping = next_draw(dropout, rng, x.size // len(x))
        if dropping is KEEP_ALL:
            elementwise.add_to(h.reshape(-1), x.reshape(-1))
        else:
            kernels.drop_and_add(h.reshape(-1), x.reshape(-1), dropping)
        return h, self.Saved(dropping)

    def backward(self, dy: np.ndarray, saved: Saved) -> tuple[np.ndarray, np.ndarray]:
        """Without dropout, dx and dh are the same array. With it, dh lives until the next residual's."""
        if saved.dropping is KEEP_ALL:
            return dy, dy
        self.workspace.entering.reset()
        dh = self.workspace.entering.take(*dy.shape)
        kernels.drop(dh.reshape(-1), dy.reshape(-1), saved.dropping)
        return dy, dh

    def join(self, dx: np.ndarray, dh: np.ndarray) -> np.ndarray:
        """dx + dh, written into dx: dh may lie in `passing`."""
        elementwise.add_to(dx.reshape(-1), dh.reshape(-1))
        return dx
