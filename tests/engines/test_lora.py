"""LoRA's gradients are those of the loss, on every engine alike, and nothing but its matrices changes."""

import numpy as np
import pytest

from handgrad import engines, tree
from handgrad.engines import OptimizerSettings, State, lora
from handgrad.engines.engine import Limits, Memory
from handgrad.model import init as model_init
from handgrad.model.config import ModelConfig

CONFIG = ModelConfig(
    vocab_size=11, context_length=8, n_layers=2, n_heads=2, d_model=16, position="rope", gated=True
)
SETTINGS = lora.Settings(rank=2, alpha=3.0)


def adapted(name, **settings):
    weights, adapters = model_init.init(CONFIG, 1), lora.init(CONFIG, SETTINGS.rank, 2)
    for key, array in tree.named_leaves(adapters):
        if key.endswith(".b"):
            array[...] = np.random.default_rng(3).normal(size=array.shape) * 0.1
    optimizer = OptimizerSettings(weight_decay=0.0, **settings)
    inner = engines.training(CONFIG, State(weights), optimizer, name=name, precision="float32", batch_size=3)
    return lora.Training(inner, State(weights, adapters=adapters), optimizer, SETTINGS)


@pytest.fixture
def batch(rng):
    token_ids, targets = rng.integers(11, size=(2, 3, 8))
    targets[0, :5] = -1
    return token_ids, targets


def test_the_gradient_is_that_of_the_loss(batch, rng):
    training = adapted("reference")
    before, h = training.flat.copy(), 1e-3
    training.step(*batch, 0.0)
    v = rng.normal(size=before.size).astype(np.float32)
    losses = []
    for sign in (1, -1):
        adapters = tree.views(before + np.float32(sign * h) * v, training.adapters)
        training.load(training.state()._replace(adapters=adapters))
        losses.append(training.loss(*batch))
    slope = (losses[0] - losses[1]) / (2 * h)
    assert slope == pytest.approx(float(training.gradient @ v), rel=2e-2)  # float32
    assert abs(slope) > 0.05


def test_the_kernels_take_the_same_steps(batch):
    trained = []
    for name in ("reference", "cpu"):
        training = adapted(name)
        steps = [training.step(*batch, 1e-2) for _ in range(3)]
        trained.append((training.flat.copy(), steps))
    (ours, our_steps), (theirs, their_steps) = trained
    np.testing.assert_allclose(ours, theirs, atol=1e-4)
    np.testing.assert_allclose(our_steps, their_steps, rtol=1e-4)
    assert our_steps[-1].loss < our_steps[0].loss


def test_nothing_but_the_blocks_matrices_changes(batch):
    training = adapted("reference")
    before = tree.map(np.copy, training.state().weights)
    training.step(*batch, 1e-2)
    for (name, old), new in zip(
        tree.named_leaves(before), tree.leaves(training.state().weights), strict=True
    ):
        assert np.array_equal(old, new) != (name.startswith("blocks.") and old.ndim == 2), name


def test_a_gradient_that_is_not_finite_changes_nothing(batch):
    training = adapted("reference")
    adapters = tree.map(np.copy, training.adapters)
    next(iter(tree.leaves(adapters)))[0, 0] = np.nan
    training.load(training.state()._replace(adapters=adapters))
    before = training.flat.copy()
    assert not training.step(*batch, 1e-2).is_finite
    np.testing.assert_array_equal(training.flat, before)
    assert training.moments.step == 0


def test_a_step_beyond_its_limits_changes_nothing(batch):
    training = adapted("reference")
    before = training.flat.copy()
    step = training.step(*batch, 1e-2, None, Limits(loss=1.0))
    assert step.loss > 1.0
    np.testing.assert_array_equal(training.flat, before)
    assert training.moments.step == 0
    training.begin(*batch, 1e-2, None, Limits(*step))
    assert training.moments.step == 1


def test_only_the_matrices_have_moments():
    whole = Memory(1, 2, 3, 4, 5)
    weights = tree.size(model_init.shapes(CONFIG))
    blocks = sum(
        w.size for n, w in tree.named_leaves(model_init.shapes(CONFIG)) if "blocks." in n and w.ndim == 2
    )
    learned = adapted("reference").flat.size
    assert lora.memory(CONFIG, whole, 2) == whole._replace(weights=4 * (weights + blocks + 4 * learned))
