"""The blocks of a quantized GGUF, kept in a file of their own beside the weights that they stand for.

A safetensors file of bytes: by a weight's dotted name its rows, an output each, and in the metadata its kind.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from handgrad import parameters as p
from handgrad.data import files
from handgrad.errors import UserError, shown
from handgrad.formats import tensors
from handgrad.formats.quantization import KINDS, PLAIN, dequantize, row_bytes


def write(path: Path, blocks: Mapping[str, p.Blocks]) -> None:
    """Write all blocks, or leave `path` as it was."""
    data = {name: matrix.data for name, matrix in blocks.items()}
    tensors.write(path, data, {name: matrix.kind for name, matrix in blocks.items()}, dtype="U8")


def read(path: Path, weights: Mapping[str, np.ndarray]) -> dict[str, p.Blocks]:
    """The blocks in `path`; `UserError` unless they are those of `weights`, by dotted name.

    Every shape is compared, and of each matrix the numbers of its first row.
    """
    header = tensors.read_header(path, unread=lambda name: True)
    kinds, rows = header.metadata, {name: _rows(weight, name) for name, weight in weights.items()}
    for name, entry in header.entries.items():
        if name not in rows or entry.shape != _shape(rows[name], kinds.get(name)):
            raise _others(path, name)
    blocks = {}
    for name, data in tensors.read_bytes(path, header.entries):
        if not np.array_equal(dequantize(kinds[name], data[:1]), rows[name][:1]):
            raise _others(path, name)
        blocks[name] = p.Blocks(kinds[name], data)
    return blocks


def _rows(weight: np.ndarray, name: str) -> np.ndarray:
    """A matrix with a row an output, as blocks have it: ours, but embeddings, transposed."""
    return weight.T if name.endswith(".weight") else weight


def _shape(rows: np.ndarray, kind: str | None) -> tuple[int, ...] | None:
    """The shape of their bytes; None where such rows have no blocks of this kind."""
    if rows.ndim != 2 or kind not in KINDS or kind in PLAIN or rows.shape[1] % KINDS[kind].numbers:
        return None
    return len(rows), row_bytes(kind, rows.shape[1])


def _others(path: Path, name: str) -> UserError:
    return UserError(f"{path} belongs to other weights: {shown(name)} is not theirs. {files.COPY}")
