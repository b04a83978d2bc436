"""What is measured: a preset's model, on random tokens. The same for every engine that is compared."""

import json
from collections.abc import Iterator
from dataclasses import asdict

import numpy as np

from handgrad.model.config import ModelConfig, preset

SEED = 1337
LEARNING_RATE = 1e-3
GPT2 = {"vocab_size": 50_304, "context_length": 256, "bias": False, "activation": "gelu", "dropout": 0.0}
"""GPT-2's size with nanoGPT's choices, and windows that a CPU can carry."""


def model(preset_name: str, dropout: float | None = None) -> ModelConfig:
    """The model that the benchmark `preset_name` trains; `dropout` None is the preset's own, for gpt2 none.

    Raises `UserError` for a name that is no preset.
    """
    config = preset(preset_name)
    if preset_name == "gpt2":
        config = config.replace(**GPT2)
    return config if dropout is None else config.replace(dropout=dropout)


def batches(config: ModelConfig, batch_size: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Token ids and targets (batch_size, context_length), for ever."""
    rng = np.random.default_rng(SEED)
    while True:
        windows = rng.integers(config.vocab_size, size=(batch_size, config.context_length + 1))
        yield windows[:, :-1].copy(), windows[:, 1:].copy()


def to_json(config: ModelConfig) -> str:
    """For another process, which makes it a `ModelConfig` again with `from_json`."""
    return json.dumps(asdict(config))


def from_json(text: str) -> ModelConfig:
    return ModelConfig(**json.loads(text))
