"""What `writing` computes with: a model's weights as it reads them, its architecture's numbers, and room."""

from typing import NamedTuple

import numpy as np

FLOAT32, BFLOAT16, TILES, Q8_0, Q4_0, Q4_1 = range(6)
"""Kinds of matrices: bfloat16 is multiplied in vectors or, where there are tiles, on them; then blocks."""
NONE = -1
"""The kind of a matrix that a model does not have, and the place of a bias that it does not have."""
QUERY, KEY, VALUE, OUTPUT, GATE, UP, DOWN, PER_LAYER = range(8)
"""Numbers of a layer's matrices. They lie in this order, layer after layer; then comes the head."""

MATRIX = np.dtype(
    [
        ("kind", np.int64),
        ("at", np.int64),  # the address of its first panel
        ("panel", np.int64),  # bytes of a panel
        ("width", np.int64),  # columns of a panel
        ("n_panels", np.int64),
        ("n_rows", np.int64),
        ("n_columns", np.int64),
        ("bias", np.int64),  # where its bias begins, or NONE
    ]
)
"""A matrix (n_rows, n_columns), in panels."""


class Norms(NamedTuple):
    """Scale (L, D) and shift; what there is not has width 0."""

    gamma: np.ndarray
    beta: np.ndarray


class Small(NamedTuple):
    """What is no matrix. Layers are the first axis."""

    norm1: Norms
    query_norm: Norms
    key_norm: Norms
    norm2: Norms
    last_norm: Norms
    """Of one layer; its width is 0 where there is none."""
    alpha: np.ndarray
    """Slopes of the parametric ReLU: (L, 1), (L, F), or (L, 0)."""
    biases: np.ndarray
    """All of them, one after the other."""
    embedding: np.ndarray
    """(V, D) float32."""
    positions: np.ndarray
    """(S, D), added to the embeddings; or (0, D)."""
    cos: np.ndarray
    """(S, K / 2), by which queries and keys are turned; or (0, 0)."""
    sin: np.ndarray


class Settings(NamedTuple):
    """Numbers of the architecture."""

    n_layers: int
    n_heads: int
    n_kv_heads: int
    d_head: int
    d_model: int
    ff_width: int
    key_column: int
    """Where keys begin in a row of queries, keys and values."""
    value_column: int
    up_column: int
    """Where what is gated begins in a row of gates and numbers."""
    scale: np.float32
    """Of embeddings."""
    eps: np.float32
    centred: bool
    """LayerNorm, else RMSNorm."""
    before: bool
    """Norms stand before a block's parts, else after their sums."""
    gated: bool
    activation: int
    unturned_every: int
    """Layers whose number is a multiple of it turn nothing; 0 means that all turn."""


class Cache(NamedTuple):
    """Keys and values of the positions so far, of every layer, text and key-value head.

    Both lie as products read their panels: keys (S / 64, K, 64), so that 64 positions are scored at once, and
    values (K / 64, S, 64). All numbers are addresses and bytes.
    """

    keys: int
    values: int
    key_head: int
    """From one head's keys to the next."""
    value_head: int
    value_panel: int
    n_texts: int
    narrow: bool
    """bfloat16, else float32."""


class Rows(NamedTuple):
    """What is read."""

    token_ids: np.ndarray
    texts: np.ndarray
    """Which text each row belongs to."""
    positions: np.ndarray
    last: np.ndarray
    """The rows whose logits are asked for."""


class Room(NamedTuple):
    """Room for R rows; widths are filled up to whole panels. What has a first axis W is each worker's own."""

    x: np.ndarray
    """(R, D): the residual stream."""
    y: np.ndarray
    """(R, D filled up): what a layer adds."""
    wide: np.ndarray
    """(R, widest): queries, keys and values; what is inside the feed-forward block."""
    mixed: np.ndarray
    """(R, H K): what attention adds up."""
    normed: np.ndarray
    """(W, R, D)"""
    whole: np.ndarray
    """(W, R, widest) int8: rows, quantized."""
    notes: np.ndarray
    """(W, R, 16 bytes a block)"""
    halves: np.ndarray
    """(W, R, widest) uint16: rows, rounded to bfloat16."""
    tile: np.ndarray
    """(W, a block of a product)"""
    queries: np.ndarray
    """(W, 4, K)"""
    heads: np.ndarray
    """(W, 4, K filled up)"""
    scores: np.ndarray
    """(W, 4, S filled up)"""
    weights: np.ndarray
    """(W, 4): by what the heads are multiplied, one divided by the sum of exponentials."""
    queue: np.ndarray
    """(W, 4, 2) integers: rows and heads of queries that are answered together."""


class Team(NamedTuple):
    """The threads that compute one call together."""

    worker: int
    n_workers: int
    place: int
    """The address where they meet."""
    arrivals: np.ndarray
    """(1,): of all of them, up to the last barrier; each has its own."""
