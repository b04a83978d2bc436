"""The twin of `ops.attention`, on heads that lie side by side: q is (B, T, H K), k and v are (B, S, G K)."""

import math
from typing import NamedTuple

import numpy as np

from handgrad.counted import Counted
from handgrad.kernels.attention import Heads
from handgrad.kernels.dropout import Dropping, next_draw
from handgrad.kernels.workspace import Workspace, rows


class AttentionTwin:
    class Saved(NamedTuple):
        q: np.ndarray
        k: np.ndarray
        v: np.ndarray
        """Operands."""
        shapes: tuple[tuple[int, int, int], tuple[int, int, int]]
        """Of q, (B, T, H K), and of k and v, (B, S, G K)."""
        sums: np.ndarray
        """(B H T, 2): each row's largest score, and the reciprocal of its sum."""
        heads: Heads
        dropping: Dropping

    def __init__(self, workspace: Workspace):
        self.workspace = workspace

    def forward(
        self,
        q: np.ndarray,
        k: np.ndarray,
        v: np.ndarray,
        *,
        n_heads: int,
        n_kv_heads: int,
        causal: bool = True,
        dropout: float = 0.0,
        rng: Counted | None = None,
        y: np.ndarray | None = None,
    ) -> tuple[np.ndarray, Saved]:
        """The result is written into `y`, an operand or a float32 array (B T, H K), where there is one."""
        y = self.workspace.like(q) if y is None else y
        B, T, width = q.shape
        d_head = width // n_heads
        heads = Heads(B, n_heads, n_kv_heads, d_head, np.float32(1.0 / math.sqrt(d_head)), causal)
        y[..., width:] = 0  # what an operand has beyond it
        sums = self.workspace.arena.take(B * n_heads * T, 2)
        q_shape, kv_shape = q.shape, k.shape
        q, k, v = (self.workspace.head_operand(x) for x in (q, k, v))
        dropping = next_draw(dropout, rng, n_heads * T * kv_shape[1])
        saved = self.Saved(q, k, v, (q_shape, kv_shape), sums, heads, dropping)
        self.workspace.kernels.attention.forward(
            rows(y), sums, q, k, v, heads, saved.dropping, self._scratch(saved)
        )
        return y, saved

    def backward(self, dy: np.ndarray, saved: Saved) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """dq, dk and dv are written into q, k and v, or into `passing` where these are rounded."""
        q, k, v, (q_shape, kv_shape), sums, heads, dropping = saved
        dq, dk, dv = q, k, v
        if self.workspace.rounds_heads:
            take = self.workspace.passing.take
            dq, dk, dv = (rows(take(*shape)) for shape in (q_shape, kv_shape, kv_shape))
        self.workspace.kernels.attention.backward(
            dq, dk, dv, q, k, v, rows(dy), sums, heads, dropping, self._scratch(saved)
        )
        return dq.reshape(q_shape), dk.reshape(kv_shape), dv.reshape(kv_shape)

    def _scratch(self, saved: Saved) -> np.ndarray:
        _, (_, S, _) = saved.shapes
        return self.workspace.need(self.workspace.kernels.attention.scratch_size(S, saved.heads.d_head))
