"""Messages as a prompt: by the chat template that came with a model, or in plain lines.

    User: How are you?
    Assistant: Fine. And you?

Control tokens come from the template alone. A message may name one, as in `What does <|im_end|> do?`; were it
encoded as that token, whoever writes a message could end it and begin another in anybody's name. So in
messages such names are broken in two by a mark, and what stands on its two sides is encoded apart: the same
text, in other tokens (where SentencePiece begins with a blank, with one in between). Prompts in which no
message names one have the ids that `transformers` gives them.
"""

import secrets
from collections.abc import Sequence
from typing import NamedTuple

from handgrad.errors import UserError, shown
from handgrad.formats import chat_template
from handgrad.formats.model_folder import Model
from handgrad.generation.writer import require_tokenizer
from handgrad.tokenizer import Tokenizer

PLAIN_STOPS = ("\nUser:",)
ANSWER = "Assistant:"

Message = dict[str, str]
"""A "role", which is system, user or assistant, and the "content"."""


class Prompt(NamedTuple):
    """What a model reads behind what every text begins with, and what ends its answer besides its ends."""

    token_ids: Sequence[int]
    stops: tuple[str, ...] = ()


def prompt(model: Model, messages: Sequence[Message]) -> Prompt:
    """The messages as the model was trained to read them, up to where its answer begins.

    Raises `UserError` for messages that its template refuses, or characters that it does not know.
    """
    tokenizer, starts, mark = require_tokenizer(model), list(model.starts), new_mark()
    text = written(model, [marked(tokenizer, message, mark) for message in messages], answers=True)
    token_ids = encoded(tokenizer, text, mark)
    if model.chat_template is None:
        return Prompt(token_ids, PLAIN_STOPS)
    begun = token_ids[: len(starts)] == starts  # by the template; a writer begins every text itself
    return Prompt(token_ids[len(starts) :] if begun else token_ids)


def written(model: Model, messages: Sequence[Message], *, answers: bool) -> str:
    """The messages as one text; with `answers`, the beginning of the next answer stands behind them.

    Without a template, the beginning of the next question does: it is what ends an answer.
    """
    if model.chat_template is None:
        lines = [_line(message) for message in messages]
        return "\n".join([*lines, ANSWER]) if answers else "\n".join(lines) + PLAIN_STOPS[0]
    tokenizer = require_tokenizer(model)
    named = tokenizer.decode(list(model.starts)), tokenizer.decode(model.ends[:1])
    return chat_template.render(model.chat_template, messages, *named, add_generation_prompt=answers)


def new_mark() -> str:
    """What nobody can write into a message, and no template changes: it has no letters."""
    return f"\ue000{secrets.randbelow(10**18):018}\ue000"


def marked(tokenizer: Tokenizer, message: Message, mark: str) -> Message:
    """A message with a mark within the name of every special token, wherever a template may read one."""
    is_text = isinstance(message, dict) and all(isinstance(value, str) for value in message.values())
    if not is_text or not {"role", "content"} <= message.keys():
        raise UserError(
            'A message is a role and a content, both text, such as {"role": "user", "content": "Hello"}; got '
            f"{shown(message)}."
        )
    return {key: _broken(tokenizer, value, mark) for key, value in message.items()}


def _broken(tokenizer: Tokenizer, text: str, mark: str) -> str:
    for name in sorted(tokenizer.special_tokens, key=len, reverse=True):  # one may be part of another
        text = text.replace(name, name[:1] + mark + name[1:])
    return text


def encoded(tokenizer: Tokenizer, text: str, mark: str) -> list[int]:
    """The ids of a text, of what stands between marks apart."""
    return [int(i) for part in text.split(mark) if part for i in tokenizer.encode(part)]


def _line(message: Message) -> str:
    said = message["content"].strip()
    return f"{said}\n" if message["role"] == "system" else f"{message['role'].title()}: {said}"
