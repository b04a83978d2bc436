"""A diagnosis measures what it says, alike for every engine, and changes nothing."""

import numpy as np
import pytest

import handgrad
from handgrad import engines, tree
from handgrad.engines import OptimizerSettings, State, lora
from handgrad.model.config import ModelConfig
from handgrad.model.init import init
from handgrad.model.transformer import Transformer
from handgrad.training import diagnosis, metrics, pace
from handgrad.training.checkpoint import Progress
from handgrad.training.metrics import DiagnosisRow, StepRow
from handgrad.training.pace import Pace
from handgrad.training.recipe import Recipe
from tests.training.test_training import assert_same_weights

CONFIG = ModelConfig(vocab_size=11, context_length=6, n_layers=2, n_heads=2, d_model=8, tied=False)
PARTS = [
    "embedding",
    *(f"blocks.{i}.{part}" for i in (0, 1) for part in ("attention", "feed_forward")),
    "head",
]
RANK = lora.Settings(rank=2, alpha=4.0)


@pytest.fixture
def batch(rng):
    return tuple(rng.integers(11, size=(2, 3, 6)))


def training_of(engine, optimizer, with_lora):
    settings = OptimizerSettings(optimizer=optimizer, max_gradient_norm=0.1)  # every gradient is clipped
    state = State(init(CONFIG, 1))
    training = engines.training(CONFIG, state, settings, name=engine, precision="float32", batch_size=3)
    if with_lora:
        adapters = lora.init(CONFIG, RANK.rank, 2)
        for name, array in tree.named_leaves(adapters):
            array[...] += 0.1 * name.endswith(".b")
        training = lora.Training(training, state._replace(adapters=adapters), settings, RANK)
    return training, settings


MATRICES = {
    "embedding": lambda w: [w.embedding, w.positions],
    "blocks.1.feed_forward": lambda w: [
        w.blocks[1].feed_forward.up.weight,
        w.blocks[1].feed_forward.down.weight,
    ],
    "head": lambda w: [w.head.weight],
}


@pytest.mark.parametrize("engine", ["reference", "cpu"])
@pytest.mark.parametrize(("optimizer", "with_lora"), [("adamw", False), ("muon", False), ("adamw", True)])
def test_norms_are_those_of_the_steps_gradient_and_ratios_those_of_its_update(
    engine, optimizer, with_lora, batch
):
    training, settings = training_of(engine, optimizer, with_lora)
    for _ in range(2):
        training.step(*batch, 1e-2)
    before, old = diagnosis.before(training.state()), tree.map(np.copy, training.state().weights)
    if with_lora:
        training.step(*batch, 0.0)  # collects the gradient of the narrow matrices
        gradients = tree.map(np.copy, tree.views(training.gradient, training.adapters))
        training, settings = training_of(engine, optimizer, with_lora)
        for _ in range(2):
            training.step(*batch, 1e-2)
    else:
        gradients = tree.map(np.copy, training.loss_and_gradients(*batch)[1])
    step = training.step(*batch, 1e-2)
    norms, ratios = diagnosis.of_update(before, training.state(), settings, step.gradient_norm)
    for i, block in enumerate(gradients.blocks):
        for part, norm in (("attention", block.norm1), ("feed_forward", block.norm2)):
            leaves = [leaf.ravel() for leaf in tree.leaves((getattr(block, part), norm))]
            expected = np.linalg.norm(np.concatenate(leaves))
            assert norms[f"blocks.{i}.{part}"] == pytest.approx(expected, rel=2e-4), part
    blocks = [name for name in PARTS if name.startswith("blocks.")]
    assert list(norms) == (blocks if with_lora else PARTS)
    assert np.linalg.norm(list(norms.values())) == pytest.approx(step.gradient_norm, rel=2e-4)
    new = training.state().weights
    for part, matrices in MATRICES.items():
        had, has = (np.concatenate([matrix.ravel() for matrix in matrices(w)]) for w in (old, new))
        expected = np.sqrt(np.mean(np.square(has - had)) / np.mean(np.square(had)))
        assert ratios[part] == pytest.approx(expected, rel=1e-4)


def test_of_a_large_weight_some_columns_tell_the_norm_of_all(batch, monkeypatch):
    training, settings = training_of("reference", "adamw", False)
    found = []
    for most in (1 << 19, 64):
        monkeypatch.setattr(diagnosis, "SAMPLED", most)
        training.load(State(init(CONFIG, 1)))
        before = diagnosis.before(training.state())
        step = training.step(*batch, 1e-2)
        found.append(diagnosis.of_update(before, training.state(), settings, step.gradient_norm))
    assert max(a.size for a in before.weights.values()) <= 64
    for exact, sampled in zip(*found, strict=True):
        assert exact.keys() == sampled.keys()
        np.testing.assert_allclose(list(sampled.values()), list(exact.values()), rtol=0.5)
        assert exact != sampled


@pytest.mark.parametrize("changes", [{}, {"norm_placement": "post", "position": "sinusoidal"}])
def test_what_layers_do_is_what_the_whole_model_does(batch, changes):
    config = CONFIG.replace(**changes)
    weights = init(config, 1)
    _, saved = Transformer(config).forward(weights, batch[0])
    found = diagnosis.layers(config, weights, *batch)
    last = np.square(saved.norm.x) if saved.norm else None
    if last is not None:
        assert found.residual_rms[-1] == pytest.approx(np.sqrt(last.mean()), rel=1e-5)
    for layer, block in enumerate(saved.blocks):
        probs = block.attention.attention.probs.y.reshape(3, 2, 6, 6)
        for head in range(2):
            shares = [
                -sum(p * np.log(p) for p in probs[b, head, t, : t + 1]) / np.log(t + 1)
                for b in range(3)
                for t in range(1, 6)
            ]
            assert found.entropies[layer][head] == pytest.approx(np.mean(shares), rel=1e-4)


