"""The token ids of a corpus in one file, mapped into memory: however long, only what is read takes room.

The ids stand one after the other, little-endian, in 2 bytes each, or 4 where the vocabulary needs them.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from handgrad.data.corpus import Corpus
from handgrad.tokenizer import Tokenizer


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


def read(path: Path, vocab_size: int) -> np.ndarray:
    """The ids in `path`, mapped, not loaded."""
    return np.memmap(path, dtype(vocab_size), mode="r")


def _encoded(corpus: Corpus, tokenizer: Tokenizer) -> Iterator[np.ndarray]:
    for piece in corpus.pieces():
        yield tokenizer.encode(piece).astype(dtype(tokenizer.vocab_size))
