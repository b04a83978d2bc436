"""nano's recipe in PyTorch is the recipe: the same evaluations, the same batches and learning rates."""

import numpy as np
import pytest
import recipe

from handgrad.benchmark.against import EAGER, OURS
from handgrad.data import batches
from handgrad.engines import cpu
from handgrad.training.pace import Pace

pytest.importorskip("torch")
from handgrad.benchmark import torch_peer

STEPS = 5


@pytest.fixture
def text(tmp_path, monkeypatch):
    short = recipe.RECIPES["nano"].replace(steps=STEPS, eval_every=2, eval_batches=1)
    monkeypatch.setitem(recipe.RECIPES, "nano", short)
    path = tmp_path / "text.txt"
    path.write_text("abcdefgh ijkl\n" * 1000)
    return str(path)


def recorded(monkeypatch, training, text, engine):
    """What steps and evaluations of a run are given."""
    steps, evaluations = [], []
    step, spread = training.step, batches.spread

    def record_step(self, token_ids, targets, learning_rate, *others):
        steps.append((token_ids.copy(), learning_rate))
        return step(self, token_ids, targets, learning_rate, *others)

    def record_spread(tokens, batch_size, context_length, n_windows=None):
        windows = list(spread(tokens, batch_size, context_length, n_windows))
        evaluations.append((len(steps), [token_ids.tolist() for token_ids, _ in windows]))
        return windows

    with monkeypatch.context() as patch:
        patch.setattr(training, "step", record_step)
        patch.setattr(batches, "spread", record_spread)
        patch.setattr(Pace, "is_diagnosed", False)  # it reads windows too
        outcome = recipe.outcome(text, engine, "float32")
    return outcome, steps, evaluations


def test_both_make_the_same_steps_and_evaluations(text, monkeypatch):
    ours = recorded(monkeypatch, cpu.Training, text, OURS)
    theirs = recorded(monkeypatch, torch_peer.Training, text, EAGER)
    warming_up, theirs_steps, theirs_evaluations = 2, theirs[1], theirs[2]
    compiling, ours_steps = len(ours[1]) - STEPS, ours[1]
    assert [rate for _, rate in theirs_steps[:warming_up]] == [0.0] * warming_up
    for mine, peer in zip(ours_steps[compiling:], theirs_steps[warming_up:], strict=True):
        np.testing.assert_array_equal(mine[0], peer[0])
        assert mine[1] == peer[1]
    counted = [(n - warming_up, *asked) for n, *asked in theirs_evaluations[1:]]
    assert counted == [(n - compiling, *asked) for n, *asked in ours[2]]
    assert [n for n, *_ in counted] == [0, 2, 4, 5]


def test_a_learning_rate_of_zero_changes_no_weight(text):
    config = recipe.preset("nano").replace(vocab_size=5)
    training = torch_peer.Training(
        config, recipe.RECIPES["nano"].optimizer_settings, precision="float32", compiled=False
    )
    batch = np.zeros((2, 1, config.context_length), np.int64)
    before = training.loss(*batch)
    training.step(*batch, 0.0)
    assert training.loss(*batch) == before
    training.step(*batch, 1e-3)
    assert training.loss(*batch) < before
