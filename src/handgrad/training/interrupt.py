"""Ctrl-C and a polite kill, heard but not obeyed at once: a step that has begun is finished, then saved."""

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM)


@contextlib.contextmanager
def deferred() -> Iterator[Callable[[], bool]]:
    """Within, the first SIGINT or SIGTERM only makes the yielded function True; a second acts as usual.

    Outside the main thread signals cannot be caught, and nothing is changed.
    """
    asked = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield asked.is_set
        return
    before = {number: signal.getsignal(number) for number in SIGNALS}

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    def hear(number: int, frame: FrameType | None) -> None:
        asked.set()
        restore()

    for number in SIGNALS:
        signal.signal(number, hear)
    try:
        yield asked.is_set
    finally:
        restore()
