"""Ctrl-C and SIGTERM wait until the step that has begun is finished; then the run is saved."""

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM)


@contextlib.contextmanager
def deferred(signals: Sequence[int] = SIGNALS) -> Iterator[Callable[[], bool]]:
    """Within, the first of `signals` makes the yielded function return True; a second acts as usual.

    Python catches signals in the main thread only; in others nothing changes.
    """
    asked = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield asked.is_set
        return
    before = {number: signal.getsignal(number) for number in signals}

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    def hear(number: int, frame: FrameType | None) -> None:
        asked.set()
        restore()

    for number in signals:
        signal.signal(number, hear)
    try:
        yield asked.is_set
    finally:
        restore()
