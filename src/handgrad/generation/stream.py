"""Continuing one prompt, piece by piece."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from handgrad.engines.engine import Decoding
from handgrad.errors import require_known
from handgrad.formats.model_folder import Model
from handgrad.generation import speculation
from handgrad.generation.batch import AUTO, advance, opened
from handgrad.generation.request import Request
from handgrad.generation.writer import Piece, Writer, require_tokenizer
from handgrad.model.count import count


def generate(
    model: Model,
    prompt: str,
    *,
    max_tokens: int = 200,
    temperature: float = 0.8,
    top_k: int | None = None,
    top_p: float | None = None,
    seed: int = 0,
    engine: str = AUTO,
    draft: Model | str | None = None,
    **settings: Any,
) -> str:
    """Continue `prompt` by at most `max_tokens` tokens; return what follows. The same seed writes the same.

    `engine` says who computes: "reference", the formulas; "cpu", kernels; "auto", the kernels where the model
    is large; "xla", JAX, on a GPU where there is one. `draft` guesses ahead, which changes nothing but the
    speed: "lookup", or a smaller model with the same tokenizer. `settings` are all others that
    `generation.request.Request` and `generation.sampling.Sampling` have, by name, such as `stop=["\\n"]` or
    `repetition_penalty=1.1`.

    Raises `UserError` for settings that mean nothing, and for a prompt that is empty or holds characters the
    model has never seen.
    """
    settings |= {"max_tokens": max_tokens, "temperature": temperature, "top_k": top_k, "top_p": top_p}
    request = Request.of(seed=seed, **settings)
    return "".join(stream(model, prompt, request, engine=engine, draft=draft))


def stream(
    model: Model,
    prompt: str,
    request: Request,
    *,
    engine: str = AUTO,
    precision: str = "auto",
    cache: str = "auto",
    draft: Model | str | None = None,
    compiling: Callable[[str], object] = lambda kernel: None,
) -> Iterator[str]:
    """Yield the continuation of `prompt` as it is written; all else as in `begun`."""
    require_tokenizer(model)
    _, written = begun(
        model, prompt, request, engine=engine, precision=precision, cache=cache, draft=draft,
        compiling=compiling,
    )  # fmt: skip
    return (piece.text for piece in written if piece.text)


def begun(
    model: Model,
    prompt: str | Sequence[int],
    request: Request,
    *,
    engine: str = AUTO,
    precision: str = "auto",
    cache: str = "auto",
    draft: Model | str | None = None,
    compiling: Callable[[str], object] = lambda kernel: None,
) -> tuple[Writer, Iterator[Piece]]:
    """A text that has begun: its writer, and what each token brings.

    `cache` is what keys and values are kept in, as in `engines.cpu.decoding`. `draft` guesses ahead (see
    `speculation`): "lookup", or a smaller model with the same tokenizer. `compiling` is told the name of
    every kernel that has to be compiled.
    """
    writer = Writer(model, prompt, request)
    n_tokens = writer.n_prompt + request.max_tokens

    def opening(of: Model) -> Decoding:
        return opened(of, engine, precision, cache, 1, n_tokens, compiling)

    guess = _guess(model, draft, opening)
    decoding = opening(model)
    if guess is None:
        return writer, pieces(decoding, writer)
    return writer, speculation.pieces(decoding, writer, guess)


def pieces(decoding: Decoding, writer: Writer, text: int = 0) -> Iterator[Piece]:
    """What each token brings, until the text is over. Each is read once, into the KV cache.

    A full cache is emptied, and the newer half of the context read again: the model always sees between a
    half and a whole context.
    """
    while writer.finished is None:
        yield advance(decoding, {text: writer})[text]


def token_ids(
    model: Model, decoding: Decoding, prompt: Sequence[int] | np.ndarray, request: Request
) -> list[int]:
    """The ids that follow those of a prompt, for models with a tokenizer or without."""
    return [piece.token_id for piece in pieces(decoding, Writer(model, prompt, request))]


def _guess(
    model: Model, draft: Model | str | None, opening: Callable[[Model], Decoding]
) -> speculation.Guess | None:
    if draft is None:
        return None
    if isinstance(draft, Model):
        speculation.require_same_tokens(draft, model)
        share = count(draft.config).parameters / count(model.config).parameters
        return speculation.DraftModel(draft, opening(draft), share)
    require_known("draft", draft, ["lookup"])
    return speculation.Lookup()
