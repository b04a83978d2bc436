"""Where a GGUF file keeps each weight: under what name, in which rows, in what order.

A GGUF matrix has a row an output, so it is handgrad's transposed; embeddings and positions are as they are.
GPT-2 has queries, keys and values in one matrix, one below the other. Rotary architectures differ in the
pairs that they turn: "llama" has neighbouring components, as handgrad; Qwen's component i is paired with
i + half, so rows of queries and keys are reordered within each head.
"""

from typing import NamedTuple

import numpy as np

from handgrad import tree
from handgrad.model.config import ModelConfig
from handgrad.model.init import shapes

LAYER = {
    "norm1.gamma": "attn_norm.weight",
    "norm1.beta": "attn_norm.bias",
    "attention.query.weight": "attn_q.weight",
    "attention.query.bias": "attn_q.bias",
    "attention.key.weight": "attn_k.weight",
    "attention.key.bias": "attn_k.bias",
    "attention.value.weight": "attn_v.weight",
    "attention.value.bias": "attn_v.bias",
    "attention.output.weight": "attn_output.weight",
    "attention.output.bias": "attn_output.bias",
    "attention.query_norm.gamma": "attn_q_norm.weight",
    "attention.key_norm.gamma": "attn_k_norm.weight",
    "norm2.gamma": "ffn_norm.weight",
    "norm2.beta": "ffn_norm.bias",
    "feed_forward.up.weight": "ffn_up.weight",
    "feed_forward.up.bias": "ffn_up.bias",
    "feed_forward.gate.weight": "ffn_gate.weight",
    "feed_forward.gate.bias": "ffn_gate.bias",
    "feed_forward.down.weight": "ffn_down.weight",
    "feed_forward.down.bias": "ffn_down.bias",
}
"""Of block i, where handgrad's names begin with `blocks.i.` and GGUF's with `blk.i.`."""

OUTSIDE = {
    "embedding": "token_embd.weight",
    "positions": "position_embd.weight",
    "norm.gamma": "output_norm.weight",
    "norm.beta": "output_norm.bias",
    "head.weight": "output.weight",
}
NOWHERE = "head.bias"
"""What no GGUF file has: a model read from one has zeros there."""

FUSED = "attn_qkv"
HALF_SPLIT = ("qwen2", "qwen3")
"""Architectures that turn components i and i + half."""


class Place(NamedTuple):
    """Where a weight is in the file."""

    tensor: str
    first: int
    """The row of the tensor where it begins."""
    shape: tuple[int, ...]
    """Of its part of the tensor: rows first."""
    order: np.ndarray | None
    """The part's row for each of handgrad's; None where they are the same."""
    transposed: bool


def places(config: ModelConfig, architecture: str) -> dict[str, Place]:
    """Where each weight of `config` is, by handgrad's name."""
    found = {}
    for name, leaf in tree.named_leaves(shapes(config)):
        if name == NOWHERE:
            continue
        transposed = leaf.ndim == 2 and name not in ("embedding", "positions")
        shape = leaf.shape[::-1] if transposed else leaf.shape
        tensor, first = _fused(name, config) if architecture == "gpt2" else (_tensor(name), 0)
        found[name] = Place(tensor, first, shape, _order(name, config, architecture), transposed)
    return found


def _tensor(name: str) -> str:
    """GGUF's name for a weight."""
    if name in OUTSIDE:
        return OUTSIDE[name]
    _, layer, within = name.split(".", 2)
    return f"blk.{layer}.{LAYER[within]}"


def _fused(name: str, config: ModelConfig) -> tuple[str, int]:
    """GPT-2's tensor, and the row in it: queries, keys and values are below one another."""
    for number, part in enumerate(("query", "key", "value")):
        head, found, kind = name.rpartition(f".attention.{part}.")
        if found:
            return f"{head.replace('blocks', 'blk')}.{FUSED}.{kind}", number * config.d_model
    return _tensor(name), 0


def _order(name: str, config: ModelConfig, architecture: str) -> np.ndarray | None:
    """The rows of a half-split matrix in the order of handgrad's, whose pairs are neighbours."""
    heads = {"query": config.n_heads, "key": config.kv_heads, "query_norm": 1, "key_norm": 1}
    part = name.split(".")[-2] if "." in name else ""
    if architecture not in HALF_SPLIT or ".attention." not in name or part not in heads:
        return None
    within = np.arange(config.head_width).reshape(2, -1).T.ravel()  # 0, half, 1, half + 1, ...
    return (np.arange(heads[part])[:, None] * config.head_width + within).ravel()
