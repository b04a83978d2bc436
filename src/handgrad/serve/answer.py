"""Texts that are being written for one request: from the scheduler's thread to the event loop."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Iterator, Sequence
from functools import partial

from handgrad.generation.writer import Piece
from handgrad.serve.errors import ApiError, of_failure
from handgrad.serve.job import Failure, Job
from handgrad.serve.scheduler import ClosingError, FullError, Scheduler


class Answer:
    """The pieces of several texts as they come, each with its text's number.

    The texts end when nobody asks for more: when the iterator that `pieces` returns is closed.
    """

    def __init__(self, scheduler: Scheduler, jobs: Sequence[Job]):
        self.jobs = jobs
        self._loop, self._events = (asyncio.get_running_loop(), asyncio.Queue[tuple[int, Piece | Failure]]())
        for number, job in enumerate(jobs):
            job.report = partial(self._hand_over, number)
        with refused_in_words():
            scheduler.submit(*jobs)

    async def pieces(self) -> AsyncGenerator[tuple[int, Piece]]:
        """All pieces, in the order in which they are written; `ApiError` where a text fails."""
        try:
            running = len(self.jobs)
            while running:
                number, event = await self._events.get()
                if isinstance(event, Failure):
                    raise of_failure(event)
                running -= event.finished is not None
                yield number, event
        finally:
            self.leave()

    def leave(self) -> None:
        """Nobody waits for the texts any more: those that are not over end."""
        for job in self.jobs:
            job.left = True

    def _hand_over(self, number: int, event: Piece | Failure) -> None:
        self._loop.call_soon_threadsafe(self._events.put_nowait, (number, event))


@contextlib.contextmanager
def refused_in_words() -> Iterator[None]:
    """What the scheduler does not take is an error with a status: 429 with the time to wait, or 503."""
    try:
        yield
    except FullError as error:
        raise ApiError(
            429,
            f"As many texts wait as may. Try again in {error.seconds} s.",
            code="queue_full",
            headers={"Retry-After": str(error.seconds)},
        ) from error
    except ClosingError as error:
        raise ApiError(503, "The server is stopping. Try again later.", code="shutdown") from error
