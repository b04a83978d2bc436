"""A slot: one text of a `Decoding`, which one job after the other uses."""

import numpy as np

from handgrad.engines.engine import Decoding
from handgrad.generation.prefix import n_shared
from handgrad.serve.job import Job


class Slot:
    """Text `number` of `decoding`: the tokens in its cache, and those that are to be read.

    A cache is kept when its job is over: the next one reads only where its prompt differs, as the next turn
    of a conversation does.
    """

    def __init__(self, decoding: Decoding, number: int):
        self.number = number
        self.job: Job | None = None
        self.free_since = 0.0
        self._decoding = decoding
        self._read: list[int] = []
        self._unread: list[int] = []

    @property
    def n_tokens(self) -> int:
        """Tokens in the cache."""
        return len(self._read)

    @property
    def n_unread(self) -> int:
        return len(self._unread)

    @property
    def has_written(self) -> bool:
        """Whether the text is past its prompt."""
        return self.job is not None and self.n_tokens + self.n_unread > len(self.job.token_ids)

    def shared(self, token_ids: np.ndarray) -> int:
        """Tokens at the beginning of a prompt that are in the cache; its last one has to be read anyway."""
        return n_shared(self._read, token_ids)

    def begin(self, job: Job) -> None:
        """Keep what the prompt shares with the last text; all else is to be read."""
        job.n_cached = self.shared(job.token_ids)
        self._keep(job.n_cached)
        self._unread = job.token_ids[job.n_cached :].tolist()
        self.job = job

    def take(self, most: int) -> np.ndarray:
        """The next tokens to read, at most so many."""
        piece, self._unread = self._unread[:most], self._unread[most:]
        self._read += piece
        return np.array(piece, np.int64)

    def append(self, token: int) -> None:
        """A token was written: it is read next."""
        self._unread.append(token)

    def end(self, now: float) -> None:
        self.job, self._unread, self.free_since = None, [], now

    def forget(self) -> None:
        """Empty the cache."""
        self._keep(0)

    def _keep(self, length: int) -> None:
        self._decoding.cut(self.number, length)
        self._read = self._read[:length]
