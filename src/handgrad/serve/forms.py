"""Answers as OpenAI's interface has them: whole ones and their pieces, of completions and of chats.

Source: https://platform.openai.com/docs/api-reference/chat/object, /chat/streaming, /completions/object
"""

import time
import uuid
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from handgrad.generation.writer import Piece

REASONS = {"context": "length"}
"""Why a text is over, in OpenAI's words, where they differ from ours."""

Json = dict[str, Any]
Shown = Callable[[int], str]
"""The text of a token."""


class Form(NamedTuple):
    """How one kind of answer looks."""

    prefix: str
    whole: str
    piece: str
    choice: Callable[[str], Json]
    """What a choice contains, from its whole text."""
    delta: Callable[[str], Json]
    """What a piece of a choice contains."""
    log_probabilities: Callable[[Sequence[Piece], Shown], Json]
    start: Json | None = None
    """What comes before the first piece of a choice."""


class Envelope(NamedTuple):
    """What all pieces of an answer have in common."""

    form: Form
    model: str
    id: str
    created: int

    @classmethod
    def new(cls, form: Form, model: str) -> "Envelope":
        return cls(form, model, f"{form.prefix}-{uuid.uuid4().hex}", int(time.time()))

    def whole(self, choices: list[Json], usage: Json) -> Json:
        return self._of(self.form.whole) | {"choices": choices, "usage": usage}

    def piece(self, choices: list[Json], usage: Json | None = None) -> Json:
        return self._of(self.form.piece) | {"choices": choices} | ({"usage": usage} if usage else {})

    def _of(self, kind: str) -> Json:
        return {"id": self.id, "object": kind, "created": self.created, "model": self.model}


def choice(index: int, content: Json, reason: str | None, log_probabilities: Json | None) -> Json:
    """One of the answers that were asked for, or a piece of it."""
    reason = REASONS.get(reason or "", reason)
    return {"index": index, **content, "logprobs": log_probabilities, "finish_reason": reason}


def usage(n_prompt: int, n_cached: int, n_written: int) -> Json:
    """What was read and written, in tokens."""
    return {
        "prompt_tokens": n_prompt,
        "completion_tokens": n_written,
        "total_tokens": n_prompt + n_written,
        "prompt_tokens_details": {"cached_tokens": n_cached},
    }


def _chat_log_probabilities(pieces: Sequence[Piece], shown: Shown) -> Json:
    return {
        "content": [
            _likely(shown, piece.token_id, piece.log_probability)
            | {"top_logprobs": [_likely(shown, *alternative) for alternative in piece.alternatives]}
            for piece in pieces
        ]
    }


def _likely(shown: Shown, token: int, logprob: float | None) -> Json:
    text = shown(token)
    whole = "\ufffd" not in text  # else a part of a character, whose bytes nobody says
    return {"token": text, "logprob": logprob, "bytes": list(text.encode()) if whole else None}


def _completion_log_probabilities(pieces: Sequence[Piece], shown: Shown) -> Json:
    return {
        "tokens": [shown(piece.token_id) for piece in pieces],
        "token_logprobs": [piece.log_probability for piece in pieces],
        "top_logprobs": [{shown(token): value for token, value in piece.alternatives} for piece in pieces],
    }


def _text(text: str) -> Json:
    return {"text": text}


CHAT = Form(
    prefix="chatcmpl",
    whole="chat.completion",
    piece="chat.completion.chunk",
    choice=lambda text: {"message": {"role": "assistant", "content": text}},
    delta=lambda text: {"delta": {"content": text}},
    log_probabilities=_chat_log_probabilities,
    start={"delta": {"role": "assistant", "content": ""}},
)
COMPLETION = Form("cmpl", "text_completion", "text_completion", _text, _text, _completion_log_probabilities)
