"""The processes that train one model together. The first writes the run's folder; mostly it is alone."""

import contextlib
from collections.abc import Callable
from typing import Protocol


class Processes(Protocol):
    """What one of them knows of all. Every process makes the same calls, in the same order."""

    leads: bool
    """Whether it is the first: that one writes and prints."""

    def agreed(self, make: Callable[[], str]) -> str:
        """What the first process makes, or the `UserError` that it raises, in every process."""

    def largest(self, number: int) -> int:
        """The largest of all processes' numbers."""

    def watched(self, again: str) -> contextlib.AbstractContextManager[object]:
        """Within, this process ends where another one died or stands still, and names it; `again` says how
        to go on."""


class Alone:
    """A single process."""

    leads = True

    def agreed(self, make: Callable[[], str]) -> str:
        return make()

    def largest(self, number: int) -> int:
        return number

    def watched(self, again: str) -> contextlib.AbstractContextManager[object]:
        return contextlib.nullcontext()


ALONE = Alone()
