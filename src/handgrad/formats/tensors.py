"""Named arrays with a little text beside them: safetensors files."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from handgrad import tree
from handgrad.errors import UserError
from handgrad.formats import atomic


def write(path: Path, arrays: dict[str, np.ndarray], metadata: dict[str, str] | None = None) -> None:
    """Write all arrays, or leave `path` as it was."""

    def save(partial: Path) -> None:
        try:
            save_file(arrays, partial, metadata)
            partial.chmod(0o666 & ~_umask())  # the library makes files that only their owner may read
        except SafetensorError as error:  # the library wraps what the operating system said
            raise _os_error(error) from error

    atomic.write(path, save)


def read(path: Path) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """All arrays and the text beside them; `UserError` if it is missing, cut short, or something else."""
    with _opened(path) as file:
        return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}


def read_metadata(path: Path) -> dict[str, str]:
    """The text beside the arrays alone, without reading them; `UserError` as for `read`."""
    with _opened(path) as file:
        return file.metadata() or {}


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[Any]:
    try:
        with safe_open(path, framework="numpy") as file:
            yield file
    except FileNotFoundError:
        raise UserError(f"There is no checkpoint {path}. Check the path.") from None
    except (SafetensorError, OSError, ValueError) as error:
        raise UserError(
            f"{path} is no whole checkpoint: it was cut short or is something else ({error}). "
            f"Take another copy."
        ) from error


def read_into(targets: dict[str, np.ndarray], path: Path) -> dict[str, str]:
    """Fill arrays by their names, one after the other; return the text beside them.

    `UserError` as for `read`, or if the file is another model's: then nothing has been written.
    """
    with _opened(path) as file:
        names = set(file.keys())
        for name, target in targets.items():
            if name not in names:
                raise UserError(
                    f"{path} belongs to another model: it has no {name}. Take this run's checkpoint."
                )
            shape = tuple(file.get_slice(name).get_shape())
            if shape != target.shape:
                raise UserError(
                    f"{path} belongs to another model: {name} is {shape} there and {target.shape} here. Take "
                    f"this run's checkpoint."
                )
        for name, target in targets.items():
            target[...] = file.get_tensor(name)
        return file.metadata() or {}


def _os_error(error: SafetensorError) -> OSError:
    """The operating system's error, which safetensors passes on only in its text: "... (os error 28)"."""
    _, _, tail = str(error).rpartition("os error ")
    digits = tail.rstrip(")").strip()
    return OSError(int(digits), str(error)) if digits.isdigit() else OSError(str(error))


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def by_name(weights: Any) -> dict[str, np.ndarray]:
    """The arrays of a tree by their dotted names, as a file holds them."""
    return {name: np.ascontiguousarray(leaf) for name, leaf in tree.named_leaves(weights)}
