"""What a GGUF file says before its numbers: metadata, and where each tensor is. Nothing in it is believed.

    "GGUF", version, number of tensors, number of keys      4 + 4 + 8 + 8 bytes, little-endian
    key, type, value                                        for each key
    name, number of axes, axes, type, offset                for each tensor
    the tensors, each at a multiple of the alignment

Counts and lengths are compared with the bytes that are left before anything of their size is made, offsets
with the file's length, and tensors with one another.

Source: docs/gguf.md of ggml (https://github.com/ggml-org/ggml, MIT).
"""

import math
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from handgrad.data import files
from handgrad.errors import UserError, shown
from handgrad.formats.quantization import KINDS, row_bytes
from handgrad.formats.tables import Table

MAGIC = b"GGUF"
VERSIONS = (2, 3)
ALIGNMENT = 32
"""Where the file names none."""
MOST_ALIGNMENT = 1 << 16
LONGEST_HEADER = 1 << 26
"""Bytes: several times what the largest vocabularies take."""
MOST_ELEMENTS = 1 << 21
"""Texts in all arrays of a file."""
MOST_TENSORS = 1 << 16
MOST_KEYS = 1 << 12
MOST_AXES = 4
LONGEST_NAME = 256

STRING, ARRAY, BOOL, FLOAT32 = 8, 9, 7, 6
NUMBERS = {0: "u1", 1: "i1", 2: "<u2", 3: "<i2", 4: "<u4", 5: "<i4", 6: "<f4", 7: "u1", 10: "<u8", 11: "<i8",
           12: "<f8"}  # fmt: skip
"""The types of metadata that have a fixed size, as NumPy has them."""
NOT_READ = {7: "Q5_1", 9: "Q8_1", 10: "Q2_K", 11: "Q3_K", 15: "Q8_K", 39: "MXFP4"}
"""Types of tensors, to be refused by name."""


class Entry(NamedTuple):
    """Where one tensor is."""

    kind: str
    shape: tuple[int, ...]
    """As NumPy has it: the last axis is a row, whose numbers are side by side."""
    start: int
    """Bytes from the beginning of the file."""

    @property
    def rows(self) -> int:
        """Of a matrix its rows; of a vector its numbers, each a row of one."""
        return self.shape[0]

    @property
    def row_bytes(self) -> int:
        return row_bytes(self.kind, math.prod(self.shape[1:]))

    @property
    def n_bytes(self) -> int:
        return self.rows * self.row_bytes


class Header(NamedTuple):
    """What a file holds."""

    metadata: Table
    """Numbers, texts, and arrays: of texts as lists, of numbers as NumPy's."""
    tensors: dict[str, Entry]


def read(path: Path) -> Header:
    """What `path` holds; `UserError` where it is missing, cut short, or something else."""
    if not files.exists(path):
        raise UserError(f"There is no file {path}. Check the path.")
    length = files.length(path)
    with files.readable(path), path.open("rb") as file:
        source = _Source(file, path, min(length, LONGEST_HEADER))
        return _header(source, length)


def read_rows(file: BinaryIO, entry: Entry, first: int, last: int) -> np.ndarray:
    """The bytes (rows, bytes a row) of some rows of a tensor."""
    file.seek(entry.start + first * entry.row_bytes)
    data = np.fromfile(file, np.uint8, (last - first) * entry.row_bytes)
    if len(data) < (last - first) * entry.row_bytes:
        raise _broken(Path(file.name), "it was cut short meanwhile")
    return data.reshape(last - first, entry.row_bytes)


class _Source:
    """The bytes of a header, taken one piece after the other; never more than there are."""

    def __init__(self, file: BinaryIO, path: Path, left: int):
        self.file, self.path, self.left, self.texts_left = file, path, left, MOST_ELEMENTS

    def take(self, n: int) -> bytes:
        if n > self.left:
            raise self.broken(f"its header ends too early, or is longer than {LONGEST_HEADER:,} bytes")
        self.left -= n
        data = self.file.read(n)
        if len(data) < n:
            raise self.broken("it was cut short meanwhile")
        return data

    def whole(self, size: int) -> int:
        return int.from_bytes(self.take(size), "little")

    def text(self, most: int = LONGEST_HEADER) -> str:
        n = self.whole(8)
        if n > most:
            raise self.broken(f"a text in it would have {n:,} bytes")
        try:
            return str(self.take(n), "utf-8")
        except UnicodeDecodeError as error:
            raise self.broken(f"a text in it is no UTF-8 ({error.reason})") from error

    def numbers(self, kind: int, n: int) -> np.ndarray:
        dtype = np.dtype(NUMBERS[kind])
        return np.frombuffer(self.take(n * dtype.itemsize), dtype)

    def texts(self, n: int) -> list[str]:
        self.texts_left -= n
        if 8 * n > self.left or self.texts_left < 0:
            raise self.broken(f"a list in it would have {n:,} texts")
        return [self.text() for _ in range(n)]

    def broken(self, why: str) -> UserError:
        return _broken(self.path, why)


