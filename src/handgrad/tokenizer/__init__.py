"""Text to token ids and back: what cannot be encoded is refused, so no text is ever lost.

tokenizer = train("characters", texts)
token_ids = tokenizer.encode("ROMEO:")
tokenizer.decode(token_ids)
"""

import json
import reprlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Protocol

import numpy as np

from handgrad.errors import UserError, require_known
from handgrad.tokenizer.bpe import BPETokenizer
from handgrad.tokenizer.characters import CharacterTokenizer
from handgrad.tokenizer.pretrained import PretrainedTokenizer
from handgrad.tokenizer.utf8 import ByteTokenizer

__all__ = [
    "KINDS",
    "BPETokenizer",
    "ByteTokenizer",
    "CharacterTokenizer",
    "PretrainedTokenizer",
    "Tokenizer",
    "from_json",
    "train",
]

KINDS = ("characters", "bytes", "bpe")
"""What can be made for a text; a pretrained one comes with a model."""


class Tokenizer(Protocol):
    """What every tokenizer does."""

    kind: str

    @property
    def vocab_size(self) -> int:
        """How many tokens there are; ids run from 0 below it."""

    @property
    def special_tokens(self) -> dict[str, int]:
        """What is no text, such as the end of a document: its names, which texts encode to, and ids."""

    def encode(self, text: str) -> np.ndarray:
        """The ids of `text`. `UserError` names characters that have none, and what is not Unicode."""

    def encode_iterable(self, pieces: Iterable[str]) -> Iterator[np.ndarray]:
        """The ids of a text that comes in pieces, wherever it is cut: for texts larger than memory."""

    def decode(self, token_ids: Sequence[int] | np.ndarray) -> str:
        """The text of `token_ids`. Bytes that are no UTF-8 become the replacement character.

        Raises `UserError` for ids that no token has.
        """

    def stream(self, *, begins: bool = False) -> Callable[[int], str]:
        """A function from one id after the other to the text it completes, which may be none yet.

        With `begins` these are a text's first ids, and not what follows a prompt: some tokenizers put a blank
        before every text, and take it away again.
        """

    def to_json(self) -> dict[str, Any]:
        """All there is to keep, as JSON; `from_json` reads it."""


def train(
    kind: str, texts: Iterable[str], *, vocab_size: int = 1024, special_tokens: Sequence[str] = ()
) -> Tokenizer:
    """A tokenizer made for `texts`. `vocab_size` and `special_tokens` are for BPE alone."""
    require_known("tokenizer", kind, KINDS)
    if special_tokens and kind != "bpe":
        raise UserError(f"Only bpe has special tokens; got {special_tokens!r} for {kind!r}.")
    if kind == "characters":
        return CharacterTokenizer.train(texts)
    if kind == "bytes":
        return ByteTokenizer()
    return BPETokenizer.train(texts, vocab_size, special_tokens)


def from_json(content: str) -> Tokenizer:
    """The tokenizer that `to_json` described; `UserError` where `content` is not one."""
    try:
        data = json.loads(content)
        kind = data["kind"]
        if kind == "characters":
            return CharacterTokenizer(data["characters"])
        if kind == "bytes":
            return ByteTokenizer()
        if kind == "bpe":
            return BPETokenizer.from_string(json.dumps(data["tokenizer"]))
        if kind == "pretrained":
            return PretrainedTokenizer.from_string(json.dumps(data["tokenizer"]))
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise UserError(f"This is no tokenizer that handgrad wrote ({str(error)[:200]}).") from error
    raise UserError(f"This tokenizer is of a kind handgrad does not know: {reprlib.repr(kind)}.")
