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

PROCESS = 150_000_000
"""Bytes of a training process besides its arrays, as measured: Python, NumPy, Numba, kernels."""


class Sizes:
    """Sizes in an arena, in float32 numbers, of arrays with a row for each token."""

    def __init__(self, config: ModelConfig, n_tokens: int, kernels: Kernels):
        self.n, self.products, self.attention = n_tokens, kernels.products, kernels.attention
        self.stream = self.float32(config.d_model)
        heads, keys = (n * config.head_width for n in (config.n_heads, config.kv_heads))
        self.queries, self.keys, self.inside = map(self.float32, (heads, keys, config.ff_width))
        self.widths = config.d_model, heads, keys, config.ff_width

    def float32(self, width: int) -> int:
        return padded(self.n * width)

    def operand(self, width: int) -> int:
        """An activation as products read it."""
        shape = self.products.operand_shape(self.n, width)
        return padded(-(-math.prod(shape) * np.dtype(self.products.OPERAND).itemsize // 4))

    def heads(self, width: int) -> int:
        """Queries, keys or values as attention reads them."""
        return self.operand(width) if self.rounds_heads else self.float32(width)

    def slopes(self, width: int) -> int:
        """An activation's derivatives."""
        return padded(-(-self.n * width // 2)) if self.rounds else self.float32(width)

    @property
    def rounds_heads(self) -> bool:
        """Whether attention reads and writes operands too."""
        return self.attention.OPERAND is not np.float32

    @property
    def rounds(self) -> bool:
        """Whether an operand is another array than the activation."""
        return self.products.OPERAND is not np.float32


def arena_size(config: ModelConfig, n_tokens: int, kernels: Kernels) -> int:
    """float32 numbers that a micro-batch's activations take, and the gradients that find no other place."""
    sizes = Sizes(config, n_tokens, kernels)
    D, q, kv, F = sizes.widths
    stream, queries, H, G = sizes.stream, sizes.queries, config.n_heads, config.kv_heads
    pre = config.norm_placement == "pre"
    norm = 2 * sizes.float32(1) + (sizes.operand(D) if pre else stream + sizes.rounds * sizes.operand(D))

    block = 2 * norm
    block += sizes.heads(q) + 2 * sizes.heads(kv)  # queries, keys, values
    if config.qk_norm:
        block += queries + 2 * sizes.float32(H) + sizes.keys + 2 * sizes.float32(G)
        block += (queries + 2 * sizes.keys) if sizes.rounds_heads else 0  # what the norms were given
    block += sizes.operand(q) + sizes.float32(2 * H) + stream  # attention, sums of scores, the projection
    block += sizes.slopes(F) + sizes.operand(F) + stream  # up, or its slopes, and activation; down
    if config.gated:
        block += 3 * sizes.inside - sizes.slopes(F)  # up, gate and its activation, in full

    ends = (3 if config.dropout else 1) * stream  # embedding, dropout and its gradient
    ends += stream if config.position != "rope" else 0
    ends += norm if pre else sizes.rounds * sizes.operand(D)
    n_logits = logit_rows(n_tokens, config.vocab_size) * config.vocab_size
    turned = 0 if sizes.rounds_heads else n_turned(config) * (queries + sizes.keys)
    return config.n_layers * block + turned + ends + stream + padded(n_logits)


def n_turned(config: ModelConfig) -> int:
    """Layers that turn queries and keys."""
    unturned = config.n_layers // config.unturned_every if config.unturned_every else 0
    return config.n_layers - unturned if config.position == "rope" else 0


def passing_size(config: ModelConfig, n_tokens: int, kernels: Kernels) -> int:
    """float32 numbers that one forward or one backward of a twin takes on its way, at most."""
    sizes = Sizes(config, n_tokens, kernels)
    rounded = sizes.operand if sizes.rounds else lambda width: 0
    D, q, kv, F = sizes.widths
    heads = sizes.queries + 2 * sizes.keys
    turned = (sizes.queries + sizes.keys) if n_turned(config) else 0

    attention = sizes.queries + sizes.stream + turned  # dy, dx
    attention += rounded(D) + rounded(q) + 2 * rounded(kv)
    attention += heads if sizes.rounds_heads else 0
    feed_forward = sizes.inside + sizes.stream + rounded(D) + (2 if config.gated else 1) * rounded(F)
    n_logits = logit_rows(n_tokens, config.vocab_size)
    logits = Sizes(config, n_logits, kernels).operand(config.vocab_size) if sizes.rounds else 0
    return max(attention, feed_forward, logits)


def entering_size(config: ModelConfig, n_tokens: int, kernels: Kernels) -> int:
    """float32 numbers of the gradient that enters a branch, where dropout makes it another one."""
    return Sizes(config, n_tokens, kernels).stream if config.dropout else 0


def scratch_size(config: ModelConfig, kernels: Kernels) -> int:
    """float32 numbers that the largest kernel wants to work in."""
    vocabulary = config.vocab_size
    widths = (config.d_model, config.n_heads * config.head_width, config.ff_width, vocabulary)
    return max(
        kernels.attention.scratch_size(config.context_length, config.head_width),
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


def micro_batch_sequences(config: ModelConfig, batch_size: int, products: ModuleType) -> int:
    """The most sequences in one part of a batch of whole windows."""
    return max(1, min(batch_size, products.TOKENS // config.context_length))


def predict(config: ModelConfig, batch_size: int, precision: str, n_workers: int) -> Memory:
    """The memory that training with batches of `batch_size` windows will take at its peak.

    It follows from the configuration's numbers: nothing is built, however large the model.
    """
    kernels = kernels_for(precision)
    n_weights, n_workers = count(config).parameters, min(n_workers, batch_size)
    block, ends = matrix_shapes(config)
    panels = config.n_layers * panels_size(block, kernels.products) + panels_size(ends, kernels.products)
    sequences = micro_batch_sequences(config, -(-batch_size // n_workers), kernels.products)
    worker = scratch_size(config, kernels)
    for size in (arena_size, passing_size, entering_size):
        worker += size(config, sequences * config.context_length, kernels)
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