def _header(source: _Source, length: int) -> Header:
    if length < len(MAGIC) or source.take(len(MAGIC)) != MAGIC:
        raise UserError(f"{source.path} is no GGUF file: it does not begin with these letters. {files.COPY}")
    version = source.whole(4)
    if version not in VERSIONS:
        order = " in big-endian order" if version & 0xFFFF == 0 else ""
        raise UserError(
            f"{source.path} is GGUF of version {shown(version)}{order}; handgrad reads the versions "
            f"{VERSIONS[0]} and {VERSIONS[1]}. Convert the model again with a newer llama.cpp."
        )
    n_tensors, n_keys = source.whole(8), source.whole(8)
    if n_tensors > MOST_TENSORS or n_keys > MOST_KEYS:
        raise source.broken(f"it would have {n_tensors:,} tensors and {n_keys:,} keys")
    metadata = Table(f"{source.path}, its metadata", dict(_pairs(source, n_keys)))
    places = dict(_places(source, n_tensors))
    end = source.file.tell()
    return Header(metadata, _entries(source, places, end, length, _alignment(metadata)))


def _pairs(source: _Source, n: int) -> Iterator[tuple[str, Any]]:
    """Keys and values."""
    seen = set()
    for _ in range(n):
        key = source.text(LONGEST_NAME)
        if key in seen:
            raise source.broken(f"it has {shown(key)} twice")
        seen.add(key)
        yield key, _value(source, source.whole(4))


def _value(source: _Source, kind: int) -> Any:
    if kind == STRING:
        return source.text()
    if kind == ARRAY:
        of, n = source.whole(4), source.whole(8)
        if of == STRING:
            return source.texts(n)
        return source.numbers(_known(source, of), n)
    (number,) = source.numbers(_known(source, kind), 1)
    if kind == BOOL:
        return bool(number)
    return float(str(number)) if kind == FLOAT32 else number.item()  # 1e-5, as it was before it was float32


def _known(source: _Source, kind: int) -> int:
    if kind not in NUMBERS:
        raise source.broken(f"a value in its metadata is of the unknown type {kind}")
    return kind


def _alignment(metadata: Table) -> int:
    if "general.alignment" not in metadata.fields:
        return ALIGNMENT
    alignment = metadata.whole("general.alignment", least=1)
    if alignment & (alignment - 1) or alignment > MOST_ALIGNMENT:
        raise metadata.error(f"general.alignment must be a power of two; got {alignment}.")
    return alignment


class _Place(NamedTuple):
    """What is said of a tensor, still unchecked."""

    axes: list[int]
    code: int
    offset: int


def _places(source: _Source, n: int) -> Iterator[tuple[str, _Place]]:
    seen = set()
    for _ in range(n):
        name, n_axes = source.text(LONGEST_NAME), source.whole(4)
        if name in seen:
            raise source.broken(f"it has the tensor {shown(name)} twice")
        seen.add(name)
        if not 1 <= n_axes <= MOST_AXES:
            raise source.broken(f"{shown(name)} would have {n_axes} axes")
        axes = [source.whole(8) for _ in range(n_axes)]
        yield name, _Place(axes, source.whole(4), source.whole(8))


def _entries(
    source: _Source, places: dict[str, _Place], end: int, length: int, alignment: int
) -> dict[str, Entry]:
    """The tensors, each within the file and none over another."""
    base = -(-end // alignment) * alignment
    entries = {name: _entry(source, name, place, base) for name, place in places.items()}
    for name, place in places.items():
        if place.offset % alignment:
            raise source.broken(f"{shown(name)} does not begin at a multiple of {alignment} bytes")
    _require_apart(source, entries, length)
    return entries


def _entry(source: _Source, name: str, place: _Place, base: int) -> Entry:
    kind = next((kind for kind, about in KINDS.items() if about.code == place.code), None)
    if kind is None:
        called = NOT_READ.get(place.code, f"the type {place.code}")
        raise UserError(
            f"{source.path} holds {shown(name)} as {called}; handgrad reads {', '.join(KINDS)}. Take a file "
            f"of one of these."
        )
    shape = tuple(reversed(place.axes))
    if not all(1 <= n < 1 << 40 for n in shape) or shape[-1] % KINDS[kind].numbers:
        raise source.broken(f"{shown(name)}, which is {kind}, would have the shape {shown(shape)}")
    if len(shape) == 1 and KINDS[kind].numbers > 1:
        raise source.broken(f"{shown(name)} is a vector in blocks")
    return Entry(kind, shape, base + place.offset)


def _require_apart(source: _Source, entries: dict[str, Entry], length: int) -> None:
    end: int = 0
    for name, entry in sorted(entries.items(), key=lambda item: item[1].start):
        if entry.start < end:
            raise source.broken(f"{shown(name)} overlaps another tensor")
        end = entry.start + entry.n_bytes
        if end > length:
            raise source.broken(f"{shown(name)} would end at byte {end:,} of {length:,}")


def n_numbers(entries: Collection[Entry]) -> int:
    """The elements of all tensors."""
    return sum(math.prod(entry.shape) for entry in entries)


def _broken(path: Path, why: str) -> UserError:
    return UserError(f"{path} is no whole GGUF file: {why}. {files.COPY}")
