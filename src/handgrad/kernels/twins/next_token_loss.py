"""The twin of `ops.next_token_loss`: some rows at a time, so that a batch's logits never exist together."""

from typing import Any, NamedTuple

import numpy as np

from handgrad.kernels import loss
from handgrad.kernels.twins.linear import LinearTwin, add_sums
from handgrad.kernels.workspace import Weight, Workspace, rows, value_of

LOGITS = 1 << 23
"""The most logits that exist at a time: the head is computed for as many rows as that allows."""


class NextTokenLossTwin:
    class Saved(NamedTuple):
        x: np.ndarray
        weight: Weight
        bias: Weight | None
        targets: np.ndarray
        tied: bool

    def __init__(self, workspace: Workspace):
        self.workspace, self.linear = workspace, LinearTwin(workspace)

    def forward(
        self, x: np.ndarray, weight: Weight, bias: Weight | None, targets: np.ndarray, *, tied: bool = False
    ) -> tuple[np.float64, Saved]:
        saved = self.Saved(x, weight, bias, targets.reshape(-1), tied)
        return self._walk(saved, None, None), saved

    def backward(self, dloss: float, saved: Saved) -> tuple[Any, ...]:
        return self._loss_and_gradients(dloss, saved)[1:]

    def loss_and_gradients(
        self,
        dloss: float,
        x: np.ndarray,
        weight: Weight,
        bias: Weight | None,
        targets: np.ndarray,
        *,
        tied: bool = False,
    ) -> tuple[Any, ...]:
        """Forward and backward in one walk: the logits are computed once."""
        return self._loss_and_gradients(dloss, self.Saved(x, weight, bias, targets.reshape(-1), tied))

    def _loss_and_gradients(self, dloss: float, saved: Saved) -> tuple[Any, ...]:
        dx = self.workspace.like(saved.x)
        loss_value = self._walk(saved, dloss, dx)
        dbias = None if saved.bias is None else saved.bias.gradient
        return loss_value, dx, saved.weight.gradient, dbias

    def _walk(self, saved: Saved, dloss: float | None, dx: np.ndarray | None) -> np.float64:
        x, weight, bias, targets, tied = saved
        x, a = rows(x), self.workspace.operand(x)
        n_counted = max(1, int(np.count_nonzero(targets != -1)))
        dloss_of_row = np.float32(0.0 if dloss is None else dloss / n_counted)
        V = weight.value.shape[0 if tied else 1]
        n = logit_rows(len(x), V)
        buffer = self.workspace.arena.take(n, V)
        to_logits, back = (weight.transposed, weight.panels) if tied else (weight.panels, weight.transposed)
        total = 0.0
        for first in range(0, len(x), n):
            part = slice(first, min(first + n, len(x)))
            logits = buffer[: part.stop - first]
            self.linear.product(logits, a[part], to_logits, value_of(bias))
            total += loss.cross_entropy(logits, targets[part], -1, dloss_of_row, dx is not None)
            if dx is not None:  # the logits have become their gradient
                self.workspace.passing.reset()
                d = self.workspace.passing_operand(logits)
                self.linear.product(rows(dx)[part], d, back)
                left, right = (d, a[part]) if tied else (a[part], d)
                self.linear.add_gradient(weight, left, right)
                if bias is not None:
                    add_sums(bias.gradient, logits)
        return np.float64(total / n_counted)


def logit_rows(n_rows: int, vocab_size: int) -> int:
    """How many rows of logits are computed at a time, in parts as even as can be."""
    most = max(48, LOGITS // vocab_size)
    return -(-n_rows // -(-n_rows // most))
