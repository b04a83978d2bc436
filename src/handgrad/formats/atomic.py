"""Files that are whole or absent: written under another name, flushed to disk, then renamed."""

import contextlib
import errno
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

from handgrad.errors import UserError

PARTIAL = ".partial"

REMEDIES = {
    errno.ENOSPC: "The disk is full. Free some space",
    errno.EDQUOT: "Your quota on this disk is used up. Free some space",
    errno.EACCES: "You may not write there. Choose another folder",
    errno.EPERM: "You may not write there. Choose another folder",
    errno.EROFS: "That disk is read-only. Choose another folder",
    errno.ENOTDIR: "A part of that path is a file, not a folder. Choose another folder",
}


def write(path: Path, write_to: Callable[[Path], object]) -> None:
    """Let `write_to` fill a temporary file, then put it in place in one step.

    Whatever happens before, a power cut included, leaves what stood at `path` as it was. The temporary file
    has a folder to itself, beside `path`, so that what a library or a kill leaves there is swept out by the
    next write. Raises `UserError` where the disk refuses.
    """
    workshop = path.with_name(f".{path.name}{PARTIAL}")
    with explained(path):
        try:
            shutil.rmtree(workshop, ignore_errors=True)
            workshop.mkdir()
            partial = workshop / path.name
            write_to(partial)
            _flush(partial)
            partial.replace(path)
            _flush(path.parent)
        finally:
            shutil.rmtree(workshop, ignore_errors=True)


def write_text(path: Path, text: str) -> None:
    """Write `text` as UTF-8, whole or not at all."""
    write(path, lambda partial: partial.write_text(text, encoding="utf-8"))


@contextlib.contextmanager
def explained(path: Path) -> Iterator[None]:
    """Turn what the operating system says against writing `path` into a sentence with a remedy."""
    try:
        yield
    except OSError as error:
        remedy = REMEDIES.get(error.errno or 0, f"{error.strerror or error}. Choose another folder")
        raise UserError(f"Cannot write {path}. {remedy}; what was saved before is untouched.") from error


def _flush(path: Path) -> None:
    """Have the operating system put a file, or a folder's list of names, on the disk now."""
    if path.is_dir() and os.name == "nt":
        return  # Windows opens no folders
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
