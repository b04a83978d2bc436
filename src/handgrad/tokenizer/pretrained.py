"""A tokenizer that came with a model: whatever the `tokenizers` library reads from a tokenizer.json.

Byte-level BPE with any split into words (GPT-2, Llama 3, Qwen, SmolLM), and SentencePiece's pieces (Llama 2,
Mistral): blanks are "▁", and what has no piece is spelled in bytes, as "<0x41>". Unlike our own kinds it may
lose text: some normalize it first. What the library adds around a text is not encoded: see `starts`.
"""

import contextlib
import heapq
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from handgrad.errors import UserError
from handgrad.tokenizer.boundary import listed, valid

if TYPE_CHECKING:  # imported when first needed: a browser's Python has no such library
    import tokenizers

MOST_TOKENS = 1 << 22
"""More than any model has."""
MOST_ADDED = 16
"""Tokens that a post-processor may put before a text."""
PROBES = 1000
"""Tokens that are tried as a text that can be encoded."""


class PretrainedTokenizer:
    """A tokenizer of the `tokenizers` library. A special token's name in a text is encoded as that token."""

    kind = "pretrained"

    def __init__(self, tokenizer: "tokenizers.Tokenizer"):
        self._tokenizer = tokenizer
        vocabulary = tokenizer.get_vocab(with_added_tokens=True)
        self._ids = max(vocabulary.values(), default=-1) + 1
        self._probe = _encoded(tokenizer, heapq.nsmallest(PROBES, vocabulary, vocabulary.__getitem__))

    @classmethod
    def from_string(cls, content: str) -> Self:
        """Read a tokenizer.json; `ValueError` where it is none, or does not encode.

        Its own limit of length is taken off.
        """
        from tokenizers import Tokenizer

        try:
            tokenizer = Tokenizer.from_str(content)
            tokenizer.no_truncation()
            tokenizer.no_padding()
            made = cls(tokenizer)
            _require_usable(made)
        except BaseException as error:
            if not _is_the_librarys(error):
                raise
            raise ValueError(str(error)) from error
        return made

    @property
    def vocab_size(self) -> int:
        """One more than the largest id; a few below it may be no token's."""
        return self._ids

    @property
    def starts(self) -> tuple[int, ...]:
        """The ids that the library's post-processor puts before a text."""
        plain = self._tokenizer.encode(self._probe, add_special_tokens=False).ids
        whole = self._tokenizer.encode(self._probe, add_special_tokens=True).ids
        for first in reversed(range(min(len(whole) - len(plain), MOST_ADDED) + 1)):
            if whole[first : first + len(plain)] == plain:
                return tuple(whole[:first])
        return ()

    @property
    def special_tokens(self) -> dict[str, int]:
        """The special tokens and their ids."""
        added = self._tokenizer.get_added_tokens_decoder()
        return {token.content: i for i, token in sorted(added.items()) if token.special}

    def token_id(self, token: str) -> int | None:
        """The id of a token by its name, such as "<|im_end|>"; None where there is none."""
        return self._tokenizer.token_to_id(token)

    def encode(self, text: str) -> np.ndarray:
        try:
            token_ids = self._tokenizer.encode(valid(text), add_special_tokens=False).ids
        except BaseException as error:
            if not _is_the_librarys(error):
                raise
            raise UserError(
                f"The model's tokenizer has no tokens for all of this text ({error}). Leave out what it "
                f"cannot know."
            ) from error
        return np.array(token_ids, dtype=np.int64)

    def encode_iterable(self, pieces: Iterable[str]) -> Iterator[np.ndarray]:
        """The text is encoded as a whole, in memory: where it may be cut, each tokenizer has its own rule."""
        text = "".join(pieces)
        if text:
            yield self.encode(text)

    def decode(self, token_ids: Sequence[int] | np.ndarray) -> str:
        """The text of `token_ids`, special tokens by their names. An id that no token has is left out."""
        return self._tokenizer.decode(listed(token_ids, self.vocab_size), skip_special_tokens=False)

    def stream(self, *, begins: bool = False) -> Callable[[int], str]:
        from tokenizers import decoders

        before = [] if begins else self._tokenizer.encode(self._probe, add_special_tokens=False).ids
        decode = decoders.DecodeStream(ids=before, skip_special_tokens=False)
        return lambda token_id: decode.step(self._tokenizer, listed([token_id], self.vocab_size)[0]) or ""

    def library_json(self) -> str:
        """The library's own JSON: a tokenizer.json."""
        return self._tokenizer.to_str()

    def to_json(self) -> dict[str, Any]:
        return {"kind": self.kind, "tokenizer": json.loads(self.library_json())}


def _is_the_librarys(error: BaseException) -> bool:
    """Whether the library raised it: bare Exceptions, and panics of Rust, which are none."""
    return isinstance(error, Exception) or type(error).__name__ == "PanicException"


def _encoded(tokenizer: "tokenizers.Tokenizer", tokens: list[str]) -> str:
    """A text that has an encoding; `ValueError` where there is none. Not every tokenizer knows an "a"."""
    for text in ("a", *tokens):
        with contextlib.suppress(Exception):  # the library raises bare Exception
            if (token_ids := tokenizer.encode(text, add_special_tokens=False).ids) and tokenizer.decode(
                token_ids
            ):
                return text
    raise ValueError("it encodes nothing")


def _require_usable(tokenizer: PretrainedTokenizer) -> None:
    """Raise `ValueError` unless it has as many tokens as a model may have, and encodes alike each time."""
    if not 0 < tokenizer.vocab_size <= MOST_TOKENS:
        raise ValueError(f"its ids must be below {MOST_TOKENS:,}; they go to {tokenizer.vocab_size - 1:,}")
    model = tokenizer.to_json()["tokenizer"]["model"]
    if model.get("dropout"):
        raise ValueError("it encodes at random: its dropout is not zero")
