"""Where compiled kernels are kept: compiled once per machine, loaded by every later process.

Numba looks at a function's own file to see whether it changed, not at what it calls nor at the constants it
was built from. So the folder's name is a digest of the sources of all kernels and of what they take numbers
from, all ops and `counted`: what could make a compiled kernel wrong gives it another folder.

Where nothing can be kept (a full disk, no folder that can be written to), every process compiles for itself.
"""

import contextlib
import functools
import hashlib
import os
import pickle
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numba
from llvmlite import binding as llvm
from numba import config
from numba.core import event
from numba.core.caching import FunctionCache
from numba.core.runtime import _nrt_python

from handgrad.kernels import machine

MOST_FOLDERS = 8
"""Folders that are kept: those of other versions, and of other vectors, that were used last."""

KNOWN = (0, 68)
"""The last version of Numba whose compiled code was seen to need no more than `_name_runtime`."""


@functools.cache
def folder() -> Path | None:
    """The folder of this version's kernels for this machine; None where none can be written to."""
    digest = hashlib.sha256(f"{numba.__version__} {machine.LANES} {machine.AMX} {machine.INT16}".encode())
    for source in sources():
        digest.update(source.read_bytes())
    for place in (_of_the_user, _temporary):
        with contextlib.suppress(OSError, RuntimeError):  # RuntimeError: a user without a home
            chosen = place() / f"kernels-{digest.hexdigest()[:16]}"
            chosen.mkdir(parents=True, exist_ok=True)
            if os.access(chosen, os.W_OK):
                _remove_all_but_the_latest(chosen)
                return chosen
    return None


def sources() -> list[Path]:
    """The files that kernels are built from."""
    package = Path(__file__).parents[1]
    folders = (package / name for name in ("kernels", "ops"))
    return sorted([package / "counted.py", *(path for each in folders for path in each.rglob("*.py"))])


def _of_the_user() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "handgrad"


def _temporary() -> Path:
    """The user's own folder in the system's temporary one. Nobody else may own it: code is loaded from it."""
    user = os.getuid() if hasattr(os, "getuid") else ""
    place = Path(tempfile.gettempdir()) / f"handgrad-{user}"
    place.mkdir(mode=0o700, exist_ok=True)
    if hasattr(os, "getuid") and place.stat().st_uid != user:
        raise PermissionError(f"{place} belongs to someone else")
    return place


def _remove_all_but_the_latest(chosen: Path) -> None:
    """Keep `MOST_FOLDERS`, of which `chosen` is now the one used last."""
    with contextlib.suppress(OSError):  # another process may be doing the same
        os.utime(chosen)
        folders = chosen.parent.glob("kernels-*")
        by_use = sorted(folders, key=lambda path: path.stat().st_mtime, reverse=True)
        for path in by_use[MOST_FOLDERS:]:
            shutil.rmtree(path, ignore_errors=True)


def _version() -> tuple[int, ...]:
    return tuple(int(part) for part in numba.__version__.split(".")[:2])


@functools.cache
def _name_runtime() -> None:
    """Tell LLVM where the functions of Numba's runtime are: compiled code calls them by name."""
    for name, address in _nrt_python.c_helpers.items():
        llvm.add_symbol(name if name.startswith("_") else f"NRT_{name}", address)


class _Kept(FunctionCache):
    """Numba's cache of one function; what it cannot read is compiled, what it cannot write is not kept."""

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        """Numba's own first prepares to compile, with all it knows: 50 MB and a quarter of a second, for
        nothing where code is only loaded."""
        if KNOWN >= _version():
            _name_runtime()
        else:
            target_context.refresh()
        try:
            with self._guard_against_spurious_io_errors():
                return self._load_overload(sig, target_context)
        except OSError:
            return None
        except (EOFError, pickle.UnpicklingError):
            with contextlib.suppress(OSError):
                self.flush()  # an empty index: what is compiled now can be saved
            return None

    def save_overload(self, sig: Any, data: Any) -> None:
        with contextlib.suppress(OSError, EOFError, pickle.UnpicklingError):
            super().save_overload(sig, data)


def keep(dispatcher: Any) -> None:
    """Keep this function's machine code in `folder()`."""
    place = folder()
    if place is None:
        return
    before, config.CACHE_DIR = config.CACHE_DIR, str(place)  # Numba asks it once, here
    try:
        kept = _Kept(dispatcher.py_func)
    except RuntimeError:  # "no locator available": the disk has become full
        return
    finally:
        config.CACHE_DIR = before
    if Path(kept.cache_path).is_relative_to(place):  # else Numba's second choice, beside the source
        dispatcher._cache = kept


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
