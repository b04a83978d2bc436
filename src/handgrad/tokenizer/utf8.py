"""One token a byte of UTF-8: 256 tokens know every text there is."""

import codecs
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np


class ByteTokenizer:
    """A byte's id is its value."""

    kind = "bytes"
    vocab_size = 256

    def encode(self, text: str) -> np.ndarray:
        return np.frombuffer(text.encode("utf-8"), dtype=np.uint8).astype(np.int64)

    def decode(self, token_ids: Sequence[int] | np.ndarray) -> str:
        return bytes(int(i) for i in token_ids).decode("utf-8", errors="replace")

    def stream(self) -> Callable[[int], str]:
        decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        return lambda token_id: decoder.decode(bytes([token_id]))

    def to_json(self) -> dict[str, Any]:
        return {"kind": self.kind}