def test_a_head_that_looks_evenly_has_the_largest_entropy_and_one_that_looks_at_one_position_none(batch):
    weights = init(CONFIG, 1)
    weights.blocks[0].attention.query.weight[:, :4] = 0.0
    weights.blocks[0].attention.query.weight[:, 4:] *= 1e6
    even, sharp = diagnosis.layers(CONFIG, weights, *batch).entropies[0]
    assert even == pytest.approx(1.0)
    assert sharp < 0.01


@pytest.mark.parametrize("changes", [{"activation": "relu"}, {"activation": "gelu"}, {"gated": True}])
def test_a_unit_that_no_token_activates_is_dead(batch, changes):
    config = CONFIG.replace(bias=True, **changes)
    weights = init(config, 1)
    assert diagnosis.layers(config, weights, *batch).dead_units == [0.0, 0.0]
    feed_forward = weights.blocks[1].feed_forward
    through = feed_forward.up if feed_forward.gate is None else feed_forward.gate
    through.bias[: len(through.bias) // 4] = -100.0
    assert diagnosis.layers(config, weights, *batch).dead_units == [0.0, 0.25]


def test_what_stands_after_the_last_target_is_not_seen(batch):
    token_ids, targets = batch
    targets[:, 3:], targets[:, 0] = -1, -1
    weights = init(CONFIG, 1)
    filled = token_ids.copy()
    filled[:, 3:] = 0
    found = [diagnosis.layers(CONFIG, weights, ids, targets) for ids in (token_ids, filled)]
    for one, other in zip(*found, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-6)


def test_where_one_position_is_seen_a_head_looks_evenly():
    config = CONFIG.replace(context_length=1)
    ids = np.ones((2, 3, 1), np.int64)
    assert diagnosis.layers(config, init(config), *ids).entropies == [[1.0, 1.0], [1.0, 1.0]]


def test_numbers_that_are_not_finite_are_not_written(batch):
    training, settings = training_of("reference", "adamw", False)
    before = diagnosis.before(training.state())
    step = training.step(*batch, 1e-2)
    row = StepRow(1, *step[:1], 1e-2, step.gradient_norm, 18, 1.0)
    assert diagnosis.measure(CONFIG, settings, before, training.state(), row, batch)
    training.weights.embedding[0, 0] = np.inf
    assert diagnosis.measure(CONFIG, settings, before, training.state(), row, batch) is None


def rows_of(folder):
    return [row for row in metrics.read(folder) if isinstance(row, DiagnosisRow)]


def test_a_run_is_the_same_with_diagnoses_and_without(text_file, tmp_path, small, monkeypatch):
    """They stand before evaluations, and change no weight, no loss and no sample."""
    small |= {"engine": "reference", "n_layers": 1, "d_model": 8}
    monkeypatch.setattr(pace, "DIAGNOSED", 1)
    often = handgrad.train(text_file, out=tmp_path / "often", **small)
    monkeypatch.setattr(Pace, "is_diagnosed", False)
    never = handgrad.train(text_file, out=tmp_path / "never", **small)
    assert_same_weights(often, never)
    assert [row.step for row in rows_of(often)] == [4, 8, 12]
    assert not rows_of(never)
    others = [
        [row._replace(seconds=0.0) for row in metrics.read(folder) if not isinstance(row, DiagnosisRow)]
        for folder in (often, never)
    ]
    assert others[0] == others[1]


def test_diagnoses_are_some_of_the_steps_before_evaluations_and_the_last_step():
    for rate in (1.0, 0.7, 3.2):
        evaluated, diagnosed, places = [], [], []
        one = Pace(Recipe(steps=1000, eval_every=30), Progress(rate=rate))
        while not one.is_over:
            is_diagnosed = one.is_diagnosed
            if one.step_begun():
                evaluated.append(one.progress.step)
            if is_diagnosed:
                diagnosed.append(one.progress.step)
                places.append(one.progress.place)
        assert set(diagnosed) <= set(evaluated)
        assert diagnosed[-1] == one.progress.step
        assert min(np.diff(places[:-1])) >= pace.DIAGNOSED
        assert len(places) == 9


def test_few_sequences_are_read_and_of_a_large_model_fewer():
    assert diagnosis.n_sequences(800_000, 12, 64) == 6
    assert diagnosis.n_sequences(800_000, 64, 64) == 8
    assert diagnosis.n_sequences(800_000, 1, 8) == 32
    assert diagnosis.n_sequences(800_000, 12, 2048) == 1
    assert diagnosis.n_sequences(124_000_000, 64, 64) == 5
    assert diagnosis.n_sequences(10**11, 1, 1) == 1
    assert diagnosis.shortened((np.zeros((1, 2048)), np.zeros((1, 2048))))[0].shape == (1, diagnosis.LONGEST)


def test_a_row_is_read_as_it_was_written(tmp_path):
    row = DiagnosisRow(3, {"head": 0.5}, {"head": 1e-3}, [[0.5, 1.0]], [0.25], [1.5], 12, 0.5)
    with metrics.Writer(tmp_path, 0) as log:
        log.write(row)
    assert metrics.read(tmp_path) == [row]
