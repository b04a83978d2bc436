"""Where a neuron is most active: the contexts of a text in which it stands out."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from handgrad.errors import UserError
from handgrad.formats.model_folder import Model
from handgrad.shapes import Float, Int
from handgrad.trace.tapped import Tapped
from handgrad.trace.taps import Taps

WINDOW, BATCH = 128, 8
"""Tokens that are read at a time, and how often at once."""
BEFORE, AFTER = 24, 6
"""Tokens that are told around the one where it is active."""


class Context(NamedTuple):
    """One place in the text."""

    token_ids: Int[np.ndarray, " C"]
    at: int
    """Which of them is where the neuron is active."""
    activation: float


def strongest(
    model: Model, tokens: Int[np.ndarray, " N"], layer: int, unit: int, n: int = 10, most: int = 1 << 15
) -> list[Context]:
    """The `n` places in the first `most` of `tokens` where a unit of a layer's feed-forward is largest.

    `UserError` where there is no such unit.
    """
    config = model.config
    for what, number, size in (("layers", layer, config.n_layers), ("units", unit, config.ff_width)):
        if number not in range(size):
            raise UserError(f"The {what} are 0 to {size - 1}; got {number}.")
    tokens = np.asarray(tokens[:most], np.int64)
    activations = np.concatenate([rows[:, :, unit].ravel() for rows in _hidden(model, tokens, layer)])
    order = np.argsort(-activations, kind="stable")[:n]
    found = []
    for place in order.tolist():
        first = max(place - place % _window(model), place - BEFORE)  # no further than what was read with it
        context = tokens[first : place + 1 + AFTER]
        found.append(Context(context, place - first, float(activations[place])))
    return found


def _window(model: Model) -> int:
    return min(WINDOW, model.config.context_length)


def _hidden(model: Model, tokens: Int[np.ndarray, " N"], layer: int) -> Iterator[Float[np.ndarray, "B T F"]]:
    """The neurons of a layer over the text, in windows that do not overlap."""
    name = f"blocks.{layer}.feed_forward.hidden"
    window = _window(model)
    lower = model.weights._replace(blocks=model.weights.blocks[: layer + 1], norm=None)
    whole = len(tokens) // window * window
    parts = [tokens[:whole].reshape(-1, window)]
    batches = [part for rows in parts for part in np.split(rows, range(BATCH, len(rows), BATCH)) if len(part)]
    if whole < len(tokens):
        batches.append(tokens[None, whole:])
    for batch in batches:
        taps = Taps(frozenset([name]))
        Tapped.of(model.config, taps).hidden(lower, batch)
        yield taps.values[name]
