"""How long a run has taken: compiling, which a machine does once, does not count."""

import itertools
import time
from collections.abc import Callable

from handgrad.training.events import Compiling, Event


class Clock:
    """Counts from where it is made; when something has been compiled, from there."""

    def __init__(self, report: Callable[[Event], object]):
        self.report = report
        self._number = itertools.count(1)
        self._began = time.perf_counter()
        self._has_compiled = False

    def compiling(self, kernel: str) -> None:
        """To be told the name of what is compiled."""
        self._has_compiled = True
        self.report(Compiling(kernel, next(self._number)))

    def beginning(self) -> float:
        """When it began to count, by `time.perf_counter`: now, if something was compiled since last asked."""
        if self._has_compiled:
            self._began, self._has_compiled = time.perf_counter(), False
        return self._began

    @property
    def seconds(self) -> float:
        began = self.beginning()
        return time.perf_counter() - began
