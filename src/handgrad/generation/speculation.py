"""Speculation: several tokens are guessed and read at once; what the model would have written itself is kept.

One read of n + 1 tokens tells what follows each of them. Where reading a token takes as long as fetching the
weights from memory, it costs hardly more than a read of one. Each token is drawn from the model's own
distribution by the text's own random numbers, as without speculation; a guess only decides whether the next
logits are there already. So the text is the same, whatever is guessed: for the same seed, token by token,
where logits are the same bits however a text is cut (the CPU engine), else to their rounding. (For a guess
that is one token, this is the rule of Leviathan, Kalman & Matias, 2023, arXiv:2211.17192: it stays with the
probability that the model gives it, and what replaces it is drawn from the rest.)

Two ways to guess: `Lookup` finds the newest tokens earlier in the text and proposes what followed there
(Saxena, 2023, "prompt lookup decoding"); `DraftModel` asks a smaller model, which draws by the same random
numbers as the text will, so that it guesses right wherever both are of one mind. `Gauge` stops what does not
pay.
"""

import statistics
import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import Protocol

import numpy as np

from handgrad.engines.engine import Decoding
from handgrad.errors import UserError
from handgrad.formats.model_folder import Model
from handgrad.generation.batch import advance, keep_only
from handgrad.generation.sampling import Seen, distribution, draw
from handgrad.generation.writer import Piece, Writer

NGRAMS = (3, 2)
"""How many of the newest tokens are looked for, the more the better."""
MOST = 16
"""Tokens guessed at once."""
RECENT = 7
"""Reads whose median is taken."""
NEWEST = 64
"""Tokens that a draft model reads of a text of which more is new to it."""
SHARE = 0.02
"""Of the time so far, what guesses that did not pay may have cost."""


class Guess(Protocol):
    """What proposes how a text goes on."""

    def propose(self, writer: Writer, n: int) -> list[int]:
        """At most n tokens that may follow."""

    def lag(self, writer: Writer) -> float:
        """What has to be read before it can propose, in tokens that the model would read meanwhile."""


class Lookup:
    """Proposes what followed the newest tokens where they stood last time."""

    def __init__(self) -> None:
        self._places: dict[tuple[int, ...], int] = {}
        self._n_seen = 0

    def propose(self, writer: Writer, n: int) -> list[int]:
        """At most n tokens that may follow."""
        text = writer.token_ids
        for end in range(self._n_seen + 1, len(text)):  # not of the newest token: nothing follows it yet
            for size in NGRAMS:
                self._places[tuple(text[max(0, end - size) : end])] = end
        self._n_seen = max(self._n_seen, len(text) - 1)
        for size in NGRAMS:
            place = self._places.get(tuple(text[-size:]))
            if place is not None and len(text) >= size:
                return _from(place, text, n)
        return []

    def lag(self, writer: Writer) -> float:
        """Nothing."""
        return 0.0


def _from(place: int, text: list[int], n: int) -> list[int]:
    """n tokens from a place on; what begins near the end goes on with itself."""
    period = len(text) - place
    return [text[place + i % period] for i in range(n)]


