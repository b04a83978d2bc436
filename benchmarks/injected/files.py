"""What goes wrong when a model is written or read: an order, a type, a setting."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np

from handgrad.formats import (
    block_file,
    gguf,
    gguf_save,
    hugging_face,
    hugging_face_layouts,
    model_folder,
    tensors,
)
from handgrad.model.config import ModelConfig
from handgrad.parameters import Blocks
from handgrad.verify import files as verified
from injected import Change, Fault, replaced, result


def faults(model: str, config: ModelConfig) -> Iterator[Fault]:
    """Those of a model's folder."""
    for layer in range(config.n_layers):
        for name, array, change in _arrays(config, layer):
            yield Fault(model, f"export: {name}, layer {layer}", _written(array, change))
    for name, change in _settings(config):
        yield Fault(model, f"export: {name} is lost", _read(change))
    if config.norm_placement == "pre":
        yield from _hugging_face(model, config)
        yield from _gguf(model, config)


def of_blocks(model: str) -> Iterator[Fault]:
    """Those of a quantized model's folder."""
    yield Fault(model, "export: the blocks are lost", _blocks(lambda blocks: {}))
    yield Fault(
        model, "export: one matrix's blocks are lost", _blocks(lambda blocks: dict([*blocks.items()][1:]))
    )
    yield Fault(model, "export: a bit of a block is another", _blocks(_other_bit))


def _hugging_face(model: str, config: ModelConfig) -> Iterator[Fault]:
    """Those of a Hugging Face folder."""
    as_bfloat16 = _saved_with(dtype="BF16")
    yield Fault(model, "Hugging Face: written as bfloat16", as_bfloat16)
    epsilon = "rms_norm_eps" if config.position == "rope" else "layer_norm_epsilon"
    other = {epsilon: 10 * config.norm_eps, ACTIVATION[config.position]: "relu"}
    if config.position == "rope":
        yield Fault(model, "Hugging Face: heads' components left in our order", _our_order)
        other["rope_theta"] = 2 * config.rope_base
    for name, value in other.items():
        yield Fault(model, f"Hugging Face: another {name} is written", _saying(name, value))
    if config.has_qkv_bias:
        yield Fault(model, "Hugging Face: a bias is written as zeros", _without_biases)


def _gguf(model: str, config: ModelConfig) -> Iterator[Fault]:
    """Those of a GGUF file."""
    yield Fault(model, "GGUF: written as bfloat16", _gguf_saved_with("BF16"))
    if config.has_qkv_bias:
        yield Fault(
            model, "GGUF: a bias is written as zeros", _gguf_data(lambda w: 0 * w if w.ndim == 1 else w)
        )
    yield Fault(
        model, "GGUF: one bit of one weight", _gguf_data(lambda w: _one_bit(w.copy()) if w.ndim == 2 else w)
    )
    if config.position == "rope":
        unordered = replaced(
            gguf_save,
            "_data",
            lambda right: lambda w, place, *rest: right(w, place._replace(order=None), *rest),
        )
        yield Fault(model, "GGUF: heads' components left in our order", unordered)


def _gguf_saved_with(kind: str) -> Any:
    right = gguf_save.save
    formats = [
        form._replace(save=lambda model, path: right(model, path, kind)) if form.load is gguf.load else form
        for form in verified.FORMATS
    ]
    return lambda: patch.object(verified, "FORMATS", formats)


def _gguf_data(change: Change) -> Any:
    return replaced(gguf_save, "_data", lambda right: lambda w, *rest: right(change(w), *rest))


ACTIVATION = {"rope": "hidden_act", "learned": "activation_function"}


def _saved_with(**settings: Any) -> Any:
    """The format's `save`, called with these settings."""
    right = hugging_face.save
    formats = [
        form._replace(save=lambda model, path: right(model, path, **settings)) if form.save is right else form
        for form in verified.FORMATS
    ]
    return lambda: patch.object(verified, "FORMATS", formats)


def _our_order() -> Any:
    def wrong(self: hugging_face.Place, array: np.ndarray) -> np.ndarray:
        return array.T if self.transposed else array

    return patch.object(hugging_face.Place, "to_theirs", wrong)


def _without_biases() -> Any:
    right = hugging_face.Place.to_theirs

    def wrong(self: hugging_face.Place, array: np.ndarray) -> np.ndarray:
        return right(self, np.zeros_like(array) if array.ndim == 1 else array)

    return patch.object(hugging_face.Place, "to_theirs", wrong)


def _blocks(change: Change) -> Any:
    """A folder's blocks, changed as they are read."""
    return result(block_file, "read", change)


def _other_bit(blocks: dict[str, Blocks]) -> dict[str, Blocks]:
    name, (kind, data) = next(iter(blocks.items()))
    data = data.copy()
    data[-1, -1] ^= 1
    return {**blocks, name: Blocks(kind, data)}


def _saying(name: str, value: Any) -> Any:
    """config.json says something else."""
    right = hugging_face_layouts.describe
    return lambda: patch.object(
        hugging_face_layouts, "describe", lambda config: {**right(config), name: value}
    )


def _arrays(config: ModelConfig, layer: int) -> Iterator[tuple[str, str, Change]]:
    block, K = f"blocks.{layer}.", config.head_width
    yield "one matrix as bfloat16", block + "attention.output.weight", _bfloat16
    yield "one norm as bfloat16", block + "norm2.gamma", _bfloat16
    yield "queries transposed", block + "attention.query.weight", lambda w: w.T.reshape(w.shape)
    halves = [*range(0, K, 2), *range(1, K, 2)]
    yield (
        "heads' components in another order",
        block + "attention.key.weight",
        lambda w: _reordered(w, halves),
    )
    yield "a matrix of zeros", block + "feed_forward.up.weight", np.zeros_like
    yield "one bit of one weight", block + "feed_forward.down.weight", _one_bit


def _settings(config: ModelConfig) -> Iterator[tuple[str, dict[str, Any]]]:
    yield "the norms' epsilon", {"norm_eps": 1e-6}
    if config.position == "rope":
        yield "the rotary base", {"rope_base": 500_000.0}
    if config.scale_embedding:
        yield "the embedding's scale", {"scale_embedding": False}


def _written(name: str, change: Change) -> Any:
    right = tensors.write

    def wrong(path: Path, arrays: Mapping[str, np.ndarray], *args: Any) -> None:
        right(path, {**arrays, name: np.ascontiguousarray(change(arrays[name]))}, *args)

    return lambda: patch.object(tensors, "write", wrong)


def _read(changes: dict[str, Any]) -> Any:
    right = model_folder.model_config
    return lambda: patch.object(model_folder, "model_config", lambda table: right(table).replace(**changes))


def _bfloat16(w: np.ndarray) -> np.ndarray:
    return (w.astype(np.float32).view(np.uint32) & np.uint32(0xFFFF0000)).view(np.float32)


def _reordered(w: np.ndarray, order: list[int]) -> np.ndarray:
    return w.reshape(len(w), -1, len(order))[:, :, order].reshape(w.shape)


def _one_bit(w: np.ndarray) -> np.ndarray:
    w = w.astype(np.float32)
    w.flat[0] = np.nextafter(w.flat[0], np.float32(np.inf))
    return w
