"""One process at a time in a folder. The lock ends with its process, even a killed one; no file is left."""

import contextlib
import errno
import os
from collections.abc import Iterator
from pathlib import Path

from handgrad.errors import UserError

HELD = (errno.EAGAIN, errno.EACCES)


@contextlib.contextmanager
def held(folder: Path) -> Iterator[None]:
    """Within, nobody else holds the lock of `folder`; `UserError` where somebody does.

    Windows, and disks that know no locks, lock nothing. Raises `OSError` where the folder cannot be opened.
    """
    descriptor = _lock(folder)
    try:
        yield
    finally:
        if descriptor is not None:
            os.close(descriptor)


def _lock(folder: Path) -> int | None:
    """The locked folder's descriptor; None where there are no locks."""
    try:
        import fcntl
    except ImportError:
        return None
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(descriptor)
        if error.errno not in HELD:
            return None
        raise UserError(
            f"Another process is at work in {folder}. Wait for its end, or choose another folder."
        ) from None
    return descriptor
