"""How much the CPU engine allocates, counted from a configuration alone, array by array."""

import math
from collections.abc import Iterable
from types import ModuleType
from typing import Any, NamedTuple

from handgrad import tree
from handgrad.kernels.arena import padded
from handgrad.kernels.precision import Kernels, kernels_for
from handgrad.kernels.twins.layers import logit_rows
from handgrad.model.config import ModelConfig
from handgrad.model.init import shapes

MICRO_BATCH_TOKENS = 384
"""The most tokens in one part of a batch, if one sequence has no more."""
PROCESS = 195_000_000
"""Bytes of a training process besides its arrays, as measured: Python, NumPy, Numba, matplotlib, kernels."""


def arena_size(config: ModelConfig, batch_size: int, n_positions: int) -> int:
    """float32 numbers that forward and backward of a micro-batch take."""
    n = batch_size * n_positions
    D, F, H = config.d_model, config.ff_width, config.n_heads
    kv = config.kv_heads * config.d_head
    stream, keys, inside = padded(n * D), padded(n * kv), padded(n * F)
    dropped = stream if config.dropout else 0
    norm = stream + 2 * padded(n)

    block = 2 * norm + 2 * dropped  # dropout's gradient is the one that finds no place to take
    block += stream + 2 * keys  # queries, keys, values
    if config.qk_norm:
        block += stream + 2 * padded(n * H) + keys + 2 * padded(n * config.kv_heads)
    if config.position == "rope":
        block += 2 * (stream + keys)  # turned, and turned back
    block += 2 * stream + padded(n * H)  # attention, its log-sums, the output projection
    block += (4 if config.gated else 2) * inside + stream  # up, activation; gate and product; down

    ends = stream + 2 * dropped  # embedding, dropout and its gradient
    ends += stream if config.position != "rope" else 0
    ends += norm if config.norm_placement == "pre" else 0
    ends += stream + padded(logit_rows(n, config.vocab_size) * config.vocab_size)
    return config.n_layers * block + ends


def scratch_size(config: ModelConfig, kernels: Kernels) -> int:
    """float32 numbers that the largest kernel wants to work in."""
    vocabulary = config.vocab_size
    widths = (config.d_model, config.ff_width, vocabulary)
    return max(
        kernels.attention.scratch_size(config.context_length, config.d_head),
        *(kernels.products.scratch_size(width) for width in widths),
    )


def packed(weights: Any, config: ModelConfig) -> dict[str, Any]:
    """The matrices, by name, that take part in products and are packed for them."""
    looked_up = {"positions"} if config.tied else {"positions", "embedding"}
    named = tree.named_leaves(weights)
    return {name: weight for name, weight in named if weight.ndim == 2 and name not in looked_up}


def panel_shapes(matrices: Iterable[Any], products: ModuleType) -> list[tuple[int, int, int]]:
    """The shapes of each matrix's panels, and of its transpose's."""
    return [products.packed_shape(*shape) for m in matrices for shape in (m.shape, m.shape[::-1])]


def micro_batch_sequences(config: ModelConfig, batch_size: int) -> int:
    """The most sequences in one part of a batch of whole windows."""
    return max(1, min(batch_size, MICRO_BATCH_TOKENS // config.context_length))


class Memory(NamedTuple):
    """What training takes, in bytes."""

    weights: int
    """Weights and Adam's two moments."""
    gradients: int
    """One a lane."""
    panels: int
    """The weights as products read them."""
    activations: int
    """Of a micro-batch, and what kernels work in, for every lane."""
    process: int
    """Python and its libraries."""

    @property
    def total(self) -> int:
        return sum(self)


def predict(config: ModelConfig, batch_size: int, precision: str, n_lanes: int) -> Memory:
    """The memory that training with batches of `batch_size` windows will take at its peak."""
    kernels = kernels_for(precision)
    weights = shapes(config)
    n_weights, n_lanes = tree.size(weights), min(n_lanes, batch_size)
    panels = panel_shapes(packed(weights, config).values(), kernels.products)
    sequences = micro_batch_sequences(config, -(-batch_size // n_lanes))
    lane = arena_size(config, sequences, config.context_length) + scratch_size(config, kernels)
    return Memory(
        weights=3 * 4 * n_weights,
        gradients=4 * n_weights * n_lanes,
        panels=kernels.products.BYTES * sum(math.prod(shape) for shape in panels),
        activations=4 * lane * n_lanes,
        process=PROCESS,
    )
