"""Conversations to learn from: JSON Lines, each line {"messages": [{"role": ..., "content": ...}, ...]}.

The list alone will do, too. Roles are those of the model's chat template, usually system, user, assistant.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from handgrad.data.corpus import Corpus
from handgrad.errors import UserError, shown

SUFFIX = ".jsonl"
FORM = '{"messages": [{"role": "user", "content": "Hello"}, ...]}'


class Conversation(NamedTuple):
    """Messages, and where they stand: a file and a line."""

    where: str
    messages: list[dict[str, str]]


def are_in(corpus: Corpus) -> bool:
    """Whether `corpus` are conversations, and not texts; `UserError` where they are both."""
    of_conversations = [path.suffix.lower() == SUFFIX for path in corpus.files]
    if any(of_conversations) and not all(of_conversations):
        raise UserError(
            f"A run learns from texts or from conversations ({SUFFIX}); got both. Leave one of them out."
        )
    return any(of_conversations)


def read(corpus: Corpus) -> Iterator[Conversation]:
    """All conversations in order; `UserError` names the line that holds none."""
    for path in corpus.files:
        for number, line in enumerate(_lines(path), start=1):
            if line.strip():
                where = f"{path}, line {number}"
                yield Conversation(where, _messages(line, where))


def _lines(path: Path) -> Iterator[str]:
    for piece in Corpus(path.stem, (path,)).pieces():  # each ends with a line
        yield from piece.removesuffix("\n").split("\n")


def _messages(line: str, where: str) -> list[dict[str, str]]:
    try:
        found = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{where} is not JSON: {_reason(error)}. A line is {FORM}.") from error
    messages = found.get("messages") if isinstance(found, dict) else found
    if not isinstance(messages, list) or not messages:
        raise UserError(f"{where} is no conversation: {shown(found)}. A line is {FORM}.")
    for message in messages:
        if not _is_message(message):
            raise UserError(
                f"{where}: a message is a role and a content, both text; got {shown(message)}. A line is "
                f"{FORM}."
            )
    return messages


def _is_message(message: Any) -> bool:
    return (
        isinstance(message, dict)
        and {"role", "content"} <= message.keys()
        and all(isinstance(value, str) and _is_unicode(value) for value in message.values())
    )


def _is_unicode(text: str) -> bool:
    """Whether `text` holds no half of a surrogate pair, which JSON can write."""
    return not any("\ud800" <= character <= "\udfff" for character in text)


def _reason(error: Exception) -> str:
    return "it is nested too deeply" if isinstance(error, RecursionError) else str(error)
