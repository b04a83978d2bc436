"""Continuing one prompt, piece by piece."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from handgrad import engines
from handgrad.engines.engine import Decoding
from handgrad.formats.model_folder import Model
from handgrad.generation.batch import FORMULAS, advance
from handgrad.generation.request import Request
from handgrad.generation.writer import Piece, Writer, require_tokenizer


def generate(
    model: Model,
    prompt: str,
    *,
    max_tokens: int = 200,
    temperature: float = 0.8,
    top_k: int | None = None,
    top_p: float | None = None,
    seed: int = 0,
    engine: str = FORMULAS,
    **settings: Any,
) -> str:
    """Continue `prompt` by at most `max_tokens` tokens; return what follows. The same seed writes the same.

    `engine` says who computes: "reference", the formulas; "cpu", kernels, which pay for long texts; "xla",
    JAX, on a GPU where there is one. `settings` are all others that `generation.request.Request` and
    `generation.sampling.Sampling` have, by name, such as `stop=["\\n"]` or `repetition_penalty=1.1`.

    Raises `UserError` for settings that mean nothing, and for a prompt that is empty or holds characters the
    model has never seen.
    """
    chosen = {
        "max_tokens": max_tokens,
        "temperature": temperature,
        "top_k": top_k,
        "top_p": top_p,
        "seed": seed,
    }
    return "".join(stream(model, prompt, Request.of(**chosen, **settings), engine=engine))


def stream(
    model: Model,
    prompt: str,
    request: Request,
    *,
    engine: str = FORMULAS,
    precision: str = "auto",
    compiling: Callable[[str], object] = lambda kernel: None,
) -> Iterator[str]:
    """Yield the continuation of `prompt` as it is written; `compiling` as an engine's `decoding` has it."""
    require_tokenizer(model)
    writer = Writer(model, prompt, request)
    decoding = engines.get(engine).decoding(
        model.config, model.weights, precision=precision, compiling=compiling
    )
    return (piece.text for piece in pieces(decoding, writer) if piece.text)


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
