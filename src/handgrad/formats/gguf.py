"""GGUF files, llama.cpp's: a whole model in one file, its matrices plain or quantized.

`load` reads the file's header strictly (`gguf_header`), the architecture and its settings (`gguf_config`),
the tokenizer (`gguf_tokenizer`), and the weights by their names (`gguf_names`). Quantized matrices are kept
as they are, too: rows may change their order, blocks do not change. `save`
writes one (`gguf_save`).
"""

from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np

from handgrad import parameters as p
from handgrad.data import files
from handgrad.engines import fits
from handgrad.errors import UserError, shown
from handgrad.formats import gguf_config, gguf_header, gguf_names, gguf_tokenizer, tensors
from handgrad.formats.gguf_header import Entry, Header
from handgrad.formats.gguf_names import Place
from handgrad.formats.gguf_save import save
from handgrad.formats.model_folder import Model
from handgrad.formats.quantization import PLAIN, dequantize
from handgrad.model.config import ModelConfig
from handgrad.model.count import count
from handgrad.model.init import blank

__all__ = ["load", "read_config", "save"]

CHUNK = 1 << 17
"""Numbers read at a time."""


def load(path: str | Path) -> Model:
    """The model in a GGUF file.

    Raises `UserError` where the file is no GGUF, is damaged, or holds what handgrad does not compute: it says
    what.
    """
    path = Path(path)
    header = gguf_header.read(path)
    architecture, config = _described(path, header)
    text = gguf_tokenizer.read(header.metadata, config.vocab_size)
    fits.require(count(config).weight_bytes, f"The model in {path}")
    places = gguf_names.places(config, architecture)
    _require_shapes(path, header, places)
    weights = blank(config)
    blocks = _read_weights(path, header, places, tensors.by_name(weights))
    return Model(config, weights, **text._asdict(), blocks=blocks or None)


def read_config(path: str | Path) -> ModelConfig:
    """The architecture of the model in a GGUF file; `UserError` as `load`."""
    _, config = _described(Path(path), gguf_header.read(Path(path)))
    return config


def _described(path: Path, header: Header) -> tuple[str, ModelConfig]:
    """llama.cpp's name of the architecture, and its settings."""
    architecture, config = gguf_config.read(header)
    config = _with_llama3_scaling(path, header, config)
    _require_size(path, header, config)
    return architecture, config


def _with_llama3_scaling(path: Path, header: Header, config: ModelConfig) -> ModelConfig:
    """Llama 3's scaling of rotary positions is a tensor: what each pair's frequency is divided by."""
    entry = header.tensors.get(gguf_config.ROPE_FACTORS)
    if entry is None:
        return config
    scaling = None
    if entry.kind == "F32" and entry.shape == (config.head_width // 2,) and config.rope_scaling is None:
        with files.readable(path), path.open("rb") as file:
            data = gguf_header.read_rows(file, entry, 0, entry.rows)
        scaling = gguf_config.llama3_scaling(config, dequantize("F32", data).ravel())
    if scaling is None:
        raise header.metadata.error(
            f"{gguf_config.ROPE_FACTORS} scales rotary positions otherwise than Llama 3 does, which handgrad "
            f"does not compute."
        )
    return config.replace(rope_scaling=scaling)


def _require_size(path: Path, header: Header, config: ModelConfig) -> None:
    """Raise `UserError` unless there are as many numbers as the settings ask for: before lists are made."""
    counted = [entry for name, entry in header.tensors.items() if name != gguf_config.ROPE_FACTORS]
    nowhere = config.vocab_size if config.bias and not config.tied else 0
    found, wanted = gguf_header.n_numbers(counted), count(config).parameters - nowhere
    if found != wanted or config.n_layers > len(counted):
        raise UserError(
            f"{path} has {found:,} weights, and its metadata describes a model of {wanted:,}: it is damaged, "
            f"or of another architecture than it says. {files.COPY}"
        )


def _require_shapes(path: Path, header: Header, places: dict[str, Place]) -> None:
    wanted: dict[str, list[int]] = {}
    for place in places.values():
        rows, *rest = place.shape
        wanted[place.tensor] = [place.first + rows, *rest]  # parts of one tensor come in the order of rows
    found = {name: list(entry.shape) for name, entry in header.tensors.items()}
    found.pop(gguf_config.ROPE_FACTORS, None)
    for name in sorted(found.keys() | wanted.keys()):
        if found.get(name) != wanted.get(name):
            raise UserError(
                f"{path}: {shown(name)} has the shape {found.get(name)}, and its metadata asks for "
                f"{wanted.get(name)}. {files.COPY}"
            )


def _read_weights(
    path: Path, header: Header, places: dict[str, Place], weights: dict[str, np.ndarray]
) -> dict[str, p.Blocks]:
    """Fill the weights; return the quantized matrices as they are."""
    blocks = {}
    with files.readable(path), path.open("rb") as file:
        for name, place in places.items():
            entry, target = header.tensors[place.tensor], weights[name]
            rows = target.T if place.transposed else target.reshape(len(target), -1)
            data = []
            for start, part in _parts(file, entry, place):
                numbers = dequantize(entry.kind, part)
                tensors.require_finite(numbers, f"{shown(place.tensor)} in {path}")
                rows[start : start + len(part)] = numbers
                if entry.kind not in PLAIN:
                    data.append(part)
            if data:
                blocks[name] = p.Blocks(entry.kind, np.concatenate(data))
    return blocks


def _parts(file: BinaryIO, entry: Entry, place: Place) -> Iterator[tuple[int, np.ndarray]]:
    """A weight's bytes (rows, bytes a row) some rows at a time, in handgrad's order, and where they begin."""
    rows, *rest = place.shape
    if place.order is not None:
        yield 0, gguf_header.read_rows(file, entry, place.first, place.first + rows)[place.order]
        return
    step = max(1, CHUNK // max(1, rest[0] if rest else 1))
    for start in range(0, rows, step):
        end = min(start + step, rows)
        yield start, gguf_header.read_rows(file, entry, place.first + start, place.first + end)
