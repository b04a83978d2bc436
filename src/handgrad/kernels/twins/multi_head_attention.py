"""The twin of `ops.multi_head_attention`: heads stay side by side, as the projections write them."""

import functools
from typing import Any, NamedTuple

import numpy as np

from handgrad.counted import Counted
from handgrad.kernels import elementwise
from handgrad.kernels.twins.attention import AttentionTwin
from handgrad.kernels.twins.linear import LinearTwin
from handgrad.kernels.twins.rms_norm import RMSNormTwin
from handgrad.kernels.workspace import Workspace, rows
from handgrad.ops import rope
from handgrad.ops.rope import RopeScaling
from handgrad.parameters import Linear, RMSNorm

Angles = tuple[np.ndarray, np.ndarray]
"""Cosines and sines."""


class MultiHeadAttentionTwin:
    class Saved(NamedTuple):
        query: LinearTwin.Saved
        key: LinearTwin.Saved
        value: LinearTwin.Saved
        query_norm: RMSNormTwin.Saved | None
        key_norm: RMSNormTwin.Saved | None
        angles: Angles | None
        attention: AttentionTwin.Saved
        output: LinearTwin.Saved

    def __init__(self, workspace: Workspace):
        self.workspace = workspace
        self.linear, self.attention = LinearTwin(workspace), AttentionTwin(workspace)
        self.rms_norm = RMSNormTwin(workspace)

    def forward(
        self,
        x: np.ndarray,
        query: Linear,
        key: Linear,
        value: Linear,
        output: Linear,
        query_norm: RMSNorm | None = None,
        key_norm: RMSNorm | None = None,
        *,
        n_heads: int,
        n_kv_heads: int,
        norm_eps: float = 1e-5,
        rope_base: float | None = None,
        rope_scaling: RopeScaling | None = None,
        causal: bool = True,
        past: tuple[np.ndarray, np.ndarray] | None = None,
        dropout: float = 0.0,
        rng: Counted | None = None,
    ) -> tuple[np.ndarray, Saved]:
        """`past` holds the keys and values (B, G, P, K) of earlier positions, as in the op: constants."""
        a = self.workspace.operand(x)
        layers = [LinearTwin.Saved(a, *layer) for layer in (query, key, value)]
        self.workspace.passing.reset()
        keep = query_norm is not None  # backward of the heads' norms reads what they were given
        q, k, v = (self._projected(x, layer, keep) for layer in layers)
        q_norm = k_norm = angles = None
        if query_norm is not None and key_norm is not None:
            q, q_norm = self._norm_heads(q, query_norm, n_heads, norm_eps)
            k, k_norm = self._norm_heads(k, key_norm, n_kv_heads, norm_eps)
        if rope_base is not None:
            offset = 0 if past is None else past[0].shape[2]
            angles = _angles(x.shape[-2], q.shape[-1] // n_heads, offset, rope_base, rope_scaling)
            q, k = (
                self._turned(self.workspace.unrounded_heads(*x.shape), x, angles, heads, 1)
                for x, heads in ((q, n_heads), (k, n_kv_heads))
            )
        if past is not None:
            k, v = self._after(past[0], k), self._after(past[1], v)
        attended = self.workspace.attended(q)
        _, saved_a = self.attention.forward(
            q,
            k,
            v,
            n_heads=n_heads,
            n_kv_heads=n_kv_heads,
            causal=causal,
            dropout=dropout,
            rng=rng,
            y=attended,
        )
        output_a = attended if self.workspace.rounds_heads else self.workspace.operand(attended)
        last = LinearTwin.Saved(output_a, *output)
        y = self.linear.apply(self.workspace.like(x), last)
        saved_q, saved_k, saved_v = layers
        return y, self.Saved(saved_q, saved_k, saved_v, q_norm, k_norm, angles, saved_a, last)

    def backward(self, dy: np.ndarray, saved: Saved) -> tuple[Any, ...]:
        """dx is written into `passing`."""
        self.workspace.passing.reset()
        dy, (doutput,) = self.linear.backward_of_several([(dy, saved.output)])
        dq, dk, dv = self.attention.backward(dy, saved.attention)
        heads = saved.attention.heads
        dk, dv = self._newest(dk, dq.shape[1]), self._newest(dv, dq.shape[1])
        if saved.angles is not None:
            dq, dk = (
                self._turned(self.workspace.passing.take(*dx.shape), dx, saved.angles, n, -1)
                for dx, n in ((dq, heads.n_heads), (dk, heads.n_kv_heads))
            )
        dq_norm = dk_norm = None
        if saved.query_norm is not None and saved.key_norm is not None:
            dq, dq_norm = self._norm_heads_backward(dq, saved.query_norm)
            dk, dk_norm = self._norm_heads_backward(dk, saved.key_norm)
        layers = [(dq, saved.query), (dk, saved.key), (dv, saved.value)]
        dx, projections = self.linear.backward_of_several(layers)
        return (dx, *(Linear(*d) for d in projections), Linear(*doutput), dq_norm, dk_norm)

    def _norm_heads(
        self, x: np.ndarray, norm: RMSNorm, n_heads: int, eps: float
    ) -> tuple[np.ndarray, RMSNormTwin.Saved]:
        y, saved = self.rms_norm.forward(x.reshape(-1, x.shape[-1] // n_heads), *norm, eps=eps)
        return y.reshape(x.shape), saved

    def _norm_heads_backward(self, dy: np.ndarray, saved: RMSNormTwin.Saved) -> tuple[np.ndarray, RMSNorm]:
        dx, *dgamma = self.rms_norm.backward(dy.reshape(saved.x.shape), saved)
        return dx.reshape(dy.shape), RMSNorm(*dgamma)

    def _projected(self, x: np.ndarray, layer: LinearTwin.Saved, keep: bool) -> np.ndarray:
        shape = *x.shape[:-1], layer.weight.value.shape[1]
        place = self.workspace.arena.take(*shape) if keep else self.workspace.unrounded_heads(*shape)
        return self.linear.apply(place, layer)

    def _turned(self, y: np.ndarray, x: np.ndarray, angles: Angles, n_heads: int, sign: int) -> np.ndarray:
        elementwise.turn(rows(y), rows(x), *angles, n_heads, np.float32(sign))
        return y

    def _after(self, past: np.ndarray, x: np.ndarray) -> np.ndarray:
        """past (B, G, P, K), then x (B, T, G K), as one array (B, P + T, G K)."""
        B, T, width = x.shape
        P = past.shape[2]
        both = self.workspace.arena.take(B, P + T, width)
        both[:, :P] = past.swapaxes(1, 2).reshape(B, P, width)
        both[:, P:] = x
        return both

    def _newest(self, dx: np.ndarray, T: int) -> np.ndarray:
        """The last T positions: of what attention saw, the past is constant."""
        B, S, width = dx.shape
        if S == T:
            return dx
        newest = self.workspace.arena.take(B, T, width)
        newest[:] = dx[:, -T:]
        return newest


@functools.lru_cache(maxsize=4)
def _angles(T: int, K: int, offset: int, base: float, scaling: RopeScaling | None) -> Angles:
    _, saved = rope.forward(np.zeros((T, K), np.float32), offset=offset, base=base, scaling=scaling)
    return saved.cos, saved.sin
