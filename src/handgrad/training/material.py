"""What a run learns from, in its folder: the tokens of a text, or of conversations and who says them."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from handgrad.data import batches, conversations, examples, token_file
from handgrad.data.corpus import Corpus
from handgrad.data.examples import MULTIPLE, Conversations, Example, Text
from handgrad.errors import UserError
from handgrad.formats.model_folder import Model
from handgrad.generation import chat_example
from handgrad.tokenizer import Tokenizer
from handgrad.training import validation_text
from handgrad.training.validation_text import Measured

TOKENS, MARKS = "tokens.bin", "marks.bin"
LEAST = 2
"""Conversations: one to learn from, one to be judged by."""


class Layout(NamedTuple):
    """What must be known to read it."""

    n_tokens: int
    context_length: int
    """Of a sequence."""
    are_conversations: bool


class Material(NamedTuple):
    """What is learned, and what is kept from learning, to judge by."""

    train: Text | Conversations
    validation: Text | Conversations


def encoded(text: Corpus, model: Model) -> list[Example]:
    """The conversations as `model` reads them; `UserError` names the line of one it cannot learn from."""
    found = []
    for where, messages in conversations.read(text):
        try:
            found.append(chat_example.example(model, messages))
        except UserError as error:
            raise UserError(f"{where}: {error}") from error
    if len(found) < LEAST:
        raise UserError(
            f"Conversations are learned from, and the last tenth kept to judge by: that takes {LEAST} at "
            f"least; got {len(found)}. Give more of them."
        )
    return found


def window(found: Sequence[Example], context_length: int) -> int:
    """The positions that the longest conversation takes, or as many as there are."""
    longest = max(len(example.token_ids) for example in found) - 1
    return min(-(-longest // MULTIPLE) * MULTIPLE, context_length)


def require_answers(found: Sequence[Example], context_length: int) -> None:
    """Raise `UserError` where a conversation is cut before anything in it is learned."""
    for number, example in enumerate(found, start=1):
        if not example.said[1 : context_length + 1].any():
            first = int(np.argmax(example.said))
            raise UserError(
                f"Conversation {number} is cut after {context_length:,} tokens, and its first answer begins "
                f"with token {first + 1:,}. Name a longer context_length, or shorten it."
            )


def write(folder: Path, text: Corpus, tokenizer: Tokenizer, found: Sequence[Example] | None) -> int:
    """Write the tokens of a text or, where there are some, of conversations; return how many there are."""
    if found is None:
        return token_file.write(folder / TOKENS, text, tokenizer)
    return examples.write(folder / TOKENS, folder / MARKS, found, tokenizer.vocab_size)


def read(folder: Path, tokenizer: Tokenizer, layout: Layout) -> Material:
    """What `write` wrote; `UserError` where it is damaged."""
    tokens = token_file.read(folder / TOKENS, tokenizer.vocab_size, layout.n_tokens)
    length = layout.context_length
    if layout.are_conversations:
        learned, held_out = examples.read(tokens, folder / MARKS, length)
        return Material(learned, held_out)
    train, validation = batches.split(tokens, length)
    return Material(Text(train, length), Text(validation, length))


def measure(material: Material, tokenizer: Tokenizer) -> Measured:
    """What is known of what it is judged by; of conversations, of what is said in answer there."""
    train, validation = (_learned(it) for it in material)
    return validation_text.measure(train, validation, tokenizer)


def _learned(of: Text | Conversations) -> np.ndarray:
    return of.said() if isinstance(of, Conversations) else of.tokens
