"""How much the CPU engine allocates, counted from a configuration alone, array by array."""

import math
from collections.abc import Iterable
from types import ModuleType
from typing import Any

import numpy as np

from handgrad import tree
from handgrad.engines.engine import Memory
from handgrad.kernels.arena import padded
from handgrad.kernels.precision import Kernels, kernels_for
from handgrad.kernels.twins.next_token_loss import logit_rows
from handgrad.model.config import ModelConfig
from handgrad.model.count import count, matrix_shapes

MICRO_BATCH_TOKENS = 384
"""The most tokens in one part of a batch, if one sequence has no more."""
PROCESS = 195_000_000
"""Bytes of a training process besides its arrays, as measured: Python, NumPy, Numba, matplotlib, kernels."""


def arena_size(config: ModelConfig, batch_size: int, n_positions: int, products: ModuleType) -> int:
    """float32 numbers that a micro-batch's activations take, and the gradients that find no other place."""
    n = batch_size * n_positions
    D, F, H = config.d_model, config.ff_width, config.n_heads
    kv = config.kv_heads * config.d_head
    stream, keys, inside = padded(n * D), padded(n * kv), padded(n * F)
    operand, operand_inside = operand_size(n, D, products), operand_size(n, F, products)
    dropped = stream if config.dropout else 0
    norm = stream + 2 * padded(n)

    block = 2 * norm + 2 * dropped  # only dropout's gradient needs an array of its own
    block += operand + stream + 2 * keys  # queries, keys, values
    if config.qk_norm:
        block += stream + 2 * padded(n * H) + keys + 2 * padded(n * config.kv_heads)
    if config.position == "rope":
        block += 2 * (stream + keys)  # turned, and turned back
    block += stream + padded(2 * n * H) + operand + stream  # attention, two sums a row of scores, projection
    block += operand + stream  # feed-forward: its input and what it gives
    if config.gated:
        block += 4 * inside + operand_inside  # up, gate, its activation, their product
    else:
        block += inside + (operand_inside or inside)  # up, activation

    ends = stream + 2 * dropped  # embedding, dropout and its gradient
    ends += stream if config.position != "rope" else 0
    ends += norm if config.norm_placement == "pre" else 0
    ends += stream + operand + padded(logit_rows(n, config.vocab_size) * config.vocab_size)
    return config.n_layers * block + ends


def passing_size(config: ModelConfig, batch_size: int, n_positions: int, products: ModuleType) -> int:
    """float32 numbers that the gradients of one backward take on their way, at most."""
    n = batch_size * n_positions
    kv = config.kv_heads * config.d_head
    stream, inside = (operand_size(n, width, products) for width in (config.d_model, config.ff_width))
    if config.gated:
        feed_forward = 2 * inside
    else:
        feed_forward = stream + inside + (padded(n * config.ff_width) if inside else 0)
    projections = stream + 2 * operand_size(n, kv, products)
    logits = operand_size(logit_rows(n, config.vocab_size), config.vocab_size, products)
    return max(feed_forward, projections, logits)


def operand_size(M: int, K: int, products: ModuleType) -> int:
    """float32 numbers in whose place an operand (M, K) lies; none where it is the activation itself."""
    if products.OPERAND is np.float32:
        return 0
    return padded(math.prod(products.operand_shape(M, K)) * np.dtype(products.OPERAND).itemsize // 4)


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


def panel_shapes(matrices: Iterable[tuple[int, int]], products: ModuleType) -> list[tuple[int, int, int]]:
    """The shapes of each matrix's panels, and of its transpose's: matrices by their shapes."""
    return [products.packed_shape(*shape) for K, N in matrices for shape in ((K, N), (N, K))]


def micro_batch_sequences(config: ModelConfig, batch_size: int) -> int:
    """The most sequences in one part of a batch of whole windows."""
    return max(1, min(batch_size, MICRO_BATCH_TOKENS // config.context_length))


def predict(config: ModelConfig, batch_size: int, precision: str, n_workers: int) -> Memory:
    """The memory that training with batches of `batch_size` windows will take at its peak.

    It follows from the configuration's numbers: nothing is built, however large the model.
    """
    kernels = kernels_for(precision)
    n_weights, n_workers = count(config).parameters, min(n_workers, batch_size)
    block, ends = matrix_shapes(config)
    panels = config.n_layers * panels_size(block, kernels.products) + panels_size(ends, kernels.products)
    sequences = micro_batch_sequences(config, -(-batch_size // n_workers))
    worker = scratch_size(config, kernels)
    for size in (arena_size, passing_size):
        worker += size(config, sequences, config.context_length, kernels.products)
    return Memory(
        weights=3 * 4 * n_weights,
        gradients=4 * n_weights * n_workers,
        panels=kernels.products.BYTES * panels,
        activations=4 * worker * n_workers,
        process=PROCESS,
    )


def panels_size(matrices: Iterable[tuple[int, int]], products: ModuleType) -> int:
    """Elements (`products.DTYPE`) in the panels of these matrices and of their transposes."""
    return sum(math.prod(shape) for shape in panel_shapes(matrices, products))
