"""What goes wrong when a model is written or read: an order, a type, a setting."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np

from handgrad.formats import model_folder, tensors
from handgrad.model.config import ModelConfig
from injected import Change, Fault


def faults(model: str, config: ModelConfig) -> Iterator[Fault]:
    """Those of a model's folder."""
    for layer in range(config.n_layers):
        for name, array, change in _arrays(config, layer):
            yield Fault(model, f"export: {name}, layer {layer}", _written(array, change))
    for name, change in _settings(config):
        yield Fault(model, f"export: {name} is lost", _read(change))


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
