"""The ops' names and signatures, computed by kernels: what a model is handed in place of `handgrad.ops`.

A twin takes four liberties. Its weights are `Weight`s, packed for the kernels and paired with the buffer
their gradient is added into, so what its backward returns for them has been summed already. Its arrays come
from an arena and live until that is reset. Where an array has served its purpose its place is taken, so that
memory stays small and in the cache: a residual's sum takes the place of the layer's output, a gradient that
of its input or of the gradient it was made from; `saved` therefore serves one backward. And its random
numbers are counted: backward draws them again.
"""

import functools
import math
from dataclasses import dataclass
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np

from handgrad.kernels import activations, attention, elementwise, loss, norms, products
from handgrad.kernels.arena import Arena, aligned
from handgrad.kernels.random import Counted, threshold
from handgrad.ops import rope as rope_op
from handgrad.ops import sinusoidal_position as sinusoidal_op
from handgrad.parameters import Linear, RMSNorm

NONE = np.empty(0, np.float32)
"""Stands for an array that is not there."""
LOGITS = 1 << 23
"""The most logits that exist at a time: the head is computed for as many rows as that allows."""


@dataclass(frozen=True)
class Weight:
    """A weight as the kernels use it."""

    value: np.ndarray
    gradient: np.ndarray
    """Added into."""
    panels: np.ndarray
    """A matrix, packed for x @ W."""
    transposed: np.ndarray
    """And for dy @ W^T."""


class Dropping(NamedTuple):
    """One draw of a dropout mask: what kernels need to draw it, now and again."""

    low: np.uint32
    high: np.uint32
    limit: np.uint32
    scale: np.float32


KEEP_ALL = Dropping(np.uint32(0), np.uint32(0), np.uint32(0), np.float32(1.0))


def dropping(rate: float, rng: Counted | None) -> Dropping:
    if rng is None or rate == 0.0:
        return KEEP_ALL
    key = rng.key()
    low, high = np.uint32(key & 0xFFFFFFFF), np.uint32(key >> 32)
    return Dropping(low, high, np.uint32(threshold(rate)), np.float32(1.0 / (1.0 - rate)))


@dataclass
class Workspace:
    """Where the twins of one thread compute."""

    arena: Arena
    scratch: np.ndarray
    products: ModuleType = products

    def like(self, x: np.ndarray) -> np.ndarray:
        return self.arena.take(*x.shape)

    def need(self, n: int) -> np.ndarray:
        """Scratch of at least n numbers."""
        if self.scratch.size < n:
            self.scratch = aligned(n)
        return self.scratch


def rows(x: np.ndarray) -> np.ndarray:
    """All leading axes as one."""
    return x.reshape(-1, x.shape[-1])


def _value(weight: Weight | None) -> np.ndarray:
    return NONE if weight is None else weight.value


def _gradient(weight: Weight | None) -> np.ndarray:
    return NONE if weight is None else weight.gradient


class LinearTwin:
    class Saved(NamedTuple):
        x: np.ndarray
        weight: Weight
        bias: Weight | None

    def __init__(self, workspace: Workspace):
        self.workspace = workspace

    def forward(self, x: np.ndarray, weight: Weight, bias: Weight | None = None) -> tuple[np.ndarray, Saved]:
        N = weight.value.shape[1]
        out = self.workspace.arena.take(*x.shape[:-1], N)
        self._product(out, x, weight.panels, _value(bias), False)
        return out, self.Saved(x, weight, bias)

    def backward(self, dz: np.ndarray, saved: Saved) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
        """dx takes the place of x."""
        dx, gradients = self.backward_of_several([(dz, saved)])
        return dx, *gradients

    def backward_of_several(self, layers: list[tuple[np.ndarray, Saved]]) -> tuple[np.ndarray, Any]:
        """The backward of layers that have one x; their weights' gradients one after the other."""
        gradients = []
        for dz, (x, weight, bias) in layers:
            self.add_gradient(weight.gradient, x, dz)
            if bias is not None:
                add_sums(bias.gradient, dz)
            gradients += [weight.gradient, None if bias is None else bias.gradient]
        for i, (dz, (x, weight, _)) in enumerate(layers):  # nobody needs x any more
            self._product(x, dz, weight.transposed, NONE, i > 0)
        return x, gradients

    def _product(self, out: np.ndarray, x: np.ndarray, panels: Any, bias: np.ndarray, add: bool) -> None:
        made, x, out = self.workspace.products, rows(x), rows(out)
        made.affine(out, x, panels, bias, add, self.workspace.need(made.scratch_size(x.shape[1])))

    def add_gradient(self, gradient: np.ndarray, x: np.ndarray, dz: np.ndarray) -> None:
        made, x = self.workspace.products, rows(x)
        made.add_gradient(gradient, x, rows(dz), self.workspace.need(made.scratch_size(x.shape[1])))


