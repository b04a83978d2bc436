"""One text in progress: what of it is to be read next, and what comes of the logits. It knows no engine.

    while writer.finished is None:
        keep, token_ids = writer.upcoming()   # the cache keeps so many of its tokens, and reads these
        piece = writer.next(logits)           # of what follows them

A text may grow beyond the model's context. What the model sees is a window: the tokens that every text begins
with, and the newest of the others.
"""

import contextlib
import copy
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from handgrad import convert
from handgrad.errors import UserError
from handgrad.formats.model_folder import Model
from handgrad.generation.constraint import Matcher
from handgrad.generation.request import Request
from handgrad.generation.sampling import Sampling, Seen, adjusted, distribution, draw, log_probabilities
from handgrad.generation.stop import Held
from handgrad.shapes import Bool, Float, Int
from handgrad.tokenizer import Tokenizer


class Candidate(NamedTuple):
    """A token, and its log-probability in nats: the model's own, before any setting."""

    token_id: int
    log_probability: float


class Piece(NamedTuple):
    """What one token brought."""

    text: str
    """What is decided by now, which may be nothing, or more than the token's own."""
    token_id: int
    log_probability: float | None = None
    """Where it was asked for."""
    alternatives: tuple[Candidate, ...] = ()
    """The likeliest tokens, the likeliest first."""
    finished: str | None = None
    """Why the text is over: "length" (max_tokens), "stop" (a stop string, an end, a grammar's end) or
    "context" (full)."""


class Upcoming(NamedTuple):
    """What is to be read before logits are asked for."""

    keep: int
    """The tokens that the cache keeps."""
    token_ids: Int[np.ndarray, " T"]


