"""Byte-pair encoding on bytes, as GPT-2 does it, trained and applied by the `tokenizers` library.

Frequent pairs of tokens are merged into new ones, beginning with single bytes, so every text has an encoding.
Special tokens mark what is not text, such as the end of a document; they are never merged.

Source: Sennrich, Haddow & Birch (2015), arXiv:1508.07909; on bytes: Radford et al., GPT-2 (2019).
"""

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from handgrad.errors import UserError, as_whole
from handgrad.tokenizer.boundary import listed, valid

if TYPE_CHECKING:  # imported when first needed: a browser's Python has no such library
    import tokenizers

N_BYTES = 256
MOST_TOKENS = 1 << 20
"""More than any model has; the library aborts the process at sizes that its memory cannot hold."""

PROBE = "".join(map(chr, range(128))) + "Ärger, naïve café, 東京, नमस्ते, 🙂"
"""What a tokenizer from elsewhere must encode and decode without a loss."""


class BPETokenizer:
    """Byte-level BPE. A special token's name in a text is encoded as that one token."""

    kind = "bpe"

    def __init__(self, tokenizer: "tokenizers.Tokenizer"):
        self._tokenizer = tokenizer

    @classmethod
    def train(cls, texts: Iterable[str], vocab_size: int, special_tokens: Sequence[str] = ()) -> Self:
        """Learn merges from `texts` up to `vocab_size` tokens, or until no pair is left that occurs twice.

        `special_tokens` have the last ids. Raises `UserError` for sizes and names that cannot be.
        """
        from tokenizers import models, pre_tokenizers, trainers

        names = _names(special_tokens)
        least, size = N_BYTES + len(names), as_whole(vocab_size)
        if size is None or not least <= size <= MOST_TOKENS:
            raise UserError(
                f"BPE begins with the {N_BYTES} bytes, so its vocabulary has {least:,} to {MOST_TOKENS:,} "
                f"tokens; got {vocab_size}. Try --vocab-size 1024."
            )
        tokenizer = _byte_level(models.BPE())
        trainer = trainers.BpeTrainer(
            vocab_size=size - len(names),
            min_frequency=2,
            show_progress=False,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        )
        tokenizer.train_from_iterator(map(valid, texts), trainer)
        if taken := [name for name in names if tokenizer.token_to_id(name) is not None]:
            raise UserError(
                f"Special tokens must differ from what is learned; {taken[0]!r} is a token already. Try "
                f"'<|endoftext|>'."
            )
        tokenizer.add_special_tokens(names)
        return cls(tokenizer)

    @classmethod
    def from_merges(
        cls,
        vocabulary: dict[str, int],
        merges: list[tuple[str, str]],
        special_tokens: Sequence[str] = (),
    ) -> Self:
        """A tokenizer from GPT-2's kind of files: token -> id, and pairs in the order of their merging.

        Special tokens that the vocabulary lacks have the last ids. Raises `UserError` where vocabulary and
        merges are not one tokenizer's.
        """
        from tokenizers import models

        try:
            tokenizer = _byte_level(models.BPE(vocabulary, merges))
            _require_whole(tokenizer)
        except Exception as error:  # the library raises bare Exception
            raise UserError(
                f"These are no tokenizer: {str(error)[:200]}. Take the vocabulary and merges of one model."
            ) from error
        tokenizer.add_special_tokens(_names(special_tokens))
        return cls(tokenizer)

    @classmethod
    def from_string(cls, content: str) -> Self:
        """Read the `tokenizers` library's own JSON; `ValueError` where it is no byte-level BPE as GPT-2's.

        Its own limit of length is taken off.
        """
        from tokenizers import Tokenizer

        try:
            tokenizer = Tokenizer.from_str(content)
            tokenizer.no_truncation()
            tokenizer.no_padding()
            _require_whole(tokenizer)
        except Exception as error:  # the library raises bare Exception
            raise ValueError(str(error)) from error
        _require_gpt2s_way(tokenizer)
        return cls(tokenizer)

    @property
    def vocab_size(self) -> int:
        return self._tokenizer.get_vocab_size()

    @property
    def special_tokens(self) -> dict[str, int]:
        """The special tokens and their ids."""
        added = self._tokenizer.get_added_tokens_decoder()
        return {token.content: token_id for token_id, token in sorted(added.items())}

    def encode(self, text: str) -> np.ndarray:
        return np.array(self._tokenizer.encode(valid(text)).ids, dtype=np.int64)

    def encode_iterable(self, pieces: Iterable[str]) -> Iterator[np.ndarray]:
        held = ""
        for piece in pieces:
            held += piece
            cut = _last_cut(held)
            if cut:
                yield self.encode(held[:cut])
                held = held[cut:]
        if held:
            yield self.encode(held)

    def decode(self, token_ids: Sequence[int] | np.ndarray) -> str:
        return self._tokenizer.decode(listed(token_ids, self.vocab_size), skip_special_tokens=False)

    def stream(self, *, begins: bool = False) -> Callable[[int], str]:
        from tokenizers import decoders

        decode = decoders.DecodeStream(skip_special_tokens=False)
        return lambda token_id: decode.step(self._tokenizer, listed([token_id], self.vocab_size)[0]) or ""

    def library_json(self) -> str:
        """The `tokenizers` library's own JSON: a tokenizer.json."""
        return self._tokenizer.to_str()

    def to_json(self) -> dict[str, Any]:
        return {"kind": self.kind, "tokenizer": json.loads(self.library_json())}


