"""Batches: the text is split; random batches to train on, fixed ones to evaluate."""

from collections.abc import Iterator

import numpy as np

from handgrad.errors import UserError

VALIDATION_SHARE = 0.1

ALL = slice(None)
Batch = tuple[np.ndarray, np.ndarray]
"""Token ids and targets, both (B, T). A target is the token that follows, or -1 where it does not count."""


def split(tokens: np.ndarray, context_length: int) -> tuple[np.ndarray, np.ndarray]:
    """The first nine tenths to train on, the rest to validate; `UserError` where one is below a context."""
    require_windows(len(tokens), context_length)
    window = context_length + 1
    cut = min(int((1.0 - VALIDATION_SHARE) * len(tokens)), len(tokens) - window)
    return tokens[:cut], tokens[cut:]


def require_windows(n_tokens: int, context_length: int) -> None:
    """Raise `UserError` where a text is too short to be split."""
    window = context_length + 1
    if n_tokens < 2 * window:
        raise UserError(
            f"Training and validation need a window of {window} tokens each, {2 * window} in all; this text "
            f"has {n_tokens}. Give more text, or --context-length {max(1, n_tokens // 2 - 1)}."
        )


def draw(
    tokens: np.ndarray,
    batch_size: int,
    context_length: int,
    rng: np.random.Generator,
    own: slice | np.ndarray = ALL,
) -> Batch:
    """A batch of windows; `rng` draws where each begins. Those that are not `own` are not read, and zero."""
    starts = rng.integers(len(tokens) - context_length, size=batch_size)
    token_ids, targets = np.zeros((2, batch_size, context_length), np.int64)
    token_ids[own], targets[own] = _windows(tokens, starts[own], context_length)
    return token_ids, targets


def count(tokens: np.ndarray, context_length: int) -> int:
    """How many windows there are that do not overlap."""
    return (len(tokens) - 1) // context_length


def spread(
    tokens: np.ndarray, batch_size: int, context_length: int, n_windows: int | None = None
) -> Iterator[Batch]:
    """Batches of at most `n_windows` windows, always the same, spread evenly over `tokens`."""
    n_fitting = count(tokens, context_length)
    n_windows = n_fitting if n_windows is None else min(n_windows, n_fitting)
    starts = np.arange(n_windows) * n_fitting // n_windows * context_length
    for first in range(0, n_windows, batch_size):
        yield _windows(tokens, starts[first : first + batch_size], context_length)


def overlapping(tokens: np.ndarray, batch_size: int, context_length: int) -> Iterator[Batch]:
    """Batches of windows whose targets are every token but the first, once each.

    A window begins half a context after the one before it, and what that one predicted does not count again:
    beyond the first window, each token is predicted from at least half a context.
    """
    n_targets, stride = len(tokens) - 1, max(1, context_length // 2)
    last = n_targets - context_length
    starts = np.append(np.arange(0, last, stride), last)
    predicted = np.append(0, starts[:-1] + context_length)
    for first in range(0, len(starts), batch_size):
        part = slice(first, first + batch_size)
        token_ids, targets = _windows(tokens, starts[part], context_length)
        places = starts[part, None] + np.arange(context_length)
        yield token_ids, np.where(places >= predicted[part, None], targets, -1)


def _windows(tokens: np.ndarray, starts: np.ndarray, context_length: int) -> Batch:
    window = tokens[starts[:, None] + np.arange(context_length + 1)].astype(np.int64)
    return window[:, :-1], window[:, 1:]
