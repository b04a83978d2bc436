"""Writes a model as a GGUF file that llama.cpp loads: plain, quantized, or with the blocks that it came with.

Matrices get the kind that is asked for where their rows fill its blocks, else Q8_0, else F16. Beside 4-bit
matrices the output head (or the embedding, where it is the head) gets Q6_K: llama.cpp's own choice, because
all logits come from it. Vectors and learned positions stay F32.
"""

import itertools
import math
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from handgrad import parameters as p
from handgrad.errors import UserError, require_known
from handgrad.formats import atomic, gguf_config, gguf_names, gguf_vocabulary, tensors
from handgrad.formats.gguf_header import ALIGNMENT, ARRAY, BOOL, FLOAT32, MAGIC, NUMBERS, STRING, VERSIONS
from handgrad.formats.gguf_names import Place
from handgrad.formats.model_folder import Model
from handgrad.formats.quantization import KINDS, PLAIN, WRITTEN, quantize, row_bytes
from handgrad.model.init import require_weights_of

UINT32, INT32 = 4, 5
FILE_TYPES = {"F32": 0, "F16": 1, "Q4_0": 2, "Q8_0": 7, "Q4_K": 14, "Q6_K": 18, "BF16": 32}
"""llama.cpp's numbers for "mostly of this kind"."""
QUANTIZATION_VERSION = 2
CHUNK = 1 << 20
"""Numbers written at a time."""
FOUR_BITS = ("Q4_0", "Q4_K")


class Tensor(NamedTuple):
    """One tensor to be written, from weights that lie below one another in it."""

    name: str
    kind: str
    shape: tuple[int, ...]
    parts: list[tuple[str, Place]]

    @property
    def n_bytes(self) -> int:
        return self.shape[0] * row_bytes(self.kind, math.prod(self.shape[1:]))


def save(model: Model, path: str | Path, kind: str | None = None) -> Path:
    """Write `model` as the new file `path`, whole or not at all; `gguf.load` and llama.cpp read it.

    `kind` is F32, F16, BF16, Q8_0, Q4_0, Q4_K or Q6_K. Without it matrices that came in blocks are written as
    those, bit for bit, and the others in F32.

    Raises `UserError` where llama.cpp computes no such model: it names the settings that stand in the way.
    """
    path = Path(path)
    if kind is not None:
        require_known("kind of GGUF", kind, WRITTEN)
    if path.exists():
        raise UserError(f"{path} exists. Choose another name.")
    require_weights_of(model.config, model.weights)
    architecture, metadata = gguf_config.describe(model.config)
    metadata |= gguf_vocabulary.describe(model)
    weights, places = _contents(model, architecture)
    listed = _tensors(model, places, kind)
    metadata["general.file_type"] = FILE_TYPES[kind] if kind else _most(listed)
    if any(tensor.kind not in PLAIN for tensor in listed):
        metadata["general.quantization_version"] = QUANTIZATION_VERSION
    atomic.write(path, lambda partial: _write(partial, metadata, listed, weights, model.blocks or {}))
    return path


def _contents(model: Model, architecture: str) -> tuple[dict[str, np.ndarray], dict[str, Place]]:
    """What the file holds, by name, and where. GPT-2 has every bias: zeros, where the model has none."""
    weights, config = tensors.by_name(model.weights), model.config
    if np.any(weights.get(gguf_names.NOWHERE, 0)):
        raise UserError(
            "llama.cpp adds no bias to the output head, so a GGUF file cannot hold this one. Train a model "
            "with tied=True or bias=False."
        )
    if architecture == "gpt2":
        config = config.replace(bias=True, qkv_bias=None)
    places = gguf_names.places(config, architecture)
    if config.rope_scaling is not None and config.rope_scaling.kind == "llama3":
        factors = gguf_config.rope_factors(config).astype(np.float32)
        weights[gguf_config.ROPE_FACTORS] = factors
        places[gguf_config.ROPE_FACTORS] = Place(gguf_config.ROPE_FACTORS, 0, factors.shape, None, False)
    return {
        name: weights.get(name, np.zeros(place.shape, np.float32)) for name, place in places.items()
    }, places


