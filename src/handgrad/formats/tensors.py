"""Named arrays with a little text beside them: safetensors files (https://github.com/huggingface/safetensors).

Such a file is the length of its header in 8 bytes, the header in JSON, and the arrays one after the other:

    {"__metadata__": {"progress": "..."},
     "embedding": {"dtype": "F32", "shape": [65, 128], "data_offsets": [0, 33280]}}

What the header promises is compared with the file's length, and with what the model needs, before any array
is read.
"""

import itertools
import json
import math
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from handgrad import tree
from handgrad.data import files
from handgrad.errors import UserError, shown
from handgrad.formats import atomic
from handgrad.formats.tables import Table

METADATA = "__metadata__"
LONGEST_HEADER = 1 << 24
"""Bytes: over a hundred thousand arrays."""
MOST_AXES = 8
BLOCK = 1 << 20
"""Numbers converted at a time."""
TYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2"}
"""The types that can be read and written, as NumPy has them; of a bfloat16 its bits."""
OTHERS = {"BOOL": 1, "U8": 1, "I8": 1, "U16": 2, "I16": 2, "U32": 4, "I32": 4, "U64": 8, "I64": 8}
"""Bytes of the types that no weight has; a file may hold such arrays beside its weights."""
LARGEST_F16 = 65504.0


class Entry(NamedTuple):
    """Where one array is."""

    dtype: str
    shape: tuple[int, ...]
    start: int
    """Bytes from the beginning of the file."""


class Header(NamedTuple):
    """What a file holds."""

    entries: dict[str, Entry]
    metadata: dict[str, str]

    def n_numbers(self, leaving_out: Collection[str] = ()) -> int:
        """The number of elements of all arrays, except those of `leaving_out`."""
        return sum(math.prod(e.shape) for name, e in self.entries.items() if name not in leaving_out)


def write(
    path: Path,
    arrays: Mapping[str, np.ndarray],
    metadata: Mapping[str, str] | None = None,
    *,
    dtype: str = "F32",
) -> None:
    """Write all arrays as `dtype`, of `TYPES` or U8, or leave `path` as it was."""
    width = _width(dtype)
    ends = list(itertools.accumulate((width * array.size for array in arrays.values()), initial=0))
    about: dict[str, Any] = {METADATA: dict(metadata)} if metadata else {}
    for (name, array), place in zip(arrays.items(), itertools.pairwise(ends), strict=True):
        about[name] = {"dtype": dtype, "shape": list(array.shape), "data_offsets": list(place)}
    header = json.dumps(about).encode()
    header += b" " * (-len(header) % 8)  # arrays begin at a multiple of 8 bytes
    if len(header) > LONGEST_HEADER:
        raise UserError(f"A checkpoint lists {len(arrays):,} arrays, more than fit. Take fewer layers.")

    def save(partial: Path) -> None:
        with partial.open("wb") as file:
            file.write(len(header).to_bytes(8, "little") + header)
            for name, array in arrays.items():
                file.write(_rounded(array, dtype, name).data)

    atomic.write(path, save)


def read_header(path: Path, unread: Callable[[str], object] = lambda name: False) -> Header:
    """What `path` holds; `UserError` where it is missing, cut short, or something else.

    Arrays whose name is `unread` may be of a type that no weight has.
    """
    if not files.exists(path):
        raise UserError(f"There is no checkpoint {path}. Check the path.")
    n_bytes = files.length(path)
    with files.readable(path), path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if n_bytes < 8 or 8 + length > n_bytes or length > LONGEST_HEADER:
            raise _broken(path, f"its header would have {length:,} bytes")
        table = Table.parse(file.read(length), f"{path}, its header")
    metadata = table.table(METADATA) if METADATA in table.fields else Table("", {})
    entries = {
        name: _entry(table.table(name), 8 + length, {*TYPES, *(OTHERS if unread(name) else ())})
        for name in table.fields
        if name != METADATA
    }
    _require_whole(path, entries.values(), 8 + length, n_bytes)
    return Header(entries, {name: metadata.text(name) for name in metadata.fields})


def read_into(targets: Mapping[str, np.ndarray], path: Path, also: Collection[str] = ()) -> None:
    """Fill arrays by their names from a file that holds these, and at most those of `also` besides.

    F16, BF16 and F64 are converted. Raises `UserError` as `read_header` does; where the file is another
    model's, before anything is written; and for numbers that are not finite.
    """
    entries = read_header(path).entries
    for name in [*targets, *entries]:
        if name not in entries:
            raise _another(path, f"it has no {name}")
        if name not in targets and name not in also:
            raise _another(path, f"it has {shown(name)}, which this one has not")
        if name in targets and entries[name].shape != targets[name].shape:
            raise _another(path, f"{name} is {entries[name].shape} there and {targets[name].shape} here")
    with files.readable(path), path.open("rb") as file:
        for name, target in targets.items():
            flat, start = target.reshape(-1), 0
            for block in _blocks(file, entries[name]):
                require_finite(block, f"{name} in {path}")
                flat[start : start + len(block)] = block
                start += len(block)


