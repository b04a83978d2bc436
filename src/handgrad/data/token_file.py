"""The token ids of a corpus in one file, mapped into memory: however long, only what is read takes room.

The ids stand one after the other, little-endian, in 2 bytes each, or 4 where the vocabulary needs them.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from handgrad.data import files
from handgrad.data.corpus import Corpus
from handgrad.errors import UserError
from handgrad.tokenizer import Tokenizer

BLOCK = 1 << 22
"""Ids checked at a time."""


def dtype(vocab_size: int) -> np.dtype:
    """The smallest type that holds the ids."""
    return np.dtype("<u2" if vocab_size <= 1 << 16 else "<u4")


def write(path: Path, corpus: Corpus, tokenizer: Tokenizer) -> int:
    """Encode `corpus` into `path`; return the number of tokens."""
    n_tokens = 0
    with path.open("wb") as file:
        for token_ids in _encoded(corpus, tokenizer):
            file.write(token_ids.tobytes())
            n_tokens += len(token_ids)
    return n_tokens


def read(path: Path, vocab_size: int, n_tokens: int | None = None) -> np.ndarray:
    """The ids in `path`, mapped, not loaded; `UserError` unless all are tokens, and `n_tokens` of them."""
    n_bytes, width = files.length(path), dtype(vocab_size).itemsize
    if not n_bytes or n_bytes % width or n_tokens not in (None, n_bytes // width):
        wanted = f"{width} bytes for each of {n_tokens:,} tokens" if n_tokens else f"{width} bytes a token"
        raise UserError(f"{path}, the run's text, must have {wanted}; it has {n_bytes:,}. {files.COPY}")
    with files.readable(path):
        tokens = np.memmap(path, dtype(vocab_size), mode="r")
    largest = max(int(tokens[i : i + BLOCK].max()) for i in range(0, len(tokens), BLOCK))
    if largest >= vocab_size:
        raise UserError(
            f"{path}, the run's text, must have token ids below {vocab_size}; it has {largest}. {files.COPY}"
        )
    return tokens


def _encoded(corpus: Corpus, tokenizer: Tokenizer) -> Iterator[np.ndarray]:
    for token_ids in tokenizer.encode_iterable(corpus.pieces()):
        yield token_ids.astype(dtype(tokenizer.vocab_size))
