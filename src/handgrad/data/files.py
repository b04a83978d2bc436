"""Reading files: only regular ones, only up to a given size; `UserError` says what is wrong.

A pipe would never end and a device may have no end, so neither is opened.
"""

import contextlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from handgrad.errors import UserError

COPY = "Take another copy of it."


def exists(path: Path) -> bool:
    """Whether there is something at `path`; `UserError` where that cannot be found out."""
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except (OSError, ValueError) as error:
        raise UserError(
            f"Cannot look at {path}: {_reason(error)}. Check the path and who may read it."
        ) from error
    return True


def length(path: Path) -> int:
    """The bytes of the regular file at `path`; `UserError` where there is none."""
    with readable(path):
        status = path.stat()
    if not stat.S_ISREG(status.st_mode):
        kind = "a folder" if stat.S_ISDIR(status.st_mode) else "a pipe, a socket or a device"
        raise UserError(f"{path} must be a regular file; it is {kind}. {COPY}")
    return status.st_size


def read_text(path: Path, most_bytes: int) -> str:
    """The UTF-8 text in `path`; `UserError` where it is longer than `most_bytes`, or no text."""
    if (n_bytes := length(path)) > most_bytes:
        raise UserError(f"{path} must have at most {most_bytes:,} bytes; it has {n_bytes:,}. {COPY}")
    with readable(path):
        return path.read_text(encoding="utf-8")


@contextlib.contextmanager
def readable(path: Path | str, remedy: str = COPY) -> Iterator[None]:
    """Turn what the operating system says against reading `path`, or that it is no text, into a sentence."""
    try:
        yield
    except FileNotFoundError as error:
        raise UserError(f"There is no file {path}. Check the path.") from error
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"Cannot read {path}: {_reason(error)}. {remedy}") from error


def _reason(error: Exception) -> str:
    return os.strerror(error.errno) if isinstance(error, OSError) and error.errno else str(error)
