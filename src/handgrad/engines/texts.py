"""Texts in progress: how many, how long, and what may be read at their ends. The same for every engine."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from handgrad.errors import UserError, require_known, require_whole, shown
from handgrad.model.config import ModelConfig
from handgrad.model.inputs import require_token_ids

CACHES = "auto", "float32", "bfloat16", "int8"
"""What keys and values are kept in: of every engine "auto", of the cpu engine all."""


def require_cache(cache: str, kept_in: str) -> None:
    """Raise `UserError` unless `cache` is "auto" or the one kind that an engine has."""
    require_known("cache", cache, CACHES)
    if cache not in ("auto", kept_in):
        raise UserError(
            f"This engine keeps keys and values in {kept_in}, in which it computes; got a cache in {cache}. "
            f"Take the cpu engine."
        )


def cache_bytes(config: ModelConfig, n_texts: int, capacity: int | None, n_bytes: int) -> int:
    """What keys and values take where each number takes `n_bytes`."""
    n_tokens = n_texts * (capacity or config.context_length)
    return 2 * n_tokens * config.n_layers * config.kv_heads * config.head_width * n_bytes


def require_room(config: ModelConfig, n_texts: int, capacity: int | None) -> tuple[int, int]:
    """`n_texts` and the tokens that each may have; `UserError` for what is no number of them."""
    n_texts = require_whole("n_texts", n_texts, least=1)
    if capacity is None:
        return n_texts, config.context_length
    capacity = require_whole("capacity", capacity, least=1)
    if capacity > config.context_length:
        raise UserError(
            f"A text's capacity is at most the model's context of {config.context_length} tokens; got "
            f"{capacity}. Leave it out for the whole context."
        )
    return n_texts, capacity


def require_pieces(
    config: ModelConfig,
    pieces: Sequence[Any],
    texts: Sequence[int] | None,
    lengths: np.ndarray,
    capacity: int,
) -> tuple[list[np.ndarray], np.ndarray]:
    """The pieces and the numbers of their texts, as arrays; `UserError` where they cannot be read."""
    if isinstance(pieces, np.ndarray) and pieces.ndim == 1:
        raise UserError("What is read is a list of pieces, one a text. For one text: read([token_ids]).")
    pieces = [np.asarray(piece) for piece in pieces]
    numbers = _require_texts(range(len(pieces)) if texts is None else texts, len(pieces), len(lengths))
    for piece, text in zip(pieces, numbers, strict=True):
        if piece.ndim != 1 or not piece.size:
            raise UserError(
                f"A piece of a text is a row of token ids, at least one; got {piece.shape} for text {text}."
            )
        _require_to_fit(config, int(lengths[text]) + len(piece), capacity)
        require_token_ids(config, piece[None], int(lengths[text]))
    return pieces, numbers


def require_cut(lengths: np.ndarray, text: int, length: int) -> None:
    """Raise `UserError` unless `text` has `length` tokens to keep."""
    _require_texts([text], 1, len(lengths))
    if not 0 <= length <= lengths[text]:
        raise UserError(f"Text {text} has {lengths[text]} tokens; it cannot be cut to {shown(length)}.")


def _require_texts(texts: Sequence[int], n: int, n_texts: int) -> np.ndarray:
    numbers = np.asarray(texts, np.int64)
    if not n or len(numbers) != n:
        raise UserError(f"Every piece is read by one text; got {n} pieces for {len(numbers)} texts.")
    if numbers.min() < 0 or numbers.max() >= n_texts or len(set(numbers.tolist())) < n:
        raise UserError(
            f"Texts are numbered 0 to {n_texts - 1}, each at most once; got {shown(numbers.tolist())}. "
            f"Their number is said at the beginning: decoding(..., n_texts=...)."
        )
    return numbers


def _require_to_fit(config: ModelConfig, n_tokens: int, capacity: int) -> None:
    if capacity < n_tokens <= config.context_length:
        raise UserError(f"There is room for {capacity} tokens a text; got {n_tokens}. Ask for more capacity.")
