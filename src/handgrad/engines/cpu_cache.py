"""The memory that the cpu engine keeps keys and values in: of which kind, how they lie, how many bytes."""

from typing import NamedTuple

import numpy as np

from handgrad import parameters as p
from handgrad.engines import cpu_weights
from handgrad.engines.texts import CACHES
from handgrad.errors import require_known
from handgrad.kernels.arena import aligned, round_up
from handgrad.kernels.writing import tiles, vectors
from handgrad.kernels.writing.arrays import BFLOAT16, BYTE_TILES, FLOAT32, INT8, TILES, Cache
from handgrad.model.config import ModelConfig

BYTES = {FLOAT32: 4, BFLOAT16: 2, TILES: 2, INT8: 1, BYTE_TILES: 1}
"""Of a number."""
SCALE_BYTES = 4


class Layout(NamedTuple):
    """Sizes in bytes, as of `Cache`."""

    kind: int
    n_texts: int
    n_heads: int
    """Of all layers and texts."""
    keys: int
    """One head's, without their scales."""
    value_panel: int
    n_value_panels: int
    scales: int
    """Those of one head's keys, or of its values."""

    @property
    def key_head(self) -> int:
        return self.keys + self.scales

    @property
    def values(self) -> int:
        return self.value_panel * self.n_value_panels

    @property
    def value_head(self) -> int:
        return self.values + self.scales

    @property
    def n_bytes(self) -> int:
        return self.n_heads * (self.key_head + self.value_head)


def kind_for(weights: p.Transformer, precision: str, cache: str) -> int:
    """The kind that `cache` asks for beside weights in `precision`: "auto" is float32 beside float32 weights,
    else bfloat16."""
    require_known("cache", cache, CACHES)
    if cache == "float32" or (cache == "auto" and precision == "float32"):
        return FLOAT32
    halves = cpu_weights.kind_of_halves(weights)
    if cache != "int8":
        return halves
    return BYTE_TILES if halves == TILES else INT8


def is_on_tiles(kind: int) -> bool:
    return kind in (TILES, BYTE_TILES)


def unit(kind: int) -> int:
    """Positions and components that panels are filled up to."""
    return tiles.SIDE if is_on_tiles(kind) else vectors.WIDTH


def layout(config: ModelConfig, n_texts: int, capacity: int, kind: int) -> Layout:
    """Panels as products read them: keys are filled up to whole panels of positions, on tiles of components
    too, and values both ways."""
    size, K = BYTES[kind], round_up(config.head_width, unit(kind))
    S = round_up(capacity, unit(kind))
    return Layout(
        kind=kind,
        n_texts=n_texts,
        n_heads=config.n_layers * n_texts * config.kv_heads,
        keys=S * (K if is_on_tiles(kind) else config.head_width) * size,
        value_panel=S * unit(kind) * size,
        n_value_panels=K // unit(kind),
        scales=S * SCALE_BYTES if size == 1 else 0,
    )


def empty(sizes: Layout) -> tuple[np.ndarray, Cache]:
    """The memory, and where in it everything is.

    It is zero, which costs nothing until it is written: products read whole panels, and numbers that happened
    to lie there, smaller than normal ones, would take twenty times as long.
    """
    memory = aligned(sizes.n_bytes, np.uint8, new=np.zeros)
    keys = memory.ctypes.data
    places = Cache(
        keys=keys,
        values=keys + sizes.n_heads * sizes.key_head,
        key_head=sizes.key_head,
        value_head=sizes.value_head,
        value_panel=sizes.value_panel,
        key_scales=sizes.keys,
        value_scales=sizes.values,
        n_texts=sizes.n_texts,
        kind=sizes.kind,
    )
    return memory, places
