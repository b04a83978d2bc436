"""Many texts at once: prompts of any length, each answered as if it were alone.

On the CPU engine a text's logits are the same bits alone and among others, so its answer is the same text. On
the other engines they are the same to rounding.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from handgrad import engines
from handgrad.engines import fits
from handgrad.engines.engine import Decoding
from handgrad.errors import UserError, require_whole
from handgrad.formats.model_folder import Model
from handgrad.generation.request import Request
from handgrad.generation.writer import Piece, Writer
from handgrad.model.count import count

AUTO = "auto"
LARGE = 5_000_000
"""Weights from which on kernels write: they have to be compiled once, which a small model is not worth."""
AT_ONCE = 16
"""Texts in progress, by default."""


class Completion(NamedTuple):
    """A text that is over."""

    text: str
    """What follows the prompt."""
    pieces: tuple[Piece, ...]
    """One a token."""
    finished: str
    """As in `Piece`."""
    n_prompt: int
    """The prompt's tokens, with those that every text begins with."""
    n_forgotten: int
    """Tokens of prompt and text that the model did not see at the end: they are beyond its context."""


def advance(decoding: Decoding, writers: Mapping[int, Writer]) -> dict[int, Piece]:
    """One token more for every writer, whose number is that of its text in `decoding`."""
    upcoming = {text: writer.upcoming() for text, writer in writers.items()}
    for text, (keep, _) in upcoming.items():
        keep_only(decoding, text, keep)
    with np.errstate(all="ignore"):  # what comes out is looked at
        logits = decoding.read([each.token_ids for each in upcoming.values()], list(upcoming))
    return {text: writers[text].next(row) for text, row in zip(upcoming, logits, strict=True)}


def keep_only(decoding: Decoding, text: int, n: int) -> None:
    """Of a text's cache keep n tokens; it may have no more already."""
    if decoding.lengths[text] > n:
        decoding.cut(text, n)


def opened(
    model: Model,
    engine: str,
    precision: str = "auto",
    cache: str = "auto",
    n_texts: int = 1,
    n_tokens: int | None = None,
    compiling: Callable[[str], object] = lambda kernel: None,
) -> Decoding:
    """Empty texts of a model, on the engine of that name; "auto" takes what suits model, precision and cache.

    `n_tokens`: how many a text will have at most, by default the model's context. Raises `UserError` where
    the KV cache of all texts would not fit this machine's memory.
    """
    capacity = min(model.config.context_length, n_tokens or model.config.context_length)
    if engine == AUTO:
        is_large = n_texts * count(model.config).parameters >= LARGE
        is_plain = {precision, cache} <= {"auto", "float32"}
        engine = "reference" if is_plain and not is_large else "cpu"
    chosen, what = engines.get(engine), (model.config, model.weights)
    how: dict[str, Any] = {
        "n_texts": n_texts, "capacity": capacity, "precision": precision, "cache": cache,
        "blocks": model.blocks,
    }  # fmt: skip
    fits.require(chosen.cache_bytes(*what, **how), f"The KV cache of {n_texts} texts of {capacity:,} tokens")
    return chosen.decoding(*what, **how, compiling=compiling)


def complete(
    model: Model,
    prompts: Sequence[str | Sequence[int]],
    requests: Request | Sequence[Request],
    *,
    at_once: int = AT_ONCE,
    engine: str = AUTO,
    precision: str = "auto",
    cache: str = "auto",
    compiling: Callable[[str], object] = lambda kernel: None,
) -> Iterator[tuple[int, Completion]]:
    """Yield each prompt's number and its completion, as they are done: `at_once` texts are in progress.

    `engine` and the rest as in `stream.generate` and `stream.begun`.

    Raises `UserError` for a prompt that cannot be continued, before anything is written.
    """
    each = [requests] * len(prompts) if isinstance(requests, Request) else list(requests)
    asked = enumerate(zip(prompts, each, strict=True), 1)
    waiting = [_writer(model, prompt, request, number, len(prompts)) for number, (prompt, request) in asked]
    n_texts = min(require_whole("at_once", at_once, least=1), max(1, len(waiting)))
    n_tokens = max((writer.n_prompt + writer.request.max_tokens for writer in waiting), default=1)
    return _completed(opened(model, engine, precision, cache, n_texts, n_tokens, compiling), waiting)


def _writer(
    model: Model, prompt: str | Sequence[int], request: Request, number: int, n_prompts: int
) -> Writer:
    try:
        return Writer(model, prompt, request)
    except UserError as error:
        raise UserError(f"Prompt {number} of {n_prompts}: {error}") from error


def _completed(decoding: Decoding, writers: Sequence[Writer]) -> Iterator[tuple[int, Completion]]:
    """Texts as they are done; where one is, the next takes its place."""
    waiting, free = iter(enumerate(writers)), list(range(len(decoding.lengths)))
    active: dict[int, tuple[int, list[Piece]]] = {}
    while True:
        while free and (following := next(waiting, None)):
            number, writer = following
            if writer.finished is not None:
                yield number, completion(writer, [])
            else:
                active[free.pop()] = number, []
        if not active:
            return
        for text, piece in advance(decoding, {t: writers[n] for t, (n, _) in active.items()}).items():
            number, pieces = active[text]
            pieces.append(piece)
            if piece.finished is not None:
                del active[text]
                free.append(text)
                yield number, completion(writers[number], pieces)


def completion(writer: Writer, pieces: Sequence[Piece]) -> Completion:
    """What a writer that is done has written."""
    text = "".join(piece.text for piece in pieces)
    return Completion(text, tuple(pieces), writer.finished or "length", writer.n_prompt, writer.n_forgotten)
