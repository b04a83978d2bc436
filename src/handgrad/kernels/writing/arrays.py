"""What `writing` computes with: a model's weights as it reads them, its architecture's numbers, and room."""

from typing import Annotated, NamedTuple

import numpy as np

FLOAT32, BFLOAT16, TILES, Q8_0, Q4_0, Q4_1, INT8, BYTE_TILES = range(8)
"""Kinds of matrices: bfloat16 is multiplied in vectors or, where there are tiles, on them; then blocks. The
last two are of KV caches only: 8 bits, for vectors or tiles."""
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

Integers = Annotated[np.ndarray, np.int64, 1]
Floats1 = Annotated[np.ndarray, np.float32, 1]
Floats2 = Annotated[np.ndarray, np.float32, 2]
Floats3 = Annotated[np.ndarray, np.float32, 3]
"""Arrays and their number of axes, as `kept` asks for them."""


class Norms(NamedTuple):
    """Scale (L, D) and shift; what there is not has width 0."""

    gamma: Floats2
    beta: Floats2


class Small(NamedTuple):
    """What is no matrix. Layers are the first axis."""

    norm1: Norms
    query_norm: Norms
    key_norm: Norms
    norm2: Norms
    last_norm: Norms
    """Of one layer; its width is 0 where there is none."""
    alpha: Floats2
    """Slopes of the parametric ReLU: (L, 1), (L, F), or (L, 0)."""
    biases: Floats1
    """All of them, one after the other."""
    embedding: Floats2
    """(V, D) float32."""
    positions: Floats2
    """(S, D), added to the embeddings; or (0, D)."""
    cos: Floats2
    """(S, K / 2), by which queries and keys are turned; or (0, 0)."""
    sin: Floats2


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
    values (K / 64, S, 64); on tiles as in `attention_tiles`. All numbers are addresses and bytes.
    """

    keys: int
    values: int
    key_head: int
    """From one head's keys to the next."""
    value_head: int
    value_panel: int
    key_scales: int
    """From one head's keys to their scales; of 8 bits."""
    value_scales: int
    n_texts: int
    kind: int
    """FLOAT32, BFLOAT16, TILES, INT8 or BYTE_TILES."""


class Rows(NamedTuple):
    """What is read."""

    token_ids: Integers
    texts: Integers
    """Which text each row belongs to."""
    positions: Integers
    last: Integers
    """The rows whose logits are asked for."""


class Room(NamedTuple):
    """Room for R rows; widths are filled up to whole panels. What has a first axis W is each worker's own."""

    x: Floats2
    """(R, D): the residual stream."""
    y: Floats2
    """(R, D filled up): what a layer adds."""
    wide: Floats2
    """(R, widest): queries, keys and values; what is inside the feed-forward block."""
    mixed: Floats2
    """(R, H K): what attention adds up."""
    normed: Floats3
    """(W, R, D)"""
    whole: Annotated[np.ndarray, np.uint8, 2]
    """(W, bytes): groups of rows, quantized."""
    halves: Annotated[np.ndarray, np.uint16, 3]
    """(W, R, widest) uint16: rows, rounded to bfloat16."""
    tile: Floats2
    """(W, a block of a product)"""
    queries: Floats3
    """(W, Q, K), where Q queries are answered together: 4, or 32 on tiles"""
    heads: Floats3
    """(W, Q, K filled up)"""
    scores: Floats3
    """(W, Q, S filled up)"""
    rounded_queries: Annotated[np.ndarray, np.uint16, 3]
    """(W, Q, K filled up) uint16; on tiles"""
    numerators: Annotated[np.ndarray, np.uint16, 3]
    """(W, Q, S filled up) uint16: exponentials of scores, rounded; on tiles"""
    widened: Annotated[np.ndarray, np.uint16, 2]
    """(W, `attention_byte_tiles.room`)"""
    weights: Floats2
    """(W, Q): by what the heads are multiplied, one divided by the sum of exponentials."""
    queue: Annotated[np.ndarray, np.int64, 3]
    """(W, Q, 2) integers: their rows and heads."""


class Team(NamedTuple):
    """The threads that compute one call together."""

    worker: int
    n_workers: int
    place: int
    """The address where they meet."""
    arrivals: Integers
    """(1,): of all of them, up to the last barrier; each has its own."""


class Kept(NamedTuple):
    """All that a call works with and that stays where it is."""

    rows: Rows
    """Room for what is read: a call says how many there are."""
    matrices: Annotated[np.ndarray, MATRIX, 1]
    cache: Cache
    small: Small
    room: Room
    settings: Settings
    place: int
    """Of `Team`."""
    arrivals: Annotated[np.ndarray, np.int64, 2]
    """(W, a cache line)"""