class DraftModel:
    """A smaller model with the same tokens proposes; `share` is what a token takes it of the model's time."""

    def __init__(self, draft: Model, decoding: Decoding, share: float = 1.0):
        self._draft, self._decoding, self._share = draft, decoding, share
        self._first, self._n_known = 0, 0  # of the window: where it began to read, and up to where it has
        self._read: list[int] = []

    def propose(self, writer: Writer, n: int) -> list[int]:
        """At most n tokens that may follow, drawn by the random numbers that the text will use."""
        if self._n_new(writer) > self._most_new or len(writer.window) - self._first + n > self._capacity:
            self._first = max(0, len(writer.window) - self._most_new)
        text, rng = writer.window[self._first :], writer.coming_random_numbers()
        self._n_known = len(writer.window)
        n = min(n, self._capacity - len(text) + 1)
        proposed: list[int] = []
        while len(proposed) < n:
            logits = self._logits([*text, *proposed])
            seen = Seen([*writer.token_ids, *proposed], writer.n_prompt, writer.breakers)
            proposed.append(draw(distribution(logits, writer.request.sampling, seen), rng))
        return proposed

    def lag(self, writer: Writer) -> float:
        """What is new to it, or the newest of that."""
        return self._share * min(self._most_new, self._n_new(writer))

    @property
    def _capacity(self) -> int:
        return self._draft.config.context_length

    @property
    def _most_new(self) -> int:
        """Half a context at most: what is read anew leaves room to go on."""
        return min(NEWEST, max(1, self._capacity // 2))

    def _n_new(self, writer: Writer) -> int:
        """All of a window that became shorter."""
        n = len(writer.window)
        return n - self._n_known if n >= self._n_known else n

    def _logits(self, token_ids: list[int]) -> np.ndarray:
        """What follows, of the tokens that both models know."""
        shared = 0
        while shared < min(len(self._read), len(token_ids) - 1) and self._read[shared] == token_ids[shared]:
            shared += 1
        keep_only(self._decoding, 0, shared)
        with np.errstate(all="ignore"):  # what comes out is looked at
            (logits,) = self._decoding.read([np.array(token_ids[shared:])])
        self._read = token_ids
        return logits


class Gauge:
    """Decides by the clock how many tokens to guess: what is written does not depend on it.

    A read takes the median of what the last ones with as many guesses took: single measurements say little.
    """

    def __init__(self, clock: Callable[[], float] = time.perf_counter):
        self.now = clock
        self._elapsed = self._lost = self._gain = self._seconds_a_token_read = 0.0
        self._seconds: dict[int, deque[float]] = {}
        """Of reads of one token and so many guesses, the last ones."""
        self._n = 2

    def n_guesses(self, lag: float = 0.0) -> int:
        """How many are worth it now, where so many tokens have to be read before; 0: none."""
        if 0 not in self._seconds:
            return 0
        if self._gain > 0:
            return self._n
        affordable = SHARE * self._elapsed - self._lost - lag * self._seconds_a_token_read
        return max(0, min(self._n, int(affordable / max(self._seconds_a_guess(), 1e-9))))

    def measured(
        self, seconds: float, n_guessed: int, n_tokens: int, *, n_read: int, lag: float = 0.0
    ) -> None:
        """A read of `n_read` tokens besides the guesses took so long, and brought `n_tokens`.

        What it took to read the `lag` is paid once: it is a loss, but says nothing of the next guesses.
        """
        self._elapsed += seconds
        if n_read != 1:  # the prompt, or a context read again
            self._seconds_a_token_read = seconds / n_read
            return
        once = min(seconds, lag * self._seconds_a_token_read) if n_guessed else 0.0
        self._seconds.setdefault(n_guessed, deque(maxlen=RECENT)).append(seconds - once)
        if not n_guessed or 0 not in self._seconds:
            return
        gain = n_tokens * self._median(0) - self._median(n_guessed)
        self._gain = 0.5 * (self._gain + gain)
        self._lost = max(0.0, self._lost + once - gain)
        self._n = min(2 * self._n, MOST) if n_tokens > n_guessed else max(1, n_tokens - 1)

    def _seconds_a_guess(self) -> float:
        """What each adds to a read; before any was made, as much as a token."""
        plain = self._median(0)
        added = [(self._median(n) - plain) / n for n in self._seconds if n]
        return max(0.0, min(added, default=plain))

    def _median(self, n_guessed: int) -> float:
        return statistics.median(self._seconds[n_guessed])


def pieces(
    decoding: Decoding, writer: Writer, guess: Guess, text: int = 0, gauge: Gauge | None = None
) -> Iterator[Piece]:
    """What each token brings, as `stream.pieces` has it, sooner where the guesses are good."""
    gauge = gauge or Gauge()
    while writer.finished is None:
        started, n_read = gauge.now(), len(writer.upcoming().token_ids)
        lag = guess.lag(writer)
        most = min(gauge.n_guesses(lag), writer.room, writer.n_left - 1)
        proposed = guess.propose(writer, most) if n_read == 1 and most > 0 else []
        if proposed:
            found = list(_checked(decoding, writer, proposed, text))
        else:
            found = [advance(decoding, {text: writer})[text]]
        gauge.measured(gauge.now() - started, len(proposed), len(found), n_read=n_read, lag=lag)
        yield from found


def _checked(decoding: Decoding, writer: Writer, proposed: list[int], text: int) -> Iterator[Piece]:
    """The tokens that the model writes: as proposed until one is not, which is the last."""
    keep, token_ids = writer.upcoming()
    keep_only(decoding, text, keep)
    with np.errstate(all="ignore"):  # what comes out is looked at
        logits = decoding.read([np.array([*token_ids, *proposed])], [text], every=True)
    for row, proposal in zip(logits, [*proposed, None], strict=True):
        piece = writer.next(row)
        yield piece
        if piece.token_id != proposal or writer.finished is not None:
            return


def require_same_tokens(draft: Model, model: Model) -> None:
    """Raise `UserError` unless both models mean the same by their token ids."""
    ours, theirs = (m.tokenizer.to_json() if m.tokenizer else m.config.vocab_size for m in (model, draft))
    if ours != theirs:
        raise UserError(
            "A draft model must have the tokenizer of the model that it drafts for; this one has another. "
            "Take a smaller model of the same family, or speculate by lookup."
        )
