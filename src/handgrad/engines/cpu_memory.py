"""How much the CPU engine allocates, counted from a configuration alone, array by array."""

import math
from types import ModuleType

from handgrad.kernels import attention
from handgrad.kernels.arena import padded
from handgrad.kernels.twins import logit_rows
from handgrad.model.config import ModelConfig


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


def scratch_size(config: ModelConfig, products: ModuleType) -> int:
    """float32 numbers that the largest kernel wants to work in."""
    vocabulary = config.vocab_size
    widths = (config.d_model, config.ff_width, vocabulary)
    return max(
        attention.scratch_size(config.context_length, config.d_head),
        *(products.scratch_size(width) for width in widths),
    )


def panels_bytes(shapes: list[tuple[int, int]], products: ModuleType) -> int:
    """Bytes of the packed matrices of these shapes, and of their transposes."""
    numbers = sum(math.prod(products.packed_shape(*s)) for K, N in shapes for s in ((K, N), (N, K)))
    return numbers * products.BYTES
