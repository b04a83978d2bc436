"""A conversation to learn from: its tokens, and which of them the assistant says.

An answer begins where the prompt ends that the model would be asked with, and ends with the token that ends a
text. What the template writes behind that, and all else, is read and not learned. Ids are those of the whole
text where they go on from the prompt's; where a token would reach over the end of the prompt, the answer is
encoded apart, as it is when the model writes it. Names of control tokens in messages stay text (see
`chat_prompt`).
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from handgrad.data.examples import Example
from handgrad.errors import UserError
from handgrad.formats.model_folder import Model
from handgrad.generation import chat_prompt
from handgrad.generation.chat_prompt import Message
from handgrad.generation.writer import require_tokenizer

ASSISTANT = "assistant"


class Part(NamedTuple):
    """Some of a conversation's text: up to `end`."""

    end: int
    is_answer: bool


def example(model: Model, messages: Sequence[Message]) -> Example:
    """`messages` up to the last answer, as the model was trained to read them.

    Raises `UserError` where no answer is among them, where the template refuses them, or writes an answer in
    another way than the prompt before it announced.
    """
    tokenizer, mark = require_tokenizer(model), chat_prompt.new_mark()
    marked = [chat_prompt.marked(tokenizer, message, mark) for message in messages]
    text, parts = _written(model, marked, [message["role"] for message in messages])
    ids: list[int] = []
    said: list[bool] = []
    start = 0
    for end, is_answer in parts:
        whole = chat_prompt.encoded(tokenizer, text[:end], mark)
        goes_on = whole[: len(ids)] == ids
        new = whole[len(ids) :] if goes_on else chat_prompt.encoded(tokenizer, text[start:end], mark)
        ids, start = [*ids, *new], end
        said += _learned(new, model.ends) if is_answer else [False] * len(new)
    ids, said = _ended(ids, said, model)
    before = [] if ids[: len(model.starts)] == list(model.starts) else list(model.starts)
    return Example(np.array([*before, *ids]), np.array([False] * len(before) + said))


def _written(model: Model, marked: Sequence[Message], roles: Sequence[str]) -> tuple[str, list[Part]]:
    """The text up to the last answer, and its parts: in turns what stands before an answer, and it."""
    text, parts = "", list[Part]()
    for i in (i for i, role in enumerate(roles) if role == ASSISTANT):
        asked = chat_prompt.written(model, marked[:i], answers=True)
        answered = chat_prompt.written(model, marked[: i + 1], answers=False)
        if not (asked.startswith(text) and answered.startswith(asked)):
            raise UserError(
                f"The model's chat template writes answer {len(parts) // 2 + 1} otherwise than the prompt "
                f"before it begins it. Give conversations with one answer each, or another model."
            )
        parts += [Part(len(asked), False), Part(len(answered), True)]
        text = answered
    if not parts:
        raise UserError('Nothing in it is said by the role "assistant", which is what is learned.')
    return text, parts


def _learned(answer: Sequence[int], ends: Sequence[int]) -> list[bool]:
    """Which ids of an answer are learned: up to the first that ends it, and that one."""
    n = next((i + 1 for i, token_id in enumerate(answer) if token_id in ends), len(answer))
    return [i < n for i in range(len(answer))]


def _ended(ids: list[int], said: list[bool], model: Model) -> tuple[list[int], list[bool]]:
    """Without what follows the last answer; with an end where the template writes none."""
    n = max((i + 1 for i, learned in enumerate(said) if learned), default=0)
    ids, said = ids[:n], said[:n]
    if model.chat_template is None or not model.ends or (ids and ids[-1] in model.ends):
        return ids, said
    return [*ids, model.ends[0]], [*said, True]
