"""The twins of layers: several formulas, and what lies between them kept out of memory."""

import functools
import math
from typing import Any, NamedTuple

import numpy as np

from handgrad.kernels import elementwise, loss
from handgrad.kernels.random import Counted
from handgrad.kernels.twins.formulas import ActivationTwin, LinearTwin, NormTwin, add_sums
from handgrad.kernels.workspace import NONE, Dropping, Weight, Workspace, dropping, rows, value_of
from handgrad.ops import rope as rope_op
from handgrad.parameters import Linear, RMSNorm

LOGITS = 1 << 23
"""The most logits that exist at a time: the head is computed for as many rows as that allows."""


class FeedForwardTwin:
    class Saved(NamedTuple):
        up: LinearTwin.Saved
        gate: LinearTwin.Saved | None
        act: ActivationTwin.Saved
        down: LinearTwin.Saved
        opened: np.ndarray | None
        z: np.ndarray

    def __init__(self, workspace: Workspace):
        self.workspace = workspace
        self.linear, self.activation = LinearTwin(workspace), ActivationTwin(workspace)

    def forward(
        self,
        x: np.ndarray,
        up: Linear,
        down: Linear,
        gate: Linear | None = None,
        alpha: Weight | None = None,
        *,
        activation: str = "relu",
    ) -> tuple[np.ndarray, Saved]:
        z, saved_up = self.linear.forward(x, *up)
        saved_gate, opened = None, None
        if gate is None:
            h, act = self.activation.forward(z, alpha, name=activation)
        else:
            g, saved_gate = self.linear.forward(x, *gate)
            opened, act = self.activation.forward(g, alpha, name=activation)
            h = self.workspace.like(z)
            elementwise.multiply(h.reshape(-1), opened.reshape(-1), z.reshape(-1))
        y, saved_down = self.linear.forward(h, *down)
        return y, self.Saved(saved_up, saved_gate, act, saved_down, opened, z)

    def backward(self, dy: np.ndarray, saved: Saved) -> tuple[Any, ...]:
        dh, *ddown = self.linear.backward(dy, saved.down)
        if saved.gate is None or saved.opened is None:
            dz, dalpha = self.activation.backward(dh, saved.act)
            dx, *dup = self.linear.backward(dz, saved.up)
            return dx, Linear(*dup), Linear(*ddown), None, dalpha
        flat, opened, z = dh.reshape(-1), saved.opened.reshape(-1), saved.z.reshape(-1)
        elementwise.multiply_by(opened, flat)  # dz = dh * f(g), where f(g) was
        elementwise.multiply_by(flat, z)
        dg, dalpha = self.activation.backward(dh, saved.act)
        dx, gradients = self.linear.backward_of_several([(saved.opened, saved.up), (dg, saved.gate)])
        return dx, Linear(*gradients[:2]), Linear(*ddown), Linear(*gradients[2:]), dalpha


class AttentionTwin:
    """Attention on heads that lie side by side: q is (B, T, H K), k and v are (B, S, G K)."""

    class Saved(NamedTuple):
        q: np.ndarray
        k: np.ndarray
        v: np.ndarray
        log_sums: np.ndarray
        n_heads: int
        n_kv_heads: int
        causal: bool
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
        arena = self.workspace.arena
        y, log_sums = self.workspace.like(q), arena.take(q.shape[0] * n_heads * q.shape[1])
        saved = self.Saved(q, k, v, log_sums, n_heads, n_kv_heads, causal, dropping(dropout, rng))
        self.workspace.kernels.attention.forward(
            rows(y), log_sums, rows(q), rows(k), rows(v), *self._settings(saved)
        )
        return y, saved

    def backward(self, dy: np.ndarray, saved: Saved) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """dq, dk and dv take the places of q, k and v."""
        arrays = (*saved[:3], dy)
        self.workspace.kernels.attention.backward(
            *(rows(x) for x in arrays), saved.log_sums, *self._settings(saved)
        )
        return saved[:3]

    def _settings(self, saved: Saved) -> tuple[Any, ...]:
        q, k = saved.q, saved.k
        d_head = q.shape[-1] // saved.n_heads
        scratch = self.workspace.need(self.workspace.kernels.attention.scratch_size(k.shape[1], d_head))
        scale = np.float32(1.0 / math.sqrt(d_head))
        heads = (q.shape[0], saved.n_heads, saved.n_kv_heads)
        return *heads, scale, saved.causal, *saved.dropping, scratch


