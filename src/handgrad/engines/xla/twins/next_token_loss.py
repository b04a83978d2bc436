"""The twin of `ops.next_token_loss`, some tokens at a time.

The logits of all tokens, in float32, would be the largest array of a step.
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from handgrad import ops
from handgrad.engines.xla import kernels
from handgrad.engines.xla.placement import ALONE, Placement
from handgrad.engines.xla.sharding import BATCH
from handgrad.engines.xla.twins.wide import Wide, wide_type
from handgrad.ops import linear
from handgrad.parameters import Linear
from handgrad.shapes import Array, Float

LOGIT_BYTES = 1 << 31
"""Logits that a device computes at a time."""


class FormulaLoss:
    """The mean cross-entropy of some logits, and its gradient, by the formula."""

    op = Wide(ops.softmax_cross_entropy)

    def __call__(self, dloss: Array, logits: Array, targets: Array) -> tuple[Array, Array]:
        loss, saved = self.op.forward(logits, targets)
        return loss, self.op.backward(dloss, saved)[0]


class FusedLoss:
    """The same by a kernel, which reads the logits twice, the second time from the cache."""

    def __init__(self, *, interpret: bool = False, placement: Placement = ALONE):
        self.interpret, self.placement = interpret, placement

    def __call__(self, dloss: Array, logits: Array, targets: Array) -> tuple[Array, Array]:
        counted = (targets != -1).astype(jnp.float32)
        each = counted / jnp.maximum(jnp.sum(counted), 1.0)
        kernel = functools.partial(kernels.cross_entropy, interpret=self.interpret)
        run = self.placement.on_each(kernel, takes=(BATCH, BATCH, BATCH, BATCH), gives=(BATCH, BATCH))
        losses, dlogits = run(logits, targets, each, dloss * each)
        return jnp.sum(losses), dlogits


class NextTokenLoss:
    """Head and cross-entropy; `entropy` computes the loss of some logits and its gradient at once."""

    class Saved(NamedTuple):
        inputs: tuple[Any, ...]
        tied: bool

    def __init__(self, entropy: FormulaLoss | FusedLoss, n_devices: int = 1):
        self.entropy, self.n_devices = entropy, n_devices

    def forward(self, *inputs: Any, tied: bool = False) -> tuple[Float[Array, ""], Saved]:
        x, weight, bias, targets = inputs

        def run(loss: Array, part: Any) -> tuple[Array, None]:
            x, targets, share = part
            logits, _ = _head_forward(x, weight, bias, tied)
            return loss + share * FormulaLoss.op.forward(logits, targets)[0], None

        loss, _ = lax.scan(run, jnp.zeros((), wide_type(x)), self._parts(x, targets, weight))
        return loss, self.Saved(inputs, tied)

    def backward(self, dloss: Array | float, saved: Saved) -> tuple[Any, ...]:
        return self.loss_and_gradients(dloss, *saved.inputs, tied=saved.tied)[1:]

    def loss_and_gradients(self, dloss: Array | float, *inputs: Any, tied: bool = False) -> tuple[Any, ...]:
        """The loss, and the gradients of x, weight and bias."""
        x, weight, bias, targets = inputs

        def run(total: Any, part: Any) -> tuple[Any, Array]:
            x, targets, share = part
            logits, saved = _head_forward(x, weight, bias, tied)
            loss, dlogits = self.entropy(dloss * share, logits, targets)
            dx, *dhead = (ops.unembedding if tied else linear).backward(dlogits, saved)
            return jax.tree.map(jnp.add, total, (share * loss, Linear(*dhead))), dx

        nothing = jax.tree.map(
            lambda array: jnp.zeros(array.shape, wide_type(x)), (jnp.zeros(()), Linear(weight, bias))
        )
        (loss, dhead), dx = lax.scan(run, nothing, self._parts(x, targets, weight))
        return loss, _joined(dx, x.shape), *dhead

    def _parts(self, x: Array, targets: Array, weight: Array) -> tuple[Array, Array, Array]:
        """The loss's parts along a first axis: x, targets, and the share of the counted targets in each."""
        vocab_size = weight.size // x.shape[-1]
        n_sequences, n_positions = targets.shape
        n = n_logit_parts(n_sequences, n_positions, vocab_size * x.dtype.itemsize, self.n_devices)
        targets = _cut(targets, n)
        counted = jnp.sum(targets != -1, axis=1).astype(wide_type(x))
        return _cut(x, n), targets, counted / jnp.maximum(jnp.sum(counted), 1.0)


def _head_forward(x: Array, weight: Array, bias: Array | None, tied: bool) -> tuple[Array, Any]:
    return ops.unembedding.forward(x, weight) if tied else linear.forward(x, weight, bias)


def n_logit_parts(n_sequences: int, n_positions: int, token_bytes: int, n_devices: int = 1) -> int:
    """Into how many parts the loss cuts its tokens: of one size, of `LOGIT_BYTES` a device at most, or of one
    position of each sequence."""
    least = -(-n_sequences * n_positions * token_bytes // (LOGIT_BYTES * n_devices))
    return next((n for n in range(least, n_positions) if n_positions % n == 0), n_positions)


def _cut(x: Float[Array, "B T *D"], n: int) -> Float[Array, "N M *D"]:
    """Some positions of every sequence in each of `n` parts: where sequences are divided among devices, so is
    each part."""
    B, T, *rest = x.shape
    return jnp.reshape(jnp.swapaxes(jnp.reshape(x, (B, n, T // n, *rest)), 0, 1), (n, -1, *rest))


def _joined(parts: Float[Array, "N M D"], shape: tuple[int, ...]) -> Float[Array, "B T D"]:
    """Undo `_cut`."""
    by_sequence = jnp.reshape(parts, (len(parts), shape[0], -1, shape[-1]))
    return jnp.reshape(jnp.swapaxes(by_sequence, 0, 1), shape)
