"""The reference engine: its steps are AdamW on the formulas, whatever the number of parts and cores."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from handgrad import engines, tree
from handgrad.api import loss_and_gradients
from handgrad.engines import micro_batches, parallel, reference
from handgrad.engines.engine import Limits, OptimizerSettings, State
from handgrad.engines.reference import Training
from handgrad.model.config import ModelConfig
from handgrad.model.init import init
from handgrad.optim import adamw, clip

CONFIG = ModelConfig(vocab_size=11, context_length=8, n_layers=2, n_heads=2, d_model=8, dropout=0.2)
WITHOUT_DROPOUT = CONFIG.replace(dropout=0.0)


@pytest.fixture
def batch(rng):
    return tuple(rng.integers(11, size=(2, 7, 8)))


def test_gradients_of_a_batch_in_parts_are_those_of_the_whole(batch, monkeypatch):
    monkeypatch.setattr(reference, "MICRO_BATCH_TOKENS", 24)  # three sequences: parts of 2, 2 and 3
    batch[1][0, 2:] = -1  # a part's share is what counts in it
    training = Training(CONFIG, State(init(CONFIG)), OptimizerSettings())
    loss, found = training.loss_and_gradients(*batch)
    whole, gradients = loss_and_gradients(CONFIG, training.weights, *batch)
    assert loss == pytest.approx(whole, rel=1e-6)  # float32 sums in another order
    for name, gradient in tree.named_leaves(found):
        np.testing.assert_allclose(gradient, gradients[name], rtol=1e-4, atol=1e-7, err_msg=name)
    assert training.loss(*batch) == pytest.approx(whole, rel=1e-6)


def test_the_number_of_cores_changes_nothing(batch, monkeypatch):
    monkeypatch.setattr(reference, "MICRO_BATCH_TOKENS", 16)
    trained = []
    for n_cores in (1, 3):
        monkeypatch.setattr(parallel, "n_cores", lambda n=n_cores: n)
        training = Training(CONFIG, State(init(CONFIG)), OptimizerSettings())
        rng = np.random.default_rng(4)
        with ThreadPoolExecutor(n_cores) as pool:
            monkeypatch.setattr(parallel, "_pool", lambda pool=pool: pool)
            for _ in range(3):
                training.step(*batch, 1e-2, rng)
        trained.append(training.flat)
    np.testing.assert_array_equal(*trained)


def test_a_step_is_clipping_and_adamw_with_decay_on_matrices_alone(batch):
    settings = OptimizerSettings(weight_decay=0.5, max_gradient_norm=0.1)
    training = Training(WITHOUT_DROPOUT, State(init(WITHOUT_DROPOUT)), settings)
    start = training.flat.copy()
    gradient = np.concatenate(
        [g.ravel() for g in loss_and_gradients(WITHOUT_DROPOUT, training.weights, *batch)[1].values()]
    )
    clipped, norm = clip.by_global_norm(gradient, 0.1)
    assert norm > 0.1
    decay = np.concatenate([np.full(w.size, 0.5 * (w.ndim >= 2)) for w in tree.leaves(training.weights)])
    state = adamw.init(start.astype(np.float64))
    expected, _ = adamw.update(
        start.astype(np.float64),
        clipped,
        state,
        learning_rate=1e-2,
        beta1=0.9,
        beta2=0.99,
        weight_decay=decay,
    )
    step = training.step(*batch, 1e-2)
    assert step.gradient_norm == pytest.approx(float(norm), rel=1e-5)
    # Adam begins with steps of the learning rate times the sign: where a gradient is noise, so is that
    certain = np.abs(gradient) > 1e-6
    np.testing.assert_allclose(training.flat[certain], expected[certain], rtol=1e-4, atol=1e-6)
    assert certain.mean() > 0.5


def test_a_step_that_is_not_finite_changes_nothing(batch):
    weights = init(WITHOUT_DROPOUT)
    weights.blocks[0].norm1.gamma[0] = np.inf
    training = Training(WITHOUT_DROPOUT, State(weights), OptimizerSettings())
    before = training.flat.copy()
    step = training.step(*batch, 1e-2)
    assert not step.is_finite
    np.testing.assert_array_equal(training.flat, before)
    assert training.state().moments.step == 0


@pytest.mark.parametrize("engine", ["reference", "cpu"])
def test_a_step_beyond_its_limits_changes_nothing_and_one_at_them_is_as_ever(batch, engine):
    settings = OptimizerSettings(optimizer="muon")
    free, limited = (
        engines.training(
            WITHOUT_DROPOUT, State(init(WITHOUT_DROPOUT)), settings, name=engine, precision="float32"
        )
        for _ in range(2)
    )
    step = free.step(*batch, 1e-2)
    before = limited.flat.copy()
    for limits in (Limits(0.999 * step.loss), Limits(gradient_norm=0.999 * step.gradient_norm)):
        assert limited.step(*batch, 1e-2, None, limits) == step
        np.testing.assert_array_equal(limited.flat, before)
        assert limited.state().moments.step == 0
        assert not limited.state().moments.mean.any()
    assert limited.begin(*batch, 1e-2, None, Limits(*step))() == step
    np.testing.assert_array_equal(limited.flat, free.flat)


@pytest.mark.parametrize("n_sequences", [1, 2, 5, 12, 64])
def test_parts_cover_the_batch_once(n_sequences):
    token_ids = np.zeros((n_sequences, 64), int)
    parts = micro_batches.cut(token_ids, 512)
    covered = np.concatenate([np.arange(n_sequences)[part] for part in parts])
    np.testing.assert_array_equal(covered, np.arange(n_sequences))
    assert max(len(token_ids[part]) for part in parts) <= 512 // 64


def test_results_come_in_order_and_errors_come_out():
    assert list(parallel.each(lambda a, b: a * b, [1, 2, 3, 4, 5], [2] * 5)) == [2, 4, 6, 8, 10]
    assert list(parallel.each(str, [])) == []
    with pytest.raises(ZeroDivisionError):
        list(parallel.each(lambda a: 1 / a, [1, 0]))
