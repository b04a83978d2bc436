"""Continuing a prompt, piece by piece."""

import itertools
from collections.abc import Callable, Iterator

import numpy as np

from handgrad import engines
from handgrad.engines.engine import Decoding
from handgrad.errors import UserError, require_whole
from handgrad.formats.model_folder import Model
from handgrad.generation.sampling import Sampling, distribution, draw
from handgrad.tokenizer import Tokenizer

FORMULAS = "reference"


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
) -> str:
    """Continue `prompt` by `max_tokens` tokens; return the continuation. The same seed writes the same text.

    `engine` says who computes: "reference", the formulas; "cpu", kernels, which pay for long texts; "xla",
    JAX, on a GPU where there is one.

    Raises `UserError` for settings that mean nothing, and for a prompt that is empty, longer than the
    context, or holds characters the model has never seen.
    """
    sampling = Sampling(temperature=temperature, top_k=top_k, top_p=top_p)
    return "".join(stream(model, prompt, max_tokens=max_tokens, sampling=sampling, seed=seed, engine=engine))


def stream(
    model: Model,
    prompt: str,
    *,
    max_tokens: int,
    sampling: Sampling,
    seed: int = 0,
    engine: str = FORMULAS,
    compiling: Callable[[str], object] = lambda kernel: None,
) -> Iterator[str]:
    """Yield the continuation of `prompt` as it is written; `compiling` as an engine's `decoding` has it."""
    max_tokens = require_whole("max_tokens", max_tokens, least=1)
    seed = require_whole("seed", seed)
    token_ids = encode_prompt(model, prompt)
    decoding = engines.get(engine).decoding(model.config, model.weights, compiling=compiling)
    written = tokens(decoding, token_ids, sampling, np.random.default_rng(seed))
    return _pieces(model, itertools.islice(written, max_tokens))


def encode_prompt(model: Model, prompt: str) -> np.ndarray:
    """The prompt's token ids; `UserError` where they are none, or too many."""
    tokenizer = _tokenizer(model)
    if not prompt:
        raise UserError(
            'A model continues a text, so the prompt cannot be empty. Try "The " or a line break.'
        )
    token_ids = tokenizer.encode(prompt)
    if len(token_ids) > model.config.context_length:
        raise UserError(
            f"The prompt may fill the model's context of {model.config.context_length} tokens; it has "
            f"{len(token_ids)}. Keep its end: the model would not see more."
        )
    return token_ids


def tokens(
    decoding: Decoding,
    token_ids: np.ndarray,
    sampling: Sampling,
    rng: np.random.Generator,
) -> Iterator[int]:
    """The tokens after `token_ids`, without end.

    Each is read once, into the KV cache. A full cache is emptied, and the newer half of the context read
    again: the model always sees between a half and a whole context.
    """
    context_length = decoding.config.context_length
    seen, unread = [int(i) for i in token_ids], len(token_ids)
    while True:
        with np.errstate(all="ignore"):  # `distribution` looks at what comes out
            (logits,) = decoding.read([np.asarray(seen[-unread:])])
        seen.append(draw(distribution(logits, sampling), rng))
        yield seen[-1]
        unread = 1
        if decoding.lengths[0] == context_length:
            decoding.cut(0, 0)
            unread = max(1, context_length // 2)


def _pieces(model: Model, written: Iterator[int]) -> Iterator[str]:
    complete = _tokenizer(model).stream()
    for token in written:
        piece = complete(token)
        if piece:
            yield piece


def _tokenizer(model: Model) -> Tokenizer:
    if model.tokenizer is None:
        raise UserError(
            "To read and write text a model needs a tokenizer; this one has none. Make a Model with one, or "
            "use token ids."
        )
    return model.tokenizer
