"""What goes wrong in a backward pass: a branch that is cut off, a term forgotten, a number slightly off."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from handgrad import ops, tree
from handgrad.model.config import ModelConfig
from handgrad.model.transformer import LanguageModel
from injected import Change, Fault, named, nth_result, replaced, result

SLIGHTLY = 1.01


def faults(model: str, config: ModelConfig) -> Iterator[Fault]:
    """Those of the formulas' backward."""
    L = config.n_layers
    for layer in range(L):
        for name, op, change in _branches(config):
            number = L - 1 - layer  # backward begins at the last layer
            yield Fault(model, f"{name}, layer {layer}", nth_result(op, "backward", number, L, change))
        for number, part in enumerate(("feed-forward", "attention")):
            call = 2 * (L - 1 - layer) + number
            past = nth_result(ops.residual, "backward", call, 2 * L, lambda d: (0 * d[0], d[1]))
            yield Fault(model, f"no gradient past the {part}, layer {layer}", past)
            through = nth_result(ops.residual, "backward", call, 2 * L, lambda d: (d[0], 0 * d[1]))
            yield Fault(model, f"no gradient through the {part}, layer {layer}", through)
    norm = ops.rms_norm if config.norm == "rms_norm" else ops.layer_norm
    yield Fault(model, "a norm's statistics taken for constants", replaced(norm, "backward", _constant_norm))
    yield Fault(
        model, "softmax without its row sum", replaced(ops.softmax, "backward", lambda right: _no_sum)
    )
    if config.tied:
        once = replaced(ops.embedding, "join", lambda right: lambda dweight, dhead: dhead)
        yield Fault(model, "a tied table's gradient as the head alone", once)
        once = replaced(ops.embedding, "join", lambda right: lambda dweight, dhead: dweight)
        yield Fault(model, "a tied table's gradient as the embedding alone", once)
    if config.position == "rope":
        forth = replaced(ops.rope, "backward", lambda right: lambda dy, saved: (ops.rope.turn(dy, *saved),))
        yield Fault(model, "rotary positions not turned back", forth)
    yield Fault(model, "of equal tokens only one counts", replaced(ops.embedding, "backward", _last_only))


def slight(model: str, names: list[str]) -> Iterator[Fault]:
    """The gradient of one array, or of one layer, 1 % too large."""
    for name in names:
        yield Fault(model, f"gradient of {name} 1 % off", scaled(name))


def scaled(name: str) -> Any:
    """The gradient of all arrays whose names begin with `name` is 1 % too large."""

    def change(found: tuple[Any, Any]) -> tuple[Any, Any]:
        loss, gradients = found
        names = [full for full, _ in tree.named_leaves(gradients) if full.startswith(name)]
        return loss, named(gradients, {full: lambda g: SLIGHTLY * g for full in names})

    return result(LanguageModel, "loss_and_gradients", change)


def _branches(config: ModelConfig) -> Iterator[tuple[str, Any, Change]]:
    attention, feed_forward = ops.attention, ops.feed_forward
    yield "no gradient to the queries", attention, lambda d: (0 * d[0], d[1], d[2])
    yield "no gradient to the keys", attention, lambda d: (d[0], 0 * d[1], d[2])
    yield "no gradient to the values", attention, lambda d: (d[0], d[1], 0 * d[2])
    yield "gradient into attention 1 % off", ops.multi_head_attention, lambda d: (SLIGHTLY * d[0], *d[1:])
    yield "gradient into the feed-forward 1 % off", feed_forward, lambda d: (SLIGHTLY * d[0], *d[1:])


def _constant_norm(right: Change) -> Change:
    def wrong(dy: np.ndarray, saved: Any) -> tuple[Any, ...]:
        _, *dweights = right(dy, saved)
        inverse = saved.rrms if isinstance(saved, ops.rms_norm.Saved) else saved.rstd
        return saved.gamma * dy * inverse, *dweights

    return wrong


def _no_sum(dy: np.ndarray, saved: Any) -> tuple[np.ndarray]:
    return (dy * saved[0],)


def _last_only(right: Change) -> Change:
    def wrong(dy: np.ndarray, saved: Any) -> tuple[np.ndarray]:
        gradient = np.zeros_like(saved.weight)
        gradient[saved.token_ids] = saved.scale * dy
        return (gradient,)

    return wrong