def _tensors(model: Model, places: dict[str, Place], kind: str | None) -> list[Tensor]:
    """The tensors, in the order of the weights."""
    parts: dict[str, list[tuple[str, Place]]] = {}
    for name, place in places.items():
        parts.setdefault(place.tensor, []).append((name, place))
    listed = []
    for tensor, below in parts.items():
        shape = (sum(place.shape[0] for _, place in below), *below[0][1].shape[1:])
        listed.append(Tensor(tensor, _kind(model, kind, shape, [name for name, _ in below]), shape, below))
    return listed


def _kind(model: Model, wanted: str | None, shape: tuple[int, ...], names: list[str]) -> str:
    """How to store the weights `names` that make one tensor."""
    if len(shape) == 1 or names == ["positions"]:
        return "F32"
    own = {model.blocks[name].kind if model.blocks and name in model.blocks else None for name in names}
    if len(own) == 1 and (kept := own.pop()) and wanted in (None, kept):
        return kept
    head = names == ["head.weight"] or (names == ["embedding"] and model.config.tied)
    kind = "Q6_K" if wanted in FOUR_BITS and head else wanted or "F32"
    fallbacks = ("Q8_0", "F16")
    return next(k for k in (kind, *fallbacks) if shape[-1] % KINDS[k].numbers == 0)


def _most(listed: list[Tensor]) -> int:
    """llama.cpp's number for the kind that most bytes are of."""
    by_size = {kind: sum(t.n_bytes for t in listed if t.kind == kind) for kind in {t.kind for t in listed}}
    return FILE_TYPES.get(max(by_size, key=by_size.__getitem__), FILE_TYPES["F32"])


def _write(
    partial: Path,
    metadata: dict[str, Any],
    listed: list[Tensor],
    weights: dict[str, np.ndarray],
    blocks: Mapping[str, p.Blocks],
) -> None:
    sizes = [-(-tensor.n_bytes // ALIGNMENT) * ALIGNMENT for tensor in listed]
    offsets = itertools.accumulate(sizes, initial=0)
    with partial.open("wb") as file:
        file.write(MAGIC + struct.pack("<IQQ", VERSIONS[-1], len(listed), len(metadata)))
        file.writelines(_text(key) + _value(value) for key, value in metadata.items())
        file.writelines(_about(tensor, offset) for tensor, offset in zip(listed, offsets, strict=False))
        for tensor in listed:
            _pad(file)
            for name, place in tensor.parts:
                for data in _data(weights[name], place, tensor.kind, blocks.get(name)):
                    file.write(data)
        _pad(file)


def _data(weight: np.ndarray, place: Place, kind: str, own: p.Blocks | None) -> Iterator[bytes]:
    """A weight's rows as the file has them, some at a time."""
    rows = weight.T if place.transposed else weight.reshape(len(weight), -1)
    kept = own.data if own is not None and own.kind == kind else None
    order = np.arange(len(rows)) if place.order is None else np.argsort(place.order)
    step = max(1, CHUNK // max(1, rows.shape[1]))
    for first in range(0, len(rows), step):
        which = order[first : first + step]
        with np.errstate(over="ignore"):  # infinite then, and refused
            numbers = np.asarray(rows[which], np.float32)
        tensors.require_finite(numbers, place.tensor)
        yield (quantize(kind, numbers) if kept is None else kept[which]).tobytes()


def _about(tensor: Tensor, offset: int) -> bytes:
    """A tensor's name, axes (the row's first), type and place."""
    axes = tensor.shape[::-1]
    numbers = struct.pack(f"<I{len(axes)}QIQ", len(axes), *axes, KINDS[tensor.kind].code, offset)
    return _text(tensor.name) + numbers


def _text(text: str) -> bytes:
    data = text.encode()
    return struct.pack("<Q", len(data)) + data


def _value(value: Any) -> bytes:
    """A value of the metadata, its type before it."""
    if isinstance(value, bool):
        return struct.pack("<IB", BOOL, value)
    if isinstance(value, int):
        return struct.pack("<II", UINT32, value)
    if isinstance(value, float):
        return struct.pack("<If", FLOAT32, value)
    if isinstance(value, str):
        return struct.pack("<I", STRING) + _text(value)
    if isinstance(value, np.ndarray):
        of = FLOAT32 if value.dtype == np.float32 else INT32
        return struct.pack("<IIQ", ARRAY, of, len(value)) + value.astype(NUMBERS[of]).tobytes()
    return struct.pack("<IIQ", ARRAY, STRING, len(value)) + b"".join(map(_text, value))


def _pad(file: BinaryIO) -> None:
    file.write(bytes(-file.tell() % ALIGNMENT))
