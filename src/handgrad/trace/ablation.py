"""What is missing when a part of the model is switched off."""

from typing import Any, Literal, NamedTuple, get_args

import numpy as np

from handgrad.errors import UserError, require_known
from handgrad.formats.model_folder import Model
from handgrad.shapes import Float
from handgrad.trace import runs
from handgrad.trace.edits import Mixed
from handgrad.trace.prediction import Edits, Trace, trace
from handgrad.trace.runs import Progress, Report

Each = Literal["head", "attention", "feed_forward", "neuron"]
By = Literal["zero", "mean"]
SITES = {
    "head": "attention.heads", "attention": "attention.output", "feed_forward": "feed_forward.down",
    "neuron": "feed_forward.hidden",
}  # fmt: skip
AXES = {"head": 0, "neuron": 1}
"""Where a site has many of them, along which of its axes."""
POSITIONS = {"head": 1, "attention": 0, "feed_forward": 0, "neuron": 0}
"""Which of its axes is that of the positions."""


class Ablation(NamedTuple):
    """What the objective became."""

    each: Each
    result: float
    """With everything."""
    without: Float[np.ndarray, "L *N"]
    """Without one: of heads (L, H), of neurons (L, F), of whole parts (L,); NaN where not asked."""

    @property
    def effect(self) -> np.ndarray:
        """By how much it changed."""
        return self.without - self.result


def ablate(
    model: Model,
    text: Any,
    target: Any = None,
    *,
    rival: Any = None,
    objective: str | None = None,
    each: Each = "head",
    by: By = "zero",
    layers: list[int] | None = None,
    edits: Edits | None = None,
    report: Report | None = None,
) -> Ablation:
    """Switch off each head, attention, feed-forward block or neuron, one at a time.

    The objective is asked for each time. What is switched off writes zero or, by "mean", at every position
    its mean over the text. `layers` are those looked at, by default all; `edits` stay in every run. Memory is
    bounded; time is a run each, and `report` is told the share that is done. Raises `UserError` as `trace`.
    """
    require_known("each", each, get_args(Each))
    require_known("by", by, get_args(By))
    config = model.config
    for layer in layers or []:
        if layer not in range(config.n_layers):
            raise UserError(f"Layers are 0 to {config.n_layers - 1}; got {layer}.")
    chosen = range(config.n_layers) if layers is None else layers
    names = {layer: f"blocks.{layer}.{SITES[each]}" for layer in chosen}
    whole = trace(model, text, target, rival=rival, objective=objective, edits=edits)
    n = {"head": config.n_heads, "neuron": config.ff_width}.get(each)
    without = np.full((config.n_layers, n or 1), np.nan)
    progress = Progress((n or 1) * len(names), report)
    for layer, name in names.items():
        for part in runs.chunks(whole, n or 1):
            edit = _off(whole, name, each, by, part)
            without[layer, part] = runs.results(whole, {name: edit}, part.stop - part.start)
            progress.add(part.stop - part.start)
    return Ablation(each, whole.result, without if n else without[:, 0])


def _off(whole: Trace, name: str, each: Each, by: By, part: slice) -> Mixed:
    """In each run of a batch, something else in place of one head, one neuron, or all that a part writes."""
    value = whole.value(name)
    instead = value.mean(axis=POSITIONS[each], keepdims=True) if by == "mean" else np.zeros_like(value)
    if each not in AXES:
        return Mixed(np.ones((1, *value.shape), bool), instead)
    numbers = np.arange(part.start, part.stop)[:, None] == np.arange(value.shape[AXES[each]])
    shape = [len(numbers), *[1] * value.ndim]
    shape[1 + AXES[each]] = -1
    return Mixed(numbers.reshape(shape), instead)