def _byte_level(model: "tokenizers.models.Model") -> "tokenizers.Tokenizer":
    from tokenizers import Tokenizer, decoders, pre_tokenizers

    tokenizer = Tokenizer(model)
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def _names(special_tokens: Sequence[str]) -> list[str]:
    """The names of special tokens; `UserError` for what cannot be one."""
    if isinstance(special_tokens, str) or not isinstance(special_tokens, Iterable):
        raise UserError(f"special_tokens are a list of names; got {special_tokens!r}. Try ['<|endoftext|>'].")
    names = list(special_tokens)
    for name in names:
        blank = not isinstance(name, str) or len(name.split()) != 1 or name.split()[0] != name
        if blank or names.count(name) > 1:
            raise UserError(
                f"Special tokens must be different names without blanks; got {name!r} among {names!r}. "
                f"Try '<|endoftext|>'."
            )
    return names


def _last_cut(text: str) -> int:
    """The last place where `text` may be cut and be encoded as if it were whole; 0 where there is none.

    GPT-2's words begin with a blank or have none, so a word ends before every blank that follows something
    else.
    """
    for i in range(len(text) - 1, 0, -1):
        if text[i] in " \n" and not text[i - 1].isspace():
            return i
    return 0


def _require_whole(tokenizer: "tokenizers.Tokenizer") -> None:
    """Raise `ValueError` unless ids are 0, 1, 2, ... and nothing in a text is lost."""
    vocabulary = tokenizer.get_vocab()
    if len(vocabulary) > MOST_TOKENS:
        raise ValueError(f"it has {len(vocabulary):,} tokens, more than {MOST_TOKENS:,}")
    if sorted(vocabulary.values()) != list(range(len(vocabulary))):
        raise ValueError("its ids are not 0, 1, 2, and so on, each once")
    token_ids = tokenizer.encode(PROBE).ids
    if tokenizer.decode(token_ids, skip_special_tokens=False) != PROBE:
        raise ValueError("it loses text: what it encodes, it does not decode")


def _require_gpt2s_way(tokenizer: "tokenizers.Tokenizer") -> None:
    """Raise `ValueError` where it splits text otherwise than GPT-2, changes it, or encodes at random.

    `encode_iterable` cuts where GPT-2's split allows it.
    """
    parts = json.loads(tokenizer.to_str())
    model, split = parts["model"], parts["pre_tokenizer"] or {}
    if model["type"] != "BPE":
        raise ValueError(f"its model is {model['type']}, not BPE")
    if model["dropout"]:
        raise ValueError("it encodes at random: its dropout is not zero")
    if parts["normalizer"]:
        raise ValueError("it changes a text before it encodes it")
    if split.get("type") != "ByteLevel" or not split["use_regex"]:
        raise ValueError("it does not split a text into words as GPT-2 does")
