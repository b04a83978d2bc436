"""What goes wrong when the cpu engine writes in few bits, and by several threads."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any
from unittest.mock import patch

import numpy as np

from handgrad.engines import cpu, cpu_writing, parallel
from handgrad.kernels.writing import block_panels
from handgrad.kernels.writing.blocks import SCALE_BYTES, Kind
from injected import Change, Fault, replaced
from injected.kernels import PROXIES, Proxy, SlightlyLarge


def faults(model: str) -> Iterator[Fault]:
    """Those of a model whose matrices are blocks."""
    for precision in ("bfloat16", "int8", "blocks"):
        for name, kind in PROXIES.items():
            yield Fault(model, f"writing in {precision}: {name}", _only_where("precision", precision, kind))
    for bits in (4, 8):
        for name, change in PANELS.items():
            yield Fault(model, f"{name}, {bits} bits", _panels(bits, change))
    for name, change in ROWS.items():
        yield Fault(model, name, _rows(change))
    yield Fault(model, "threads do not wait for each other", _no_barrier)
    for cache in ("bfloat16", "int8"):
        for name, kind in PROXIES.items():
            if kind is not SlightlyLarge:  # as much as such a cache may be off
                yield Fault(model, f"a cache in {cache}: {name}", _only_where("cache", cache, kind))
    for name, change in SCALES.items():
        yield Fault(model, f"a cache in int8: {name}", _only_where("cache", "int8", _scales_changed(change)))


def _only_where(choice: str, value: str, kind: Any) -> Any:
    """The engine's texts go through `kind` where this was chosen; other caches are "auto"."""

    def make(right: Change) -> Change:
        def decoding(*args: Any, **kwargs: Any) -> Any:
            found = right(*args, **kwargs)
            return kind(found) if kwargs.get(choice, "auto") == value else found

        return decoding

    return replaced(cpu, "decoding", make)


class _OtherScales(Proxy):
    """After each reading the scales of all keys, or of all values, are other ones."""

    def __init__(self, right: Any, change: Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]):
        super().__init__(right)
        self._change, cache, n = change, right._kept.cache, right._keys_and_values.size
        n_heads = n // (cache.key_head + cache.value_head)
        keys, values = np.split(right._keys_and_values, [n_heads * cache.key_head])
        values = values[: n_heads * cache.value_head]
        self._scales = [
            part.reshape(n_heads, -1)[:, first:].view(np.float32)
            for part, first in ((keys, cache.key_scales), (values, cache.value_scales))
        ]

    def read(self, pieces: Any, texts: Any = None, *, every: bool = False) -> np.ndarray:
        logits = super().read(pieces, texts, every=every)
        for scales, changed in zip(self._scales, self._change(*self._scales), strict=True):
            scales[...] = changed.copy()
        return logits


SCALES: dict[str, Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]] = {
    "scales one position off": lambda keys, values: (np.roll(keys, 1, 1), np.roll(values, 1, 1)),
    "keys' scales one position off": lambda keys, values: (np.roll(keys, 1, 1), values),
    "values' scales one position off": lambda keys, values: (keys, np.roll(values, 1, 1)),
    "keys and values have each other's scales": lambda keys, values: (values, keys),
}


def _scales_changed(change: Any) -> Any:
    return lambda right: _OtherScales(right, change)


def _other_scales(panels: np.ndarray, change: Change) -> np.ndarray:
    heads = panels[..., :SCALE_BYTES].copy().view(block_panels.SCALE)
    return np.concatenate([change(heads).view(np.uint8), panels[..., SCALE_BYTES:]], axis=-1)


def _one_doubled(scales: np.ndarray) -> np.ndarray:
    scales = scales.copy()
    scales[0, 0, 0] *= 2
    return scales


def _one_left_out(panels: np.ndarray) -> np.ndarray:
    panels = panels.copy()
    panels[0, 0, SCALE_BYTES:] = 0
    return panels


PANELS: dict[str, Change] = {
    "blocks of a column in another order": lambda panels: np.roll(panels, 1, axis=1),
    "a panel's columns in another order": lambda panels: _other_scales(
        panels, lambda scales: np.roll(scales, 1, axis=-1)
    ),
    "a panel's numbers in another order": lambda panels: np.concatenate(
        [panels[..., :SCALE_BYTES], np.roll(panels[..., SCALE_BYTES:], 4, axis=-1)], axis=-1
    ),
    "all scales 1 % too large": lambda panels: _other_scales(
        panels, lambda scales: (1.01 * scales.astype(np.float32)).astype(scales.dtype)
    ),
    "one block's scale doubled": lambda panels: _other_scales(panels, _one_doubled),
    "a panel's first blocks left out": _one_left_out,
}


def _panels(bits: int, change: Change) -> Any:
    """The panels of all of a file's matrices of so many bits."""

    def make(right: Change) -> Change:
        def packed(kind: Kind, data: np.ndarray) -> np.ndarray:
            panels = right(kind, data)
            return np.ascontiguousarray(change(panels)) if kind.n_bits == bits else panels

        return packed

    return replaced(block_panels, "packed", make)


ROWS: dict[str, Change] = {
    "rows of a batch in each other's caches": lambda ids, texts, positions, asked: (
        ids, np.roll(texts, 1), positions, asked,
    ),
    "rows of a batch one position early": lambda ids, texts, positions, asked: (
        ids, texts, np.maximum(0, positions - (len(set(texts)) > 1)), asked,
    ),
    "a batch's last token answers for all": lambda ids, texts, positions, asked: (
        ids, texts, positions, np.maximum(asked, asked.max() if len(set(texts)) > 1 else 0),
    ),
}  # fmt: skip


def _rows(change: Change) -> Any:
    def make(right: Change) -> Change:
        return lambda self, *rows: right(self, *change(*rows))

    return replaced(cpu_writing.Decoding, "_read_rows", make)


@contextlib.contextmanager
def _no_barrier() -> Iterator[None]:
    """Two threads share whatever is computed, one after the other, and no barrier holds them."""

    def one_by_one(function: Change, n_workers: int, give_up: Change) -> None:
        give_up()
        for worker in range(n_workers):
            function(worker, n_workers)

    with (
        patch.object(cpu_writing, "BYTES_A_THREAD", 1),
        patch.object(parallel, "n_cores", lambda: 2),
        patch.object(parallel, "as_team", one_by_one),
    ):
        yield
