"""Continuous batching: texts join and leave between two passes of the model.

A pass reads the newest token of every text that is being written, and a part of the prompts that came since:
those who wait get their first token soon, and the others never stand still. What a request takes is known
before it starts: one slot, whose keys and values are allocated.

After Yu et al., "Orca" (OSDI 2022), who schedule by passes, and Agrawal et al., "Sarathi-Serve" (2024,
arXiv:2403.02310), who read prompts in parts.

One thread makes the passes, in `run`. All other functions may be called from any thread.
"""

import logging
import math
import threading
import time
from collections import deque
from collections.abc import Callable

import numpy as np

from handgrad.engines.engine import Decoding
from handgrad.errors import UserError
from handgrad.generation.writer import Piece
from handgrad.serve.counts import Counts, exposition
from handgrad.serve.job import Failure, Job
from handgrad.serve.slots import Slot

FIRST_GUESS, LONGEST_WAIT = 1.0, 60.0
"""Seconds: of an answer, before one is known; and the most that anybody is asked to wait."""

ALONE = 8
"""How many times as many tokens of prompts a pass reads where it makes nobody wait."""

LATE = Failure("timeout", "The answer took longer than this server's limit. Ask for fewer tokens.")
STOPPED = Failure("shutdown", "The server is stopping. Try again later.")
BROKEN = Failure("model", "The model cannot go on with this text: the server's log says why.")

log = logging.getLogger(__name__)


class ClosingError(Exception):
    """The scheduler takes nothing any more."""


class FullError(Exception):
    """As many texts wait as may; one may try again in `seconds`."""

    def __init__(self, seconds: int):
        super().__init__(f"as many texts wait as may; try again in {seconds} s")
        self.seconds = seconds


