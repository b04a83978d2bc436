"""Where compiled kernels are kept: compiled once per machine, loaded by every later process.

Numba looks at a function's own file to see whether it changed, not at what it calls nor at the constants it
was built from. So the folder's name is a digest of all kernels' sources and of the numbers they are built
from: what could make a compiled kernel wrong gives it another folder.
"""

import contextlib
import hashlib
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numba
from numba import config
from numba.core import event

from handgrad.kernels import machine


def folder() -> Path:
    """The folder of this version's kernels for this machine; one that can be written to, if there is any."""
    digest = hashlib.sha256(f"{numba.__version__} {machine.LANES} {machine.AMX}".encode())
    for source in sorted(Path(__file__).parent.rglob("*.py")):
        digest.update(source.read_bytes())
    name = f"kernels-{digest.hexdigest()[:16]}"
    base = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "handgrad"
    for parent in (
        base,
        Path(tempfile.gettempdir()) / f"handgrad-{os.getuid() if hasattr(os, 'getuid') else ''}",
    ):
        with contextlib.suppress(OSError):
            (parent / name).mkdir(parents=True, exist_ok=True)
            if os.access(parent / name, os.W_OK):
                return parent / name
    return base / name


@contextlib.contextmanager
def here() -> Iterator[None]:
    """Functions decorated within keep their machine code in `folder()`; others are left alone."""
    before = config.CACHE_DIR
    config.CACHE_DIR = str(folder())
    try:
        yield
    finally:
        config.CACHE_DIR = before


class _Compiling(event.Listener):
    """Passes on the names of functions that Numba begins to compile."""

    def __init__(self, report: Callable[[str], object]):
        self.report = report

    def on_start(self, about: event.Event) -> None:
        function = about.data["dispatcher"].py_func
        self.report(f"{function.__module__.rpartition('.')[2]}.{function.__name__}")

    def on_end(self, about: event.Event) -> None:
        """Nothing to tell."""


@contextlib.contextmanager
def listening(report: Callable[[str], object]) -> Iterator[None]:
    """Within, `report` is told the name of every function that is compiled, as it begins."""
    with event.install_listener("numba:compile", _Compiling(report)):
        yield
