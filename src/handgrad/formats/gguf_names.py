"""Where a GGUF file keeps each weight: in which tensor, in which rows, in what order.

A GGUF matrix has a row an output, so it is handgrad's transposed; embeddings and positions are as they are.
GPT-2 has queries, keys and values in one matrix, one below the other. Rotary architectures differ in the
pairs that they turn: "llama" has neighbouring components, as handgrad; Qwen's component i is paired with
i + half, so rows of queries and keys are reordered within each head.
"""

from typing import NamedTuple

import numpy as np

from handgrad import tree
from handgrad.formats import names
from handgrad.model.config import ModelConfig
from handgrad.model.init import shapes

NOWHERE = "head.bias"
"""What no GGUF file has: a model read from one has zeros there."""

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
        tensor, first = _tensor(name, config, architecture)
        found[name] = Place(tensor, first, shape, _order(name, config, architecture), transposed)
    return found


def _tensor(name: str, config: ModelConfig, architecture: str) -> tuple[str, int]:
    """A weight's tensor, and the row in it: in GPT-2 queries, keys and values are below one another."""
    tensor = names.theirs(name, "gguf")
    assert tensor is not None, name
    for number, part in enumerate(("attn_q.", "attn_k.", "attn_v.")):
        if architecture == "gpt2" and part in tensor:
            return tensor.replace(part, "attn_qkv."), number * config.d_model
    return tensor, 0


def _order(name: str, config: ModelConfig, architecture: str) -> np.ndarray | None:
    """The rows of a half-split matrix in the order of handgrad's, whose pairs are neighbours."""
    heads = {"query": config.n_heads, "key": config.kv_heads, "query_norm": 1, "key_norm": 1}
    part = name.split(".")[-2] if "." in name else ""
    if architecture not in HALF_SPLIT or ".attention." not in name or part not in heads:
        return None
    within = np.arange(config.head_width).reshape(2, -1).T.ravel()  # 0, half, 1, half + 1, ...
    return (np.arange(heads[part])[:, None] * config.head_width + within).ravel()
