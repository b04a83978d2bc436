"""`model.ops.NAMES` lists exactly the ops that a transformer calls, and each engine's twins have them all."""

import numpy as np
import pytest

from handgrad import ops
from handgrad.kernels.arena import Arena, aligned
from handgrad.kernels.twins import Twins
from handgrad.kernels.workspace import Workspace
from handgrad.model.cases import SMALL, small
from handgrad.model.config import CHOICES, PRESETS, ModelConfig
from handgrad.model.init import init
from handgrad.model.ops import NAMES, Ops
from handgrad.model.transformer import LanguageModel, Transformer

EVERY_CHOICE = [
    ModelConfig(**SMALL, **{field: choice}) for field, choices in CHOICES.items() for choice in choices
]
CONFIGS = [
    *map(small, PRESETS.values()),
    *EVERY_CHOICE,
    *(config.replace(tied=False, gated=True, qk_norm=True, dropout=0.1) for config in EVERY_CHOICE),
]


class Recorder:
    """Stands for `handgrad.ops`, and remembers which function of which op was called."""

    def __init__(self):
        self.called = set()

    def __getattr__(self, name):
        recorder, op = self, getattr(ops, name)

        class Recorded:
            def __getattr__(self, function):
                recorder.called.add((name, function))
                return getattr(op, function)

        return Recorded()


@pytest.fixture(scope="module")
def called():
    """All (op, function) that any kind of transformer calls to train, to judge and to write."""
    recorder, rng = Recorder(), np.random.default_rng(0)
    for config in CONFIGS:
        transformer = Transformer(config, recorder)
        model, weights = LanguageModel(transformer), init(config)
        batch = rng.integers(config.vocab_size, size=(2, 2, config.context_length))
        model.loss_and_gradients(1.0, weights, *batch, rng=rng)
        model.backward(1.0, model.forward(weights, *batch, rng=rng)[1])
        logits, saved = transformer.forward(weights, batch[0])
        transformer.backward(logits, saved)
    return recorder.called


def test_a_transformer_calls_the_ops_of_the_list_and_no_others(called):
    assert {name for name, _ in called} == set(NAMES)


def test_every_engine_has_every_function_that_a_transformer_calls(called):
    twins = Twins(Workspace(Arena(16), aligned(16)))
    missing = {call for call in called if not callable(getattr(getattr(twins, call[0], None), call[1], None))}
    assert not missing
    assert isinstance(twins, Ops)
    assert isinstance(ops, Ops)


def test_settings_of_the_norms_reach_the_heads_own(rng):
    config = ModelConfig(**SMALL, qk_norm=True)
    token_ids = rng.integers(config.vocab_size, size=(2, config.context_length))
    _, saved = Transformer(config.replace(norm_eps=0.5)).forward(init(config), token_ids)
    norm = saved.blocks[0].attention.query_norm
    mean_square = np.mean(norm.x**2, axis=-1, keepdims=True)
    np.testing.assert_allclose(norm.rrms, (mean_square + 0.5) ** -0.5, rtol=1e-6)
