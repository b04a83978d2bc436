"""The loss over a whole text: by windows that do not overlap, and by ones that do."""

import numpy as np
import pytest

from handgrad import engines
from handgrad.engines.engine import OptimizerSettings, State
from handgrad.model.config import ModelConfig
from handgrad.model.init import init
from handgrad.training import evaluate

T, V = 8, 11


@pytest.fixture
def training():
    config = ModelConfig(vocab_size=V, context_length=T, n_layers=1, n_heads=2, d_model=8)
    weights = init(config, seed=1)
    return engines.training(config, State(weights), OptimizerSettings(), name="reference", batch_size=4)


def by_hand(training, tokens, first_of_window):
    """The mean of -log p of every token but the first, its window's first token given by a function."""
    losses = []
    for i in range(1, len(tokens)):
        logits = training.logits(tokens[None, first_of_window(i) : i])[0, -1].astype(np.float64)
        losses.append(np.log(np.exp(logits).sum()) - logits[tokens[i]])
    return np.mean(losses)


def test_both_are_the_mean_over_every_token_of_what_its_window_predicts(training, rng):
    tokens = rng.integers(V, size=5 * T + 1)
    disjoint = by_hand(training, tokens, lambda i: (i - 1) // T * T)
    assert evaluate.loss(training, tokens, 4) == pytest.approx(disjoint, rel=1e-5)
    half = T // 2
    strided = by_hand(training, tokens, lambda i: max(0, (i - 1) // half * half - half))
    assert evaluate.strided(training, tokens, 4) == pytest.approx(strided, rel=1e-5)
    assert abs(strided - disjoint) > 1e-4  # or the test could not tell them apart
