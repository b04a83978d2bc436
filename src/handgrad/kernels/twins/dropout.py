"""The twin of `ops.dropout`: the mask is drawn again in backward."""

from typing import NamedTuple

import numpy as np

from handgrad.counted import Counted
from handgrad.kernels import dropout as kernels
from handgrad.kernels.dropout import KEEP_ALL, Dropping, next_draw
from handgrad.kernels.workspace import Workspace


class DropoutTwin:
    class Saved(NamedTuple):
        dropping: Dropping

    def __init__(self, workspace: Workspace):
        self.workspace = workspace

    def forward(self, x: np.ndarray, *, rate: float, rng: Counted | None) -> tuple[np.ndarray, Saved]:
        dropping = next_draw(rate, rng, x.size // len(x))
        return self._dropped(x, dropping), self.Saved(dropping)

    def backward(self, dy: np.ndarray, saved: Saved) -> tuple[np.ndarray]:
        return (self._dropped(dy, saved.dropping),)

    def _dropped(self, x: np.ndarray, dropping: Dropping) -> np.ndarray:
        if dropping is KEEP_ALL:
            return x
        y = self.workspace.like(x)
        kernels.drop(y.reshape(-1), x.reshape(-1), dropping)
        return y
