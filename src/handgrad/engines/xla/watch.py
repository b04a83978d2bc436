"""Whether the other processes live. One that is not heard for a while is named, and this one ends.

A sum over all devices waits for all of them, on a GPU without end, and JAX takes its time to miss a process.
So each process writes a number that grows into JAX's coordination service every second, from a thread of its
own, and reads the others'. The service is the first process's: where it does not answer, that one is missed.
"""

import contextlib
import ctypes
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Any, Protocol, Self

import jax

PATIENCE = 20
"""Seconds without a word from a process."""

SUSPECT = 5
"""As many, where another one's end may be only what followed."""

ENDED, DONE = "ended", "done"
"""What a process writes last: it failed and says why itself, or there is nothing left to do."""


class Store(Protocol):
    """What is used of JAX's coordination service."""

    def key_value_set(self, key: str, value: str, allow_overwrite: bool = False) -> None: ...

    def key_value_dir_get(self, key: str) -> list[tuple[str, str]]: ...


class Watch:
    """What this process hears of the others. Within it as a context, they are watched."""

    def __init__(
        self,
        store: Store,
        index: int,
        count: int,
        address: str,
        again: str = "",
        end: Callable[[str], object] = lambda sentence: end_now(sentence),
    ):
        """`index` is this process's number of `count`, `address` the service's; `again` says how to go on."""
        self._store, self._index, self._address, self._again = store, index, address, again
        self._end = end
        self._said = {other: "" for other in range(count) if other != index}
        self._silent = dict.fromkeys(self._said, 0)  # seconds; while this one stands still, none are counted
        self._unanswered = 0  # seconds since the service answered
        self._beats = 0
        self._over = threading.Event()

    def beat(self) -> None:
        """Say that this process lives, and hear the others."""
        self._beats += 1
        self._say(str(self._beats))
        for key, said in self._store.key_value_dir_get("lives/"):
            other = int(key.rpartition("/")[2])
            if said != self._said.get(other, said):
                self._said[other], self._silent[other] = said, 0
        self._unanswered = 0

    def second(self) -> str | None:
        """A second has passed: why this process ends, if it does."""
        self._unanswered += 1
        for other, said in self._said.items():
            if said == ENDED:
                return f"Process {other} ended before the training did, and says why. {self._go_on()}"
            self._silent[other] += said != DONE
        if self._unanswered > PATIENCE:
            return self._missed(0)
        longest = max(self._silent, key=self._silent.__getitem__)
        return self._missed(longest) if self._silent[longest] > PATIENCE else None

    def lost(self) -> str | None:
        """Why JAX aborts this process: the first one is gone. None where it can still be reached."""
        host, _, port = self._address.rpartition(":")
        try:
            socket.create_connection((host.strip("[]"), int(port)), timeout=SUSPECT).close()
        except OSError:
            longest = max(self._silent, key=self._silent.__getitem__)
            return self._missed(longest if self._silent[longest] > SUSPECT else 0)
        return None

    def __enter__(self) -> Self:
        on_abort(self._aborted)
        for loop in (self._beating, self._judging):
            threading.Thread(target=loop, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        if isinstance(error, jax.errors.JaxRuntimeError):  # it may be another one's end: wait to be told
            self._over.wait(PATIENCE + SUSPECT)
        self._over.set()
        on_abort(None)
        with contextlib.suppress(jax.errors.JaxRuntimeError):
            self._say(DONE if error is None else ENDED)

    def _say(self, word: str) -> None:
        self._store.key_value_set(f"lives/{self._index}", word, allow_overwrite=True)

    def _beating(self) -> None:
        while not self._over.wait(1.0):
            with contextlib.suppress(jax.errors.JaxRuntimeError):
                self.beat()

    def _judging(self) -> None:
        while not self._over.wait(1.0):
            if sentence := self.second():
                self._end(sentence)

    def _aborted(self) -> None:
        if sentence := self.lost():
            self._end(sentence)

    def _missed(self, index: int) -> str:
        return f"Process {index} is not heard any more: it died or stands still. {self._go_on()}"

    def _go_on(self) -> str:
        return f"So process {self._index} ends too. {self._again}".strip()


def end_now(sentence: str) -> None:
    """Say why and end, whatever the main thread waits for."""
    cursor = "\x1b[?25h" if sys.stderr.isatty() else ""
    os.write(sys.stderr.fileno(), f"\n{cursor}handgrad: {sentence}\n".encode())
    os._exit(1)


_aborting: Any = None  # the handler: C keeps no reference to it


def on_abort(call: Callable[[], object] | None) -> None:
    """Have `call` called where a library aborts the process; None is as before.

    JAX aborts, in a thread of its own, as soon as it loses the coordination service. A handler of Python's
    would wait for the main thread, which waits for the devices; this one runs in the thread that aborts.
    """
    global _aborting
    _aborting = None if call is None else ctypes.CFUNCTYPE(None, ctypes.c_int)(lambda number: call())
    install = ctypes.CDLL(None).signal
    install.restype, install.argtypes = ctypes.c_void_p, (ctypes.c_int, ctypes.c_void_p)
    install(signal.SIGABRT, ctypes.cast(_aborting, ctypes.c_void_p) if _aborting else None)