def add_sums(gradient: np.ndarray, dy: np.ndarray) -> None:
    """gradient += dy summed over whatever axes it has more."""
    products.add_column_sums(gradient.reshape(-1), dy.reshape(-1, gradient.size))


class NormTwin:
    class Saved(NamedTuple):
        x: np.ndarray
        gamma: Weight
        beta: Weight | None
        mean: np.ndarray
        rstd: np.ndarray

    def __init__(self, workspace: Workspace, centred: bool):
        self.workspace, self.centred = workspace, centred

    def forward(
        self, x: np.ndarray, gamma: Weight, beta: Weight | None = None, *, eps: float = 1e-5
    ) -> tuple[np.ndarray, Saved]:
        arena = self.workspace.arena
        y, M = arena.take(*x.shape), x.size // x.shape[-1]
        mean, rstd = arena.take(M), arena.take(M)
        norms.forward(rows(y), mean, rstd, rows(x), gamma.value, _value(beta), np.float32(eps), self.centred)
        return y, self.Saved(x, gamma, beta, mean, rstd)

    def backward(self, dy: np.ndarray, saved: Saved) -> tuple[Any, ...]:
        """dx takes the place of dy."""
        x, gamma, beta, mean, rstd = saved
        norms.backward(
            rows(dy), gamma.gradient, _gradient(beta), rows(x), gamma.value, mean, rstd, self.centred
        )
        gradients = (dy, gamma.gradient)
        return (*gradients, _gradient(beta) if beta is not None else None) if self.centred else gradients


class ResidualTwin:
    class Saved(NamedTuple):
        dropping: Dropping

    def __init__(self, workspace: Workspace):
        self.workspace = workspace

    def forward(
        self, x: np.ndarray, h: np.ndarray, *, dropout: float = 0.0, rng: Counted | None = None
    ) -> tuple[np.ndarray, Saved]:
        """y takes the place of h."""
        drop = dropping(dropout, rng)
        if drop is KEEP_ALL:
            elementwise.add_to(h.reshape(-1), x.reshape(-1))
        else:
            elementwise.drop_and_add(h.reshape(-1), x.reshape(-1), *drop)
        return h, self.Saved(drop)

    def backward(self, dy: np.ndarray, saved: Saved) -> tuple[np.ndarray, np.ndarray]:
        if saved.dropping is KEEP_ALL:
            return dy, dy
        dh = self.workspace.like(dy)
        elementwise.drop(dh.reshape(-1), dy.reshape(-1), *saved.dropping)
        return dy, dh

    def join(self, dx: np.ndarray, dh: np.ndarray) -> np.ndarray:
        """The sum, in the place of the second."""
        elementwise.add_to(dh.reshape(-1), dx.reshape(-1))
        return dh


class DropoutTwin:
    class Saved(NamedTuple):
        dropping: Dropping

    def __init__(self, workspace: Workspace):
        self.workspace = workspace

    def forward(self, x: np.ndarray, *, rate: float, rng: Counted | None) -> tuple[np.ndarray, Saved]:
        drop = dropping(rate, rng)
        return self._dropped(x, drop), self.Saved(drop)

    def backward(self, dy: np.ndarray, saved: Saved) -> tuple[np.ndarray]:
        return (self._dropped(dy, saved.dropping),)

    def _dropped(self, x: np.ndarray, drop: Dropping) -> np.ndarray:
        if drop is KEEP_ALL:
            return x
        y = self.workspace.like(x)
        elementwise.drop(y.reshape(-1), x.reshape(-1), *drop)
        return y


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
        out = self.workspace.arena.take(*token_ids.shape, weight.value.shape[1])
        elementwise.gather(rows(out), weight.value, saved.token_ids, saved.scale)
        return out, saved

    def backward(self, dy: np.ndarray, saved: Saved) -> tuple[np.ndarray]:
        elementwise.scatter(saved.weight.gradient, rows(dy), saved.token_ids, saved.scale)
        return (saved.weight.gradient,)

    def join(self, dweight: np.ndarray, dhead: np.ndarray) -> np.ndarray:
        """Both were added into the one buffer."""
        return dweight


class LearnedPositionTwin:
    class Saved(NamedTuple):
        weight: Weight
        offset: int

    def __init__(self, workspace: Workspace):
        self.workspace = workspace

    def forward(self, x: np.ndarray, weight: Weight, *, offset: int = 0) -> tuple[np.ndarray, Saved]:
        out = self.workspace.like(x)
        elementwise.add_rows(rows(out), rows(x), weight.value[offset : offset + x.shape[-2]])
        return out, self.Saved(weight, offset)

    def backward(self, dy: np.ndarray, saved: Saved) -> tuple[np.ndarray, np.ndarray]:
        used = saved.weight.gradient[saved.offset : saved.offset + dy.shape[-2]]
        add_sums(used, dy)
        return dy, saved.weight.gradient


