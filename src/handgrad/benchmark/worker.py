"""Processes that train on demand: told a number of steps, they answer with the seconds of each.

A process of its own, since engines that share one would share its memory allocator and its thread pools. It
waits for its turn in a blocking read, so that it takes nothing from whoever is being measured.
"""

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TextIO


class WorkerError(Exception):
    """A worker is gone; the text says what it did: it "took more than 300 s"."""


def timed(step: Callable[[], object], n_steps: int) -> list[float]:
    """The seconds that each of `n_steps` calls takes."""
    seconds = []
    for _ in range(n_steps):
        start = time.perf_counter()
        step()
        seconds.append(time.perf_counter() - start)
    return seconds


def serve(step: Callable[[], object], requests: TextIO = sys.stdin, answers: TextIO = sys.stdout) -> None:
    """For every line with a number, run that many steps and print their seconds as one line of JSON."""
    with contextlib.suppress(KeyboardInterrupt):  # who started us hears of it as well, and ends us
        for line in requests:
            print(json.dumps(timed(step, int(line))), file=answers, flush=True)


class Worker:
    """A running `python -m MODULE OPTIONS`, which serves. Close it, or use it in `with`."""

    def __init__(self, module: str, options: Sequence[str], environment: Mapping[str, str] | None = None):
        self._complaints = tempfile.TemporaryFile("w+")
        self._process = subprocess.Popen(
            [sys.executable, "-m", module, *options],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._complaints,
            text=True,
            env={**os.environ, **(environment or {})},
        )

    def __enter__(self) -> "Worker":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def run(self, n_steps: int, limit: float) -> list[float]:
        """The seconds of each of the next steps. Raises `WorkerError` where it fails, or takes over `limit`
        seconds for all of them; then it is ended."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        overdue = threading.Event()

        def end() -> None:
            overdue.set()
            self._process.kill()

        timer = threading.Timer(limit, end)
        timer.start()
        try:
            with contextlib.suppress(BrokenPipeError):
                self._process.stdin.write(f"{n_steps}\n")
                self._process.stdin.flush()
            answer = self._process.stdout.readline()
        finally:
            timer.cancel()
        if answer:
            return list(map(float, json.loads(answer)))
        self.close()
        raise WorkerError(f"took more than {limit:.0f} s" if overdue.is_set() else self._last_words)

    def close(self) -> None:
        """End the process, gently where it listens."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with contextlib.suppress(OSError):
            self._process.stdin.close()
        try:
            self._process.wait(1)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()
        if not self._complaints.closed:
            self._last_words = self._read_last_words()
            self._complaints.close()

    def _read_last_words(self) -> str:
        self._complaints.seek(0)
        lines = [line for line in self._complaints.read().splitlines() if line.strip()]
        said = f" and said: {lines[-1].strip()}" if lines else ""
        return f"ended with exit code {self._process.returncode}{said}"