def require_finite(array: np.ndarray, name: str) -> None:
    """Raise `UserError` unless all numbers are finite."""
    if not np.isfinite(array).all():
        raise UserError(f"{name} must be finite in float32; it holds NaN or infinity. Take other weights.")


def by_name(weights: Any) -> dict[str, np.ndarray]:
    """The arrays of a tree by their dotted names, as a file holds them."""
    return dict(tree.named_leaves(weights))


def read_arrays(path: Path, entries: Mapping[str, Entry]) -> Iterator[tuple[str, np.ndarray]]:
    """The arrays at `entries`, some of the file's header, one after the other, as float32.

    Raises `UserError` for numbers that are not finite.
    """
    with files.readable(path), path.open("rb") as file:
        for name, entry in entries.items():
            array, start = np.empty(entry.shape, np.float32), 0
            for block in _blocks(file, entry):
                require_finite(block, f"{name} in {path}")
                array.reshape(-1)[start : start + len(block)] = block
                start += len(block)
            yield name, array


def read_bytes(path: Path, entries: Mapping[str, Entry]) -> Iterator[tuple[str, np.ndarray]]:
    """The arrays at `entries`, all of U8, as they are; `UserError` for other types."""
    with files.readable(path), path.open("rb") as file:
        for name, entry in entries.items():
            if entry.dtype != "U8":
                raise _broken(path, f"{shown(name)} is no U8")
            file.seek(entry.start)
            array = np.fromfile(file, np.uint8, math.prod(entry.shape))
            if array.size < math.prod(entry.shape):
                raise _broken(path, "it was cut short meanwhile")
            yield name, array.reshape(entry.shape)


def _rounded(array: np.ndarray, dtype: str, name: str) -> np.ndarray:
    """The numbers as a file has them, rounded to the nearest; ties go to the even one."""
    if dtype == "U8":
        return np.ascontiguousarray(array, np.uint8)
    if dtype != "BF16":
        if dtype == "F16" and array.size and np.abs(array).max() > LARGEST_F16:
            raise UserError(f"F16 ends at {LARGEST_F16:.0f}; {name} goes beyond. Take BF16 or F32.")
        return np.ascontiguousarray(array, TYPES[dtype])
    bits = np.ascontiguousarray(array, "<f4").view("<u4")
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype("<u2")


def _entry(table: Table, base: int, allowed: Collection[str]) -> Entry:
    """One array's place, its type and numbers checked."""
    dtype = table.text("dtype")
    shape, offsets = _sizes(table, "shape", 0, MOST_AXES), _sizes(table, "data_offsets", 2, 2)
    if dtype not in allowed:
        raise table.error(f"Weights are {', '.join(TYPES)}; got {shown(dtype)}.")
    n_bytes = math.prod(shape) * _width(dtype)
    if offsets[1] - offsets[0] != n_bytes:
        raise table.error(f"{dtype} numbers of shape {shape} take {n_bytes} bytes, not those from {offsets}.")
    return Entry(dtype, tuple(shape), base + offsets[0])


def _width(dtype: str) -> int:
    return OTHERS[dtype] if dtype in OTHERS else np.dtype(TYPES[dtype]).itemsize


def _sizes(table: Table, name: str, least: int, most: int) -> list[int]:
    """The list `name` of so many whole numbers."""
    value = table.fields.get(name)
    if isinstance(value, list) and least <= len(value) <= most:
        if all(type(n) is int and 0 <= n < 1 << 63 for n in value):
            return value
    raise table.error(f"{name} must list {least} to {most} whole numbers; got {shown(value)}.")


def _require_whole(path: Path, entries: Collection[Entry], end: int, n_bytes: int) -> None:
    """The arrays stand one after the other, from the header's end to the file's."""
    for entry in sorted(entries, key=lambda entry: entry.start):
        if entry.start != end:
            raise _broken(path, "its arrays do not follow one another")
        end += math.prod(entry.shape) * _width(entry.dtype)
    if end != n_bytes:
        raise _broken(path, f"it has {n_bytes:,} bytes of {end:,}")


def _blocks(file: BinaryIO, entry: Entry) -> Iterator[np.ndarray]:
    """The numbers of one array as float32, some at a time."""
    file.seek(entry.start)
    n = math.prod(entry.shape)
    for first in range(0, n, BLOCK):
        block = np.fromfile(file, TYPES[entry.dtype], min(BLOCK, n - first))
        if len(block) < min(BLOCK, n - first):
            raise _broken(Path(file.name), "it was cut short meanwhile")
        if entry.dtype == "BF16":  # the upper half of a float32
            yield (block.astype(np.uint32) << 16).view(np.float32)
        else:
            with np.errstate(over="ignore", invalid="ignore"):  # infinite then, and refused
                yield block.astype(np.float32)


def _broken(path: Path, why: str) -> UserError:
    return UserError(f"{path} is no whole checkpoint: {why}. Take another copy of it.")


def _another(path: Path, why: str) -> UserError:
    return UserError(f"{path} belongs to another model: {why}. Take this run's checkpoint.")