class SinusoidalPositionTwin:
    class Saved(NamedTuple):
        """Nothing: the gradient passes unchanged."""

    def __init__(self, workspace: Workspace):
        self.workspace = workspace

    def forward(self, x: np.ndarray, *, offset: int = 0, base: float = 10_000.0) -> tuple[np.ndarray, Saved]:
        out = self.workspace.like(x)
        elementwise.add_rows(rows(out), rows(x), _sinusoids(*x.shape[-2:], offset, base))
        return out, self.Saved()

    def backward(self, dy: np.ndarray, saved: Saved) -> tuple[np.ndarray]:
        return (dy,)


@functools.lru_cache(maxsize=4)
def _sinusoids(T: int, D: int, offset: int, base: float) -> np.ndarray:
    return sinusoidal_op.table(T, D, offset=offset, base=base).astype(np.float32)


@functools.lru_cache(maxsize=4)
def _angles(T: int, K: int, offset: int, base: float) -> tuple[np.ndarray, np.ndarray]:
    _, saved = rope_op.forward(np.zeros((T, K), np.float32), offset=offset, base=base)
    return saved.cos, saved.sin


class ActivationTwin:
    """In place of the op of any activation's name, `alpha` being the parametric ReLU's slopes."""

    class Saved(NamedTuple):
        name: str
        x: np.ndarray
        alpha: Weight | None

    def __init__(self, workspace: Workspace):
        self.workspace = workspace

    def forward(self, x: np.ndarray, alpha: Weight | None = None, *, name: str) -> tuple[np.ndarray, Saved]:
        y = self.workspace.like(x)
        if alpha is not None:
            activations.prelu(rows(y), rows(x), alpha.value)
        else:
            getattr(activations, name)(y.reshape(-1), x.reshape(-1))
        return y, self.Saved(name, x, alpha)

    def backward(self, dy: np.ndarray, saved: Saved) -> tuple[np.ndarray, np.ndarray | None]:
        """dx takes the place of dy."""
        name, x, alpha = saved
        if alpha is not None:
            activations.prelu_backward(rows(dy), alpha.gradient, rows(x), alpha.value)
            return dy, alpha.gradient
        getattr(activations, f"{name}_backward")(dy.reshape(-1), x.reshape(-1))
        return dy, None


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
        attention.forward(rows(y), log_sums, rows(q), rows(k), rows(v), *self._settings(saved))
        return y, saved

    def backward(self, dy: np.ndarray, saved: Saved) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """dq, dk and dv take the places of q, k and v."""
        arrays = (*saved[:3], dy)
        attention.backward(*(rows(x) for x in arrays), saved.log_sums, *self._settings(saved))
        return saved[:3]

    def _settings(self, saved: Saved) -> tuple[Any, ...]:
        q, k = saved.q, saved.k
        d_head = q.shape[-1] // saved.n_heads
        scratch = self.workspace.need(attention.scratch_size(k.shape[1], d_head))
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
            q, q_norm = self._norm_heads(q, query_norm, n_heads)
            k, k_norm = self._norm_heads(k, key_norm, n_kv_heads)
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

    def _norm_heads(self, x: np.ndarray, norm: RMSNorm, n_heads: int) -> tuple[np.ndarray, Any]:
        y, saved = self.rms_norm.forward(x.reshape(-1, x.shape[-1] // n_heads), *norm)
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
            self.linear._product(logits, x[part], down, _value(bias), False)
            total += loss.cross_entropy(logits, targets[part], -1, share, dx is not None)
            if dx is not None:
                self.linear._product(rows(dx)[part], logits, up, NONE, False)
                left, right = (logits, x[part]) if tied else (x[part], logits)
                self.linear.add_gradient(weight.gradient, left, right)
                if bias is not None:
                    add_sums(bias.gradient, logits)
        return np.float64(total / n_counted)


def logit_rows(n_rows: int, vocab_size: int) -> int:
    """How many rows of logits are computed at a time, in parts as even as can be."""
    most = max(48, LOGITS // vocab_size)
    return -(-n_rows // -(-n_rows // most))


class Twins:
    """All twins of one thread, by the ops' names."""

    def __init__(self, workspace: Workspace):
        self.linear = LinearTwin(workspace)
        self.layer_norm = NormTwin(workspace, centred=True)
        self.rms_norm = NormTwin(workspace, centred=False)
        self.residual = ResidualTwin(workspace)
        self.dropout = DropoutTwin(workspace)
        self.embedding = EmbeddingTwin(workspace)
        self.learned_position = LearnedPositionTwin(workspace)
        self.sinusoidal_position = SinusoidalPositionTwin(workspace)
        self.activation = ActivationTwin(workspace)
        self.feed_forward = FeedForwardTwin(workspace)
        self.attention = AttentionTwin(workspace)
        self.multi_head_attention = MultiHeadAttentionTwin(workspace)
        self.next_token_loss = NextTokenLossTwin(workspace)
