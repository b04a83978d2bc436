"""Files and folders that are whole or absent: made under another name, flushed to disk, then renamed."""

import contextlib
import errno
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

from handgrad.errors import UserError
from handgrad.formats import lock

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

    A failure before that, a power cut included, leaves `path` as it was. The temporary file stands in a
    folder of its own beside `path`: the next write removes what a killed process left there. Raises
    `UserError` where the disk refuses.
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


def link(path: Path, source: Path) -> None:
    """Have `path` name the file at `source` as well; a copy of it on a disk whose files have one name each.

    Neither changes with the other: what is written here replaces a name, and never a file's bytes.
    """

    def name(partial: Path) -> None:
        try:
            os.link(source, partial)
        except OSError:
            shutil.copyfile(source, partial)

    write(path, name)


@contextlib.contextmanager
def new_folder(folder: Path) -> Iterator[Path]:
    """A folder to fill, put at `folder` when the block ends. If the block raises, nothing is left.

    Raises `UserError` where `folder` holds something, or where another process is making it.
    """
    place = free(folder)
    partial = place.with_name(f".{place.name}{PARTIAL}")
    with contextlib.ExitStack() as locked, explained(folder):
        if partial.exists():
            locked.enter_context(lock.held(partial))  # whoever made it was killed
            shutil.rmtree(partial)
        partial.mkdir(parents=True)
        locked.enter_context(lock.held(partial))
        try:
            yield partial
            for path in [*partial.iterdir(), partial]:
                _flush(path)
            if place.exists():
                place.rmdir()  # it is empty
            partial.rename(place)
            _flush(place.parent)
        except BaseException:
            shutil.rmtree(partial, ignore_errors=True)
            raise


def free(folder: Path) -> Path:
    """The absolute path of `folder`; `UserError` unless there is nothing, or an empty folder."""
    with explained(folder):
        try:
            place = folder.resolve()
            if place.is_symlink():  # Python 3.13 says nothing of it
                raise RuntimeError("it is a link that leads to itself")
        except (ValueError, RuntimeError) as error:  # a zero in its name, a link that leads to itself
            raise UserError(f"{folder} is no path: {error}. Choose another folder.") from error
        if place.exists() and (not place.is_dir() or any(place.iterdir())):
            raise UserError(f"{folder} exists and is not empty. Choose another folder.")
        if place == Path.cwd():
            raise UserError("The folder you work in cannot be replaced by a new one. Choose another name.")
    return place


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
