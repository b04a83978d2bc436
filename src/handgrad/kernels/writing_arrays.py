"""What `writing` computes with: a model's weights as it reads them, its architecture's numbers, and room."""

from typing import NamedTuple

import numpy as np


class Norms(NamedTuple):
    """Scale (L, D) and shift; what there is not has width 0."""

    gamma: np.ndarray
    beta: np.ndarray


class Affine(NamedTuple):
    """Panels (L, N / WIDTH, K, WIDTH) and biases (L, N), or (L, 0)."""

    panels: np.ndarray
    bias: np.ndarray


class Layers(NamedTuple):
    """All blocks."""

    norm1: Norms
    attend: Affine
    """Queries, keys and values side by side."""
    query_norm: Norms
    key_norm: Norms
    output: Affine
    norm2: Norms
    up: Affine
    """With a gate, the gate stands before it."""
    alpha: np.ndarray
    """Slopes of the parametric ReLU: (L, 1), (L, F), or (L, 0)."""
    down: Affine


class Ends(NamedTuple):
    """What stands before and after the layers."""

    embedding: np.ndarray
    """(V, D) float32."""
    positions: np.ndarray
    """(S, D), added to the embeddings; or (0, D)."""
    cos: np.ndarray
    """(S, K / 2), by which queries and keys are turned; or (0, 0)."""
    sin: np.ndarray
    norm: Norms
    """Of one layer; its width is 0 where there is none."""
    head: Affine
    """Of one layer."""


class Settings(NamedTuple):
    """Numbers of the architecture."""

    n_heads: int
    n_kv_heads: int
    d_head: int
    ff_width: int
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
    """Keys and values of the positions so far."""

    keys: np.ndarray
    """(L, B, G, S, K)"""
    values: np.ndarray


class Rows(NamedTuple):
    """What is read."""

    token_ids: np.ndarray
    texts: np.ndarray
    """Which text each row belongs to."""
    positions: np.ndarray
    last: np.ndarray
    """The rows whose logits are asked for."""


class Scratch(NamedTuple):
    """Room for R rows; widths are filled up to whole panels."""

    x: np.ndarray
    """(R, D): the residual stream."""
    h: np.ndarray
    """(R, D)"""
    attended: np.ndarray
    """(R, H K): what the heads found, side by side."""
    wide: np.ndarray
    """(R, widest): queries, keys and values; what is inside the feed-forward block."""
    y: np.ndarray
    """(R, D filled up): what a layer adds."""
    scores: np.ndarray
    """(S,)"""
