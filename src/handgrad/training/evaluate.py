"""The loss on text that the model does not learn from, always on the same windows."""

import numpy as np

from handgrad.data import batches
from handgrad.engines.engine import Training


def loss(training: Training, tokens: np.ndarray, batch_size: int, n_windows: int | None = None) -> float:
    """The mean loss, in nats a token, over `n_windows` windows spread over `tokens`. Default: all of them."""
    total, n_tokens = 0.0, 0
    for token_ids, targets in batches.spread(tokens, batch_size, training.config.context_length, n_windows):
        total += training.loss(token_ids, targets) * targets.size
        n_tokens += targets.size
    return total / n_tokens
