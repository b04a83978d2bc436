"""One token a byte of UTF-8: 256 tokens know every text there is."""

import codecs
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from handgrad.tokenizer.boundary import listed, valid


class ByteTokenizer:
    """A byte's id is its value."""

    kind = "bytes"
    vocab_size = 256

    @property
    def special_tokens(self) -> dict[str, int]:
        return {}

    def encode(self, text: str) -> np.ndarray:
        return np.frombuffer(valid(text).encode("utf-8"), dtype=np.uint8).astype(np.int64)

    def encode_iterable(self, pieces: Iterable[str]) -> Iterator[np.ndarray]:
        return map(self.encode, pieces)

    def decode(self, token_ids: Sequence[int] | np.ndarray) -> str:
        return bytes(listed(token_ids, self.vocab_size)).decode("utf-8", errors="replace")

    def stream(self, *, begins: bool = False) -> Callable[[int], str]:
        decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        return lambda token_id: decoder.decode(bytes(listed([token_id], self.vocab_size)))

    def to_json(self) -> dict[str, Any]:
        return {"kind": self.kind}
