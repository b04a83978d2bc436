"""The twin of `ops.attention`, on heads that lie side by side: q is (B, T, H K), k and v are (B, S, G K)."""

import math
from typing import NamedTuple

import numpy as np

from handgrad.kernels.attention import Heads
from handgrad.kernels.dropout import Dropping, next_draw
from handgrad.kernels.random import Counted
from handgrad.kernels.workspace import Workspace, rows


class AttentionTwin:
    class Saved(NamedTuple):
        q: np.ndarray
        k: np.ndarray
        v: np.ndarray
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
    ) -> tuple[np.ndarray, Saved]:
        B, T, width = q.shape
        scale = np.float32(1.0 / math.sqrt(width // n_heads))
        heads = Heads(B, n_heads, n_kv_heads, scale, causal)
        y, sums = self.workspace.like(q), self.workspace.arena.take(B * n_heads * T, 2)
        saved = self.Saved(q, k, v, sums, heads, next_draw(dropout, rng))
        self.workspace.kernels.attention.forward(
            rows(y), sums, rows(q), rows(k), rows(v), heads, saved.dropping, self._scratch(saved)
        )
        return y, saved

    def backward(self, dy: np.ndarray, saved: Saved) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """dq, dk and dv are written into q, k and v."""
        q, k, v, sums, heads, dropping = saved
        self.workspace.kernels.attention.backward(
            rows(q), rows(k), rows(v), rows(dy), sums, heads, dropping, self._scratch(saved)
        )
        return q, k, v

    def _scratch(self, saved: Saved) -> np.ndarray:
        d_head = saved.q.shape[-1] // saved.heads.n_heads
        return self.workspace.need(self.workspace.kernels.attention.scratch_size(saved.k.shape[1], d_head))