class Writer:
    """A prompt and its continuation, token by token."""

    def __init__(
        self,
        model: Model,
        prompt: str | Sequence[int] | np.ndarray,
        request: Request,
        capacity: int | None = None,
    ):
        """`capacity`: the tokens that there is room for, by default the model's context."""
        self.request, self._model = request, model
        self.capacity = capacity or model.config.context_length
        self.token_ids = [*model.starts, *encode_prompt(model, prompt)]
        self.n_prompt = len(self.token_ids)
        self.finished: str | None = None
        self.n_forgotten = 0
        """Tokens that the model does not see any more."""
        self.window, self._n_read = list(self.token_ids), 0
        """The tokens that the model sees."""
        self._rng = np.random.default_rng(request.seed)
        self._held = Held(request.stop)
        self._decode: Callable[[int], str] = lambda token_id: ""
        if model.tokenizer is not None:
            self._decode = model.tokenizer.stream(begins=self.n_prompt == len(model.starts))
        self.breakers = breakers(model.tokenizer, request.sampling.dry_breakers)
        self._matcher: Matcher | None = None
        if request.grammar is not None:
            self._matcher = Matcher(request.grammar, require_tokenizer(model), model.ends)
        _require_biases_of(model, request)
        if len(self.window) > self.capacity:
            self._forget(self.capacity)

    def upcoming(self) -> Upcoming:
        """What is to be read next."""
        return Upcoming(self._n_read, np.array(self.window[self._n_read :], np.int64))

    @property
    def room(self) -> int:
        """How many tokens more can be read without forgetting any."""
        return self.capacity - len(self.window)

    @property
    def n_written(self) -> int:
        return len(self.token_ids) - self.n_prompt

    @property
    def n_left(self) -> int:
        """How many tokens may still be written."""
        return self.request.max_tokens - self.n_written

    def coming_random_numbers(self) -> np.random.Generator:
        """A generator of the numbers by which the next tokens will be drawn."""
        return copy.deepcopy(self._rng)

    def next(self, logits: Float[np.ndarray, " V"]) -> Piece:
        """The text goes on by a token drawn from the logits that follow what was `upcoming`."""
        return self.take(self.choose(logits), logits)

    def choose(self, logits: Float[np.ndarray, " V"]) -> int:
        """A token drawn from the logits; at temperature 0 the likeliest."""
        if self.request.sampling.temperature == 0.0:
            return int(np.argmax(adjusted(logits, *self._adjustments(len(logits)))))
        return draw(self.distribution(logits), self._rng)

    def distribution(self, logits: Float[np.ndarray, " V"]) -> Float[np.ndarray, " V"]:
        """The probabilities of the next token, all settings applied."""
        return distribution(logits, *self._adjustments(len(logits)))

    def take(self, token_id: int, logits: Float[np.ndarray, " V"]) -> Piece:
        """The text goes on by this token, which was chosen from `logits`."""
        self._n_read = len(self.window)
        self.token_ids.append(token_id)
        self.window.append(token_id)
        text = self._text(token_id)
        if self.finished is None and self.n_written == self.request.max_tokens:
            self.finished = "length"
        if self.finished is None and len(self.window) > self.capacity:
            self._forget(max(1, self.capacity // 2))
        if self.finished in ("length", "context"):
            text += self._held.rest()
        return Piece(text, token_id, *self._told(token_id, logits), self.finished)

    def _text(self, token_id: int) -> str:
        """The text that is decided by a token; it may be the last one."""
        if token_id in self._model.ends:
            self.finished = "stop"
            return self._held.rest()
        text, found = self._held.add(self._decode(token_id))
        if self._matcher is not None and not found:
            self._matcher.take(token_id)
            if self._matcher.is_over:
                text, found = text + self._held.rest(), True
        if found:
            self.finished = "stop"
        return text

    def _forget(self, keep: int) -> None:
        """See only what every text begins with and the newest tokens; or end, where that is asked for."""
        if self.request.when_full == "stop":
            self.finished = "context"
            return
        self.window, self._n_read = newest(self.token_ids, self._model.starts, keep), 0
        self.n_forgotten = len(self.token_ids) - len(self.window)

    def _adjustments(self, vocab_size: int) -> tuple[Sampling, Seen, Bool[np.ndarray, " V"] | None]:
        seen = Seen(self.token_ids, self.n_prompt, self.breakers)
        return self.request.sampling, seen, self._allowed(vocab_size)

    def _allowed(self, vocab_size: int) -> Bool[np.ndarray, " V"] | None:
        """The tokens that have a text, and that the grammar lets follow."""
        known = vocab_size if self._model.tokenizer is None else self._model.tokenizer.vocab_size
        if known == vocab_size and self._matcher is None:
            return None
        allowed = np.zeros(vocab_size, bool)
        allowed[:known] = True if self._matcher is None else self._matcher.allowed
        return allowed

    def _told(
        self, token_id: int, logits: Float[np.ndarray, " V"]
    ) -> tuple[float | None, tuple[Candidate, ...]]:
        if self.request.log_probabilities is None:
            return None, ()
        told = log_probabilities(logits)
        likeliest = np.argsort(-told, kind="stable")[: self.request.log_probabilities]
        return float(told[token_id]), tuple(Candidate(int(i), float(told[i])) for i in likeliest)


def newest(token_ids: list[int], starts: Sequence[int], n: int) -> list[int]:
    """The newest of a text's tokens, after those that every text begins with: n in all, or the one newest."""
    if len(token_ids) <= n:
        return list(token_ids)
    starts = starts[: n - 1]
    return [*starts, *token_ids[len(starts) - n :]]


def encode_prompt(model: Model, prompt: str | Sequence[int] | np.ndarray) -> list[int]:
    """The prompt's token ids; `UserError` where there are none to go on from, or the model has no such."""
    if isinstance(prompt, str):
        token_ids = require_tokenizer(model).encode(prompt) if prompt else np.empty(0, np.int64)
    else:
        token_ids = convert.integers(prompt, "The prompt")
    if not token_ids.size and not model.starts:
        raise UserError(
            'A model continues a text, so the prompt cannot be empty. Try "The " or a line break.'
        )
    if token_ids.size and not 0 <= token_ids.min() <= token_ids.max() < model.config.vocab_size:
        raise UserError(
            f"Token ids are 0 to {model.config.vocab_size - 1}; the prompt's are {token_ids.min()} to "
            f"{token_ids.max()}. Take the tokenizer of this model."
        )
    return token_ids.tolist()


def require_tokenizer(model: Model) -> Tokenizer:
    """The model's tokenizer; `UserError` where it has none."""
    if model.tokenizer is None:
        raise UserError(
            "To read and write text a model needs a tokenizer; this one has none. Make a Model with one, or "
            "use token ids."
        )
    return model.tokenizer


def breakers(tokenizer: Tokenizer | None, texts: Sequence[str]) -> tuple[int, ...]:
    """The tokens with which `texts` end; a text that the tokenizer does not know breaks nothing."""
    found: list[int] = []
    if tokenizer is not None:
        for text in texts:
            with contextlib.suppress(UserError):
                found += tokenizer.encode(text)[-1:].tolist()
    return tuple(found)


def _require_biases_of(model: Model, request: Request) -> None:
    for token_id in request.sampling.logit_bias:
        if token_id >= model.config.vocab_size:
            raise UserError(
                f"logit_bias is for tokens 0 to {model.config.vocab_size - 1}; got one for {token_id}. Take "
                f"the tokenizer of this model."
            )
