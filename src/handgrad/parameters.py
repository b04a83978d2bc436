"""The weights of a transformer and of its parts, as trees of NamedTuples.

A gradient has the type of what it is the gradient of. The fields stand in the order in which the forward
functions take them, so that a part is handed over as `linear.forward(x, *p.up)`. `None` marks what a model
does not have.
"""

from typing import NamedTuple

import numpy as np

from handgrad.shapes import Array, Float


class Linear(NamedTuple):
    """An affine layer: y = x @ weight + bias."""

    weight: Float[Array, "M N"]
    bias: Float[Array, " N"] | None = None


class Adapter(NamedTuple):
    """LoRA's two narrow matrices, whose product is added to a weight."""

    a: Float[Array, "M R"]
    b: Float[Array, "R N"]


class Blocks(NamedTuple):
    """A matrix as a quantized GGUF holds it: a row an output, in blocks of numbers with their own scales."""

    kind: str
    """Such as "Q4_1"."""
    data: np.ndarray
    """(n_out, bytes a row) uint8."""


class LayerNorm(NamedTuple):
    """Scale and shift of a layer normalization."""

    gamma: Float[Array, " D"]
    beta: Float[Array, " D"] | None = None


class RMSNorm(NamedTuple):
    """Scale of a root-mean-square normalization."""

    gamma: Float[Array, " D"]


class MultiHeadAttention(NamedTuple):
    """W_Q, W_K, W_V, W_O, and the scales of each head's queries and keys, if they are normalized."""

    query: Linear
    key: Linear
    value: Linear
    output: Linear
    query_norm: RMSNorm | None = None
    key_norm: RMSNorm | None = None


class FeedForward(NamedTuple):
    """Up, down, the gate of a gated form, and the learned slope of a parametric ReLU."""

    up: Linear
    down: Linear
    gate: Linear | None = None
    alpha: Float[Array, "*F"] | None = None


class Block(NamedTuple):
    """One layer of the transformer: attention and feed-forward, each with its norm."""

    norm1: LayerNorm | RMSNorm
    attention: MultiHeadAttention
    norm2: LayerNorm | RMSNorm
    feed_forward: FeedForward


class Transformer(NamedTuple):
    """All weights. No `head`: the output head is the embedding, transposed (tied)."""

    embedding: Float[Array, "V D"]
    positions: Float[Array, "T D"] | None
    blocks: tuple[Block, ...]
    norm: LayerNorm | RMSNorm | None
    head: Linear | None
