"""What goes wrong in a forward pass: the backward may follow it faithfully, the kernels do not."""

from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import numpy as np

from handgrad import ops
from handgrad.model.config import ModelConfig
from handgrad.model.transformer import Transformer
from handgrad.ops import attention
from injected import Change, Fault, replaced, result, setting


def faults(model: str, config: ModelConfig) -> Iterator[Fault]:
    """Those of the formulas' forward."""
    yield Fault(model, "scores divided by d_head, not its root", _root(lambda width: width))
    yield Fault(model, "scores not divided", _root(lambda width: 1.0))
    norm = ops.rms_norm if config.norm == "rms_norm" else ops.layer_norm
    if config.norm_placement == "pre":  # after a sum of ordinary size it is no more than a rounding
        yield Fault(model, "a norm without its epsilon", setting(norm, "forward", eps=lambda eps: 0.0))
    yield Fault(model, "another epsilon in a norm", setting(norm, "forward", eps=lambda eps: 10 * eps))
    yield Fault(model, "logits 1 % too large", result(Transformer, "head", lambda d: (1.01 * d[0], d[1])))
    if config.kv_heads < config.n_heads and config.kv_heads > 1:
        yield Fault(model, "query heads share the wrong key-value heads", _grouped_otherwise)
    if config.position == "rope":
        yield Fault(
            model, "halves turned instead of neighbours", replaced(ops.rope, "turn", lambda right: _halves)
        )
        yield Fault(model, "turned the other way", replaced(ops.rope, "turn", _back))
    if config.dropout:
        yield Fault(model, "dropout left on", replaced(ops.dropout, "forward", _left_on))


def _root(taken: Change) -> Callable[[], Any]:
    """What scores are divided by, in place of the root of the heads' width: forward and backward agree."""
    return lambda: patch.object(attention, "math", SimpleNamespace(sqrt=taken))


def _grouped_otherwise() -> Any:
    """Query heads change places on their way to the key-value heads, and back after it."""

    def make(right: Change) -> Change:
        def wrong(q: np.ndarray, k: np.ndarray, v: np.ndarray, **settings: Any) -> Any:
            y, saved = right(np.roll(q, 1, axis=1), k, v, **settings)
            return np.roll(y, -1, axis=1), saved

        return wrong

    return replaced(attention, "forward", make)()


def _halves(x: np.ndarray, cos: np.ndarray, sin: np.ndarray) -> np.ndarray:
    half = x.shape[-1] // 2
    a, b = x[..., :half], x[..., half:]
    return np.concatenate([a * cos - b * sin, a * sin + b * cos], axis=-1)


def _back(right: Change) -> Change:
    return lambda x, cos, sin: right(x, cos, -sin)


def _left_on(right: Change) -> Change:
    draws = np.random.default_rng(0)
    return lambda x, *, rate, rng=None: right(x, rate=rate, rng=rng or draws)