class Scheduler:
    """Jobs on the texts of `decoding`: at most `most_waiting` of them wait for one.

    `prompt_tokens` are the tokens of prompts that a pass may read beside what is being written; where nothing
    is, more of them.
    """

    def __init__(
        self,
        decoding: Decoding,
        *,
        most_waiting: int = 64,
        prompt_tokens: int = 64,
        clock: Callable[[], float] = time.monotonic,
    ):
        self.counts = Counts()
        self._decoding, self._clock = decoding, clock
        self._most_waiting, self._prompt_tokens = most_waiting, prompt_tokens
        self._slots = [Slot(decoding, number) for number in range(len(decoding.lengths))]
        self._waiting: deque[Job] = deque()
        self._changed = threading.Condition()
        self._ends_at: float | None = None
        self._seconds_a_job = FIRST_GUESS

    @property
    def most_at_once(self) -> int:
        """Texts that an idle scheduler takes in."""
        return len(self._slots) + self._most_waiting

    @property
    def is_closing(self) -> bool:
        return self._ends_at is not None

    def require_room(self, n: int = 1) -> None:
        """Raise `FullError` or `ClosingError` unless `n` more jobs would be taken now."""
        if self.is_closing:
            raise ClosingError
        free = len(self._slots) - len(self._busy())
        if len(self._waiting) + n > self._most_waiting + free:
            self.counts.ended["refused"] += n
            raise FullError(self._seconds_to_wait())

    def submit(self, *jobs: Job) -> None:
        """Take in all of the jobs; raise `FullError` or `ClosingError` where not all are taken."""
        with self._changed:
            self.require_room(len(jobs))
            for job in jobs:
                job.began = self._clock()
            self._waiting.extend(jobs)
            self._changed.notify()

    def run(self) -> None:
        """Write what comes, until closed."""
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._busy() or self.is_closing)
                if self.is_closing and not self._waiting and not self._busy():
                    return
            self.step()

    def close(self, seconds: float = 0.0) -> None:
        """Take nothing any more; what is not written `seconds` from now is stopped."""
        with self._changed:
            self._ends_at = self._clock() + seconds
            self._changed.notify()

    def step(self) -> None:
        """One pass, and what comes before it: texts end that are late or left, others begin."""
        try:
            self._end_some()
            self._begin_some()
            self._pass()
        except Exception:  # whatever it is, the server goes on, with empty caches
            log.exception("A pass failed")
            self._start_afresh()

    def metrics(self) -> str:
        """What was done so far and is done now, as Prometheus reads it."""
        return exposition(
            self.counts,
            slots=len(self._slots),
            running=len(self._busy()),
            waiting=len(self._waiting),
            cache_tokens=sum(slot.n_tokens for slot in self._slots),
        )

    def _start_afresh(self) -> None:
        for slot, job in self._busy():
            self._fail(job, BROKEN)
            self._end(slot, job)
        for slot in self._slots:
            slot.forget()

    def _end_some(self) -> None:
        """Jobs end that nobody waits for, that are late, or that the server has no time for."""
        now = self._clock()
        for slot, job in self._busy():
            if self._is_over(job, now):
                self._end(slot, job)
        with self._changed:
            waiting, self._waiting = self._waiting, deque()
            for job in waiting:
                if not self._is_over(job, now):
                    self._waiting.append(job)

    def _is_over(self, job: Job, now: float) -> bool:
        """Whether a job ends now, which is counted, and reported to whoever still waits."""
        stopped = self._ends_at is not None and now >= self._ends_at
        if job.left:
            self.counts.ended["left"] += 1
        elif stopped or job.is_late(now):
            self._fail(job, STOPPED if stopped else LATE)
        else:
            return False
        return True

    def _begin_some(self) -> None:
        """Who waits longest comes first, on the free slot that shares the most with its prompt."""
        while self._waiting and (free := [slot for slot in self._slots if slot.job is None]):
            with self._changed:
                job = self._waiting.popleft()
                best = max(free, key=lambda slot: (slot.shared(job.token_ids), -slot.free_since))
                best.begin(job)
            self.counts.cached_tokens += job.n_cached
            self.counts.prompt_tokens += len(job.token_ids) - job.n_cached

    def _pass(self) -> None:
        began = self._clock()
        reading = self._pieces()
        if not reading:
            return
        with np.errstate(all="ignore"):  # writers look at what comes out
            logits = self._decoding.read(
                [piece for *_, piece in reading], [slot.number for slot, *_ in reading]
            )
        for (slot, job, _), row in zip(reading, logits, strict=True):
            if not slot.n_unread:
                self._write(slot, job, row)
        self.counts.passes += 1
        self.counts.pass_seconds += self._clock() - began

    def _pieces(self) -> list[tuple[Slot, Job, np.ndarray]]:
        """What a pass reads: every new token, and of prompts, oldest first, as much as there is room for."""
        busy = sorted(self._busy(), key=lambda busy: busy[1].began)
        left = self._prompt_tokens * (1 if any(slot.has_written for slot, _ in busy) else ALONE)
        pieces = list[tuple[Slot, Job, np.ndarray]]()
        for slot, job in busy:
            if slot.has_written:
                pieces.append((slot, job, slot.take(1)))
            elif left:
                pieces.append((slot, job, slot.take(left)))
                left -= len(pieces[-1][2])
        return pieces

    def _write(self, slot: Slot, job: Job, logits: np.ndarray) -> None:
        """The next token of a text, and what is to be told of it."""
        try:
            piece = job.writer.next(logits)
        except Exception as error:  # the logits are not finite, or no token may follow
            log.exception("A text could not go on")
            self._fail(job, Failure("model", str(error)) if isinstance(error, UserError) else BROKEN)
            self._end(slot, job)
            return
        if not slot.has_written:
            self.counts.first_token_seconds += self._clock() - job.began
        self.counts.written_tokens += 1
        self._report(job, piece)
        if piece.finished is None:
            slot.append(piece.token_id)
        else:
            self.counts.ended[piece.finished] += 1
            self._end(slot, job)

    def _fail(self, job: Job, failure: Failure) -> None:
        self.counts.ended[failure.kind] += 1
        self._report(job, failure)

    def _end(self, slot: Slot, job: Job) -> None:
        now = self._clock()
        self._seconds_a_job += 0.1 * (now - job.began - self._seconds_a_job)
        slot.end(now)

    def _report(self, job: Job, event: Piece | Failure) -> None:
        """Tell whoever waits; who cannot be told has left."""
        try:
            job.report(event)
        except Exception:
            log.exception("A piece could not be handed over")
            job.left = True

    def _busy(self) -> list[tuple[Slot, Job]]:
        return [(slot, slot.job) for slot in self._slots if slot.job is not None]

    def _seconds_to_wait(self) -> int:
        """Until those who wait now have begun, if all goes on as it did."""
        rounds = (len(self._waiting) + 1) / len(self._slots)
        return math.ceil(min(LONGEST_WAIT, max(1.0, rounds * self._seconds_a_job)))
