"""What a model learns from and is judged by, in sequences: windows of a text, or conversations.

Conversations stand one after the other in two files: their tokens as `token_file` has them, and a byte for
each, its *mark*: whether the assistant says it, and whether a conversation begins there. A sequence is one
conversation, filled up behind its end, where no position before it looks: none attends to another one.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np

from handgrad.data import batches, files, token_file
from handgrad.data.batches import ALL, VALIDATION_SHARE, Batch
from handgrad.errors import UserError

SAID, FIRST = 1, 2
"""Bits of a mark."""
MULTIPLE = 32
"""Batches of conversations have a multiple of so many positions: few shapes, and whole vectors."""


class Example(NamedTuple):
    """A conversation as the model reads it."""

    token_ids: np.ndarray
    said: np.ndarray
    """(T,) bool: by the assistant. Only these tokens are learned."""


class Examples(Protocol):
    """Sequences of tokens; which of them count, their targets say."""

    @property
    def n_sequences(self) -> int:
        """How many there are, none of which overlaps another."""

    def draw(self, batch_size: int, rng: np.random.Generator, own: slice | np.ndarray = ALL) -> Batch:
        """A batch of them at random. Those that are not `own` need not be read."""

    def spread(self, batch_size: int, n: int | None = None) -> Iterator[Batch]:
        """Batches of at most `n` sequences, always the same, spread evenly."""


class Text(NamedTuple):
    """Windows of a text."""

    tokens: np.ndarray
    context_length: int

    @property
    def n_sequences(self) -> int:
        return batches.count(self.tokens, self.context_length)

    def draw(self, batch_size: int, rng: np.random.Generator, own: slice | np.ndarray = ALL) -> Batch:
        return batches.draw(self.tokens, batch_size, self.context_length, rng, own)

    def spread(self, batch_size: int, n: int | None = None) -> Iterator[Batch]:
        return batches.spread(self.tokens, batch_size, self.context_length, n)


class Conversations(NamedTuple):
    """Conversations, those that are longer than a context cut at its end."""

    tokens: np.ndarray
    marks: np.ndarray
    edges: np.ndarray
    """Where each begins, and where the last one ends."""
    context_length: int

    @property
    def n_sequences(self) -> int:
        return len(self.edges) - 1

    def draw(self, batch_size: int, rng: np.random.Generator, own: slice | np.ndarray = ALL) -> Batch:
        return self._batch(rng.integers(self.n_sequences, size=batch_size))

    def spread(self, batch_size: int, n: int | None = None) -> Iterator[Batch]:
        n = self.n_sequences if n is None else min(n, self.n_sequences)
        chosen = np.arange(n) * self.n_sequences // n
        for first in range(0, n, batch_size):
            yield self._batch(chosen[first : first + batch_size])

    def said(self) -> np.ndarray:
        """All that the assistant says, one answer after the other."""
        return self.tokens[self.edges[0] : self.edges[-1]][
            self.marks[self.edges[0] : self.edges[-1]] & SAID > 0
        ]

    def opening(self) -> np.ndarray:
        """The first conversation up to its first answer."""
        part = slice(self.edges[0], self.edges[1])
        return self.tokens[part][: int(np.argmax(self.marks[part] & SAID))]

    def _batch(self, numbers: np.ndarray) -> Batch:
        lengths = np.minimum(np.diff(self.edges)[numbers] - 1, self.context_length)
        width = min(-(-int(lengths.max()) // MULTIPLE) * MULTIPLE, self.context_length)
        token_ids, targets = np.zeros((2, len(numbers), width), np.int64)
        targets[:] = -1
        for row, (start, length) in enumerate(zip(self.edges[numbers], lengths, strict=True)):
            window = self.tokens[start : start + length + 1].astype(np.int64)
            said = self.marks[start + 1 : start + length + 1] & SAID > 0
            token_ids[row, :length] = window[:-1]
            targets[row, :length] = np.where(said, window[1:], -1)
        return token_ids, targets


def write(tokens: Path, marks: Path, examples: Sequence[Example], vocab_size: int) -> int:
    """Write conversations into two files; return the number of tokens."""
    ids = np.concatenate([example.token_ids for example in examples])
    marked = np.concatenate([example.said.astype(np.uint8) * SAID for example in examples])
    lengths = [len(example.token_ids) for example in examples]
    marked[np.cumsum([0, *lengths[:-1]])] |= FIRST
    tokens.write_bytes(ids.astype(token_file.dtype(vocab_size)).tobytes())
    marks.write_bytes(marked.tobytes())
    return len(ids)


def read(tokens: np.ndarray, path: Path, context_length: int) -> tuple[Conversations, Conversations]:
    """The conversations of `tokens` and the marks in `path`, to learn from and, the last tenth, to validate.

    Raises `UserError` where the marks are not those of the tokens.
    """
    if files.length(path) != len(tokens):
        raise UserError(f"{path} must have a byte for each of {len(tokens):,} tokens. {files.COPY}")
    with files.readable(path):
        marks = np.fromfile(path, np.uint8)
    edges = np.append(np.flatnonzero(marks & FIRST), len(marks))
    if edges[0] != 0 or int(marks.max()) > SAID | FIRST or not _all_said(marks, edges, context_length):
        raise UserError(f"{path} must mark where conversations begin and what is said in them. {files.COPY}")
    n = len(edges) - 1
    if n < 2:
        raise UserError(f"{path} must mark two conversations or more. {files.COPY}")
    cut = n - max(1, round(VALIDATION_SHARE * n))
    parts = edges[: cut + 1], edges[cut:]
    learned, held_out = (Conversations(tokens, marks, part, context_length) for part in parts)
    return learned, held_out


def _all_said(marks: np.ndarray, edges: np.ndarray, context_length: int) -> bool:
    """Whether each conversation has something to learn, behind its first token and within a context."""
    said = np.append(0, np.cumsum(marks & SAID > 0))
    last = np.minimum(edges[1:], edges[:-1] + context_length + 1)
    return bool((said[last] > said[edges[:-1] + 1]).all())
