"""Byte-pair encoding on bytes, as GPT-2 does it, trained and applied by the `tokenizers` library.

Frequent pairs of tokens are merged into new ones, beginning with single bytes, so every text has an encoding.

Source: Sennrich, Haddow & Birch (2015), arXiv:1508.07909; on bytes: Radford et al., GPT-2 (2019).
"""

import json
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Self

import numpy as np
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from handgrad.errors import UserError

N_BYTES = 256


class BPETokenizer:
    """Byte-level BPE."""

    kind = "bpe"

    def __init__(self, tokenizer: Tokenizer):
        self._tokenizer = tokenizer

    @classmethod
    def train(cls, texts: Iterable[str], vocab_size: int) -> Self:
        """Learn merges from `texts` up to `vocab_size` tokens, or until no pair is left that occurs twice."""
        if vocab_size < N_BYTES:
            raise UserError(
                f"BPE begins with the {N_BYTES} bytes, so its vocabulary has at least that many tokens; got "
                f"{vocab_size}. Try --vocab-size 1024."
            )
        tokenizer = _byte_level(models.BPE())
        trainer = trainers.BpeTrainer(
            vocab_size=vocab_size,
            min_frequency=2,
            show_progress=False,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        )
        tokenizer.train_from_iterator(texts, trainer)
        return cls(tokenizer)

    @classmethod
    def from_merges(cls, vocabulary: dict[str, int], merges: list[tuple[str, str]]) -> Self:
        """A tokenizer from GPT-2's kind of files: token -> id, and pairs in the order of their merging."""
        return cls(_byte_level(models.BPE(vocabulary, merges)))

    @classmethod
    def from_string(cls, content: str) -> Self:
        """Read the `tokenizers` library's own JSON; `ValueError` where it is something else."""
        try:
            return cls(Tokenizer.from_str(content))
        except Exception as error:  # the library raises bare Exception
            raise ValueError(str(error)) from error

    @property
    def vocab_size(self) -> int:
        return self._tokenizer.get_vocab_size()

    def encode(self, text: str) -> np.ndarray:
        return np.array(self._tokenizer.encode(text).ids, dtype=np.int64)

    def decode(self, token_ids: Sequence[int] | np.ndarray) -> str:
        return self._tokenizer.decode([int(i) for i in token_ids])

    def stream(self) -> Callable[[int], str]:
        decode = decoders.DecodeStream(skip_special_tokens=False)
        return lambda token_id: decode.step(self._tokenizer, int(token_id)) or ""

    def to_json(self) -> dict[str, Any]:
        return {"kind": self.kind, "tokenizer": json.loads(self._tokenizer.to_str())}


def _byte_level(model: models.Model) -> Tokenizer:
    tokenizer = Tokenizer(model)
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer
