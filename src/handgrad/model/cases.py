"""All that is proved: ops on their own cases, blocks of every kind, every preset made small."""

from collections.abc import Iterator
from typing import Any, Literal, NamedTuple, TypeVar

import numpy as np

from handgrad import ops, tree
from handgrad.errors import require_known, require_whole
from handgrad.gradcheck import Op
from handgrad.model.block import Block
from handgrad.model.config import PRESETS, ModelConfig
from handgrad.model.init import init
from handgrad.model.transformer import LanguageModel, Transformer
from handgrad.ops.rope import RopeScaling

SMALL = {"vocab_size": 7, "context_length": 5, "n_layers": 2, "n_heads": 2, "d_model": 8, "d_ff": 12}
"""The size at which blocks and presets are proved: the same code, few enough numbers to measure each."""

BLOCKS: dict[str, dict[str, Any]] = {
    "block_post": {"norm_placement": "post", "activation": "relu", "position": "sinusoidal"},
    "block_pre": {"activation": "gelu"},
    "block_dropout": {"activation": "gelu_tanh", "dropout": 0.2},
    "block_prelu": {"activation": "prelu", "norm": "rms_norm", "bias": False},
    "block_grouped": {"n_kv_heads": 1, "position": "rope", "qk_norm": True, "activation": "relu_squared"},
    "block_gated": {
        "norm": "rms_norm",
        "position": "rope",
        "activation": "silu",
        "gated": True,
        "bias": False,
    },
    "block_wide_heads": {
        "d_head": 6,
        "n_kv_heads": 1,
        "position": "rope",
        "qk_norm": True,
        "norm": "rms_norm",
    },
    "block_qkv_bias": {"qkv_bias": True, "bias": False, "norm_placement": "post", "d_head": 3},
    "block_scaled_rope": {
        "position": "rope",
        "rope_scaling": RopeScaling("llama3", 4.0, original_context_length=20),
        "rope_base": 30.0,
    },
}


Weights = TypeVar("Weights")
Kind = Literal["op", "block", "preset"]


class Case(NamedTuple):
    """Something with a forward and a backward, and inputs to prove it on."""

    name: str
    kind: Kind
    op: Op
    inputs: dict[str, Any]


def names() -> list[str]:
    """What `every_case` can prove, by name: ops, then blocks, then presets."""
    return [*ops.ALL, *BLOCKS, *PRESETS]


def generator(seed: int) -> np.random.Generator:
    """Random numbers for a proof; `UserError` where `seed` is no whole number from 0."""
    return np.random.default_rng(require_whole("seed", seed))


def every_case(name: str | None = None, seed: int = 0) -> Iterator[Case]:
    """All cases, or those of one op, block or preset; `UserError` where there is none of that name."""
    if name is not None:
        require_known("op, block or preset", name, names())
    for op_name, op in ops.ALL.items():
        if name in (None, op_name):
            yield from (Case(op_name, "op", op, inputs) for inputs in op.cases(generator(seed)))
    for block_name, choices in BLOCKS.items():
        if name in (None, block_name):
            yield _block_case(block_name, ModelConfig(**{**SMALL, **choices}), generator(seed))
    for preset_name, config in PRESETS.items():
        if name in (None, preset_name):
            yield _preset_case(preset_name, small(config), generator(seed))


def small(config: ModelConfig) -> ModelConfig:
    """The same architecture at the size of `SMALL`, with as many heads to a key-value head as fit."""
    return config.replace(**SMALL, n_kv_heads=1 if config.kv_heads < config.n_heads else None)


def _lively(weights: Weights, rng: np.random.Generator) -> Weights:
    """Weights of ordinary size: a bias of zero would hide an error in what uses it."""
    return tree.map(lambda w: w + 0.3 * rng.normal(size=w.shape), weights)


def _block_case(name: str, config: ModelConfig, rng: np.random.Generator) -> Case:
    weights = _lively(init(config, rng, np.float64).blocks[0], rng)
    x = rng.normal(size=(2, config.context_length, config.d_model))
    return Case(name, "block", Block(config), {"x": x, "weights": weights, "rng": rng.spawn(1)[0]})


def _preset_case(name: str, config: ModelConfig, rng: np.random.Generator) -> Case:
    token_ids, targets = rng.integers(config.vocab_size, size=(2, 3, config.context_length))
    inputs = {
        "weights": _lively(init(config, rng, np.float64), rng),
        "token_ids": token_ids,
        "targets": targets,
    }
    return Case(name, "preset", LanguageModel(Transformer(config)), {**inputs, "rng": rng.spawn(1)[0]})
