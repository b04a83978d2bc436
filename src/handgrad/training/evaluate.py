"""The loss on text that the model does not learn from, always on the same windows.

A run's last evaluation reads the whole validation text in windows that do not overlap: a window's first
target is predicted from one token, its last from a whole context. `strided` gives every token at least half a
context, which costs twice as much and gives a lower loss: the two do not compare.
"""

from collections.abc import Iterable

import numpy as np

from handgrad.data import batches
from handgrad.data.batches import Batch
from handgrad.engines.engine import Training


def loss(training: Training, tokens: np.ndarray, batch_size: int, n_windows: int | None = None) -> float:
    """The mean loss, in nats a token, over `n_windows` windows spread over `tokens`. Default: all of them."""
    windows = batches.spread(tokens, batch_size, training.config.context_length, n_windows)
    return mean(training, windows)


def strided(training: Training, tokens: np.ndarray, batch_size: int) -> float:
    """The mean loss, in nats a token, over all of `tokens` in windows that overlap by half.

    Only the later half of a window counts, but for the first window's.
    """
    return mean(training, batches.overlapping(tokens, batch_size, training.config.context_length))


def mean(training: Training, windows: Iterable[Batch]) -> float:
    """The mean over the targets that count."""
    total, n_tokens = 0.0, 0
    for token_ids, targets in windows:
        n_counted = int((targets >= 0).sum())
        total += training.loss(token_ids, targets) * n_counted
        n_tokens += n_counted
    return total / n_tokens