class MultiHeadAttentionTwin:
    class Saved(NamedTuple):
        query: LinearTwin.Saved
        key: LinearTwin.Saved
        value: LinearTwin.Saved
        query_norm: NormTwin.Saved | None
        key_norm: NormTwin.Saved | None
        angles: tuple[np.ndarray, np.ndarray] | None
        attention: AttentionTwin.Saved
        output: LinearTwin.Saved

    def __init__(self, workspace: Workspace):
        self.workspace = workspace
        self.linear, self.attention = LinearTwin(workspace), AttentionTwin(workspace)
        self.rms_norm = NormTwin(workspace, centred=False)

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
        rope_base: float | None = None,
        norm_eps: float = 1e-5,
        causal: bool = True,
        past: None = None,
        dropout: float = 0.0,
        rng: Counted | None = None,
    ) -> tuple[np.ndarray, Saved]:
        q, saved_q = self.linear.forward(x, *query)
        k, saved_k = self.linear.forward(x, *key)
        v, saved_v = self.linear.forward(x, *value)
        q_norm = k_norm = angles = None
        if query_norm is not None and key_norm is not None:
            q, q_norm = self._norm_heads(q, query_norm, n_heads, norm_eps)
            k, k_norm = self._norm_heads(k, key_norm, n_kv_heads, norm_eps)
        if rope_base is not None:
            angles = _angles(x.shape[-2], q.shape[-1] // n_heads, 0, rope_base)
            q, k = self._turned(q, angles, n_heads, 1), self._turned(k, angles, n_kv_heads, 1)
        y, saved_a = self.attention.forward(
            q, k, v, n_heads=n_heads, n_kv_heads=n_kv_heads, causal=causal, dropout=dropout, rng=rng
        )
        y, saved_o = self.linear.forward(y, *output)
        return y, self.Saved(saved_q, saved_k, saved_v, q_norm, k_norm, angles, saved_a, saved_o)

    def backward(self, dy: np.ndarray, saved: Saved) -> tuple[Any, ...]:
        dy, *doutput = self.linear.backward(dy, saved.output)
        dq, dk, dv = self.attention.backward(dy, saved.attention)
        n_heads, n_kv_heads = saved.attention.n_heads, saved.attention.n_kv_heads
        if saved.angles is not None:
            dq = self._turned(dq, saved.angles, n_heads, -1)
            dk = self._turned(dk, saved.angles, n_kv_heads, -1)
        dq_norm = dk_norm = None
        if saved.query_norm is not None and saved.key_norm is not None:
            dq, dq_norm = self._norm_heads_backward(dq, saved.query_norm)
            dk, dk_norm = self._norm_heads_backward(dk, saved.key_norm)
        layers = [(dq, saved.query), (dk, saved.key), (dv, saved.value)]
        dx, gradients = self.linear.backward_of_several(layers)
        projections = (Linear(*gradients[i : i + 2]) for i in (0, 2, 4))
        return (dx, *projections, Linear(*doutput), dq_norm, dk_norm)

    def _norm_heads(self, x: np.ndarray, norm: RMSNorm, n_heads: int, eps: float) -> tuple[np.ndarray, Any]:
        y, saved = self.rms_norm.forward(x.reshape(-1, x.shape[-1] // n_heads), *norm, eps=eps)
        return y.reshape(x.shape), saved

    def _norm_heads_backward(self, dy: np.ndarray, saved: NormTwin.Saved) -> tuple[np.ndarray, RMSNorm]:
        dx, *dgamma = self.rms_norm.backward(dy.reshape(saved.x.shape), saved)
        return dx.reshape(dy.shape), RMSNorm(*dgamma)

    def _turned(self, x: np.ndarray, angles: tuple[np.ndarray, np.ndarray], n_heads: int, sign: int) -> Any:
        y = self.workspace.like(x)
        elementwise.turn(rows(y), rows(x), *angles, n_heads, np.float32(sign))
        return y


class NextTokenLossTwin:
    """Head and cross-entropy, some rows at a time: the logits of a batch never exist together."""

    class Saved(NamedTuple):
        x: np.ndarray
        weight: Weight
        bias: Weight | None
        targets: np.ndarray
        tied: bool

    def __init__(self, workspace: Workspace):
        self.workspace = workspace
        self.linear = LinearTwin(workspace)

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
        x = rows(x)
        n_counted = max(1, int(np.count_nonzero(targets != -1)))
        share = np.float32(0.0 if dloss is None else dloss / n_counted)
        V = weight.value.shape[0 if tied else 1]
        n = logit_rows(len(x), V)
        buffer = self.workspace.arena.take(n, V)
        down, up = (weight.transposed, weight.panels) if tied else (weight.panels, weight.transposed)
        total = 0.0
        for first in range(0, len(x), n):
            part = slice(first, min(first + n, len(x)))
            logits = buffer[: part.stop - first]
            self.linear.product(logits, x[part], down, value_of(bias), False)
            total += loss.cross_entropy(logits, targets[part], -1, share, dx is not None)
            if dx is not None:
                self.linear.product(rows(dx)[part], logits, up, NONE, False)
                left, right = (logits, x[part]) if tied else (x[part], logits)
                self.linear.add_gradient(weight.gradient, left, right)
                if bias is not None:
                    add_sums(bias.gradient, logits)
        return np.float64(total / n_counted)


def logit_rows(n_rows: int, vocab_size: int) -> int:
    """How many rows of logits are computed at a time, in parts as even as can be."""
    most = max(48, LOGITS // vocab_size)
    return -(-n_rows // -(-n_rows // most))


@functools.lru_cache(maxsize=4)
def _angles(T: int, K: int, offset: int, base: float) -> tuple[np.ndarray, np.ndarray]:
    _, saved = rope_op.forward(np.zeros((T, K), np.float32), offset=offset, base=base)
    return saved.cos, saved.sin
