"""Muon in every engine: the formula's steps on the matrices of the blocks, AdamW's on all else."""

import numba
import numpy as np
import pytest

from handgrad import engines, tree
from handgrad.benchmark import profile
from handgrad.engines import cpu, cpu_muon, reference
from handgrad.engines.engine import OptimizerSettings, State
from handgrad.kernels.arena import Arena, aligned
from handgrad.kernels.precision import kernels_for
from handgrad.kernels.workspace import Workspace
from handgrad.model.config import PRESETS
from handgrad.model.init import init
from handgrad.model.transformer import LanguageModel, Transformer
from handgrad.optim import adamw, clip, muon
from tests.engines.test_cpu import emulate_what_is_missing

PRECISIONS = ["float32", "bfloat16", "int16"]
CONFIG = PRESETS["gpt2"].replace(
    vocab_size=67, context_length=12, n_layers=2, n_heads=2, d_model=24, d_ff=20, dropout=0.0
)
MUON = OptimizerSettings(optimizer="muon", matrix_rate=5.0, momentum=0.9)
RATE = 1e-3


@pytest.fixture(scope="module")
def batches():
    text = (np.arange(2000) ** 2 // 7 % 67).astype(np.int64)  # some pattern to learn
    starts = np.random.default_rng(0).integers(len(text) - 13, size=(50, 8))
    windows = [np.stack([text[i : i + 13] for i in each]) for each in starts]
    return [(each[:, :-1], each[:, 1:]) for each in windows]


@pytest.fixture(scope="module")
def by_the_formulas(batches):
    """The losses of 50 steps in float64, weight by weight."""
    _, weights = tree.pack(init(CONFIG), np.float64)
    model, losses = LanguageModel(Transformer(CONFIG)), []
    states = {
        name: muon.init(w) if MUON.is_muons(name, w) else adamw.init(w)
        for name, w in tree.named_leaves(weights)
    }
    for batch in batches:
        loss, gradients = model.loss_and_gradients(1.0, weights, *batch)
        flat, clipped = tree.pack(gradients, np.float64)
        flat[:], _ = clip.by_global_norm(flat, 1.0)
        for (name, w), g in zip(tree.named_leaves(weights), tree.leaves(clipped), strict=True):
            decay = 0.1 if w.ndim == 2 else 0.0
            if w.ndim == 2 and name.startswith("blocks"):
                settings = {"learning_rate": 5 * RATE, "beta": 0.9, "weight_decay": decay}
                w[...], states[name] = muon.update(w, g, states[name], **settings)
            else:
                settings = {"learning_rate": RATE, "beta1": 0.9, "beta2": 0.99, "weight_decay": decay}
                w[...], states[name] = adamw.update(w, g, states[name], **settings)
        losses.append(float(loss))
    return losses


def losses_of(name, batches, precision="float32"):
    training = engines.training(CONFIG, State(init(CONFIG)), MUON, name=name, precision=precision)
    return [training.step(*batch, RATE).loss for batch in batches]


@pytest.mark.parametrize("name", ["reference", "cpu"])
def test_50_steps_have_the_losses_of_the_formulas(name, batches, by_the_formulas):
    losses = losses_of(name, batches)
    np.testing.assert_allclose(losses, by_the_formulas, rtol=1e-4)
    assert losses[0] == pytest.approx(by_the_formulas[0], rel=1e-6)
    assert losses[-1] < losses[0] - 0.1  # it learns


@pytest.mark.usefixtures("compiled_quickly")
def test_50_steps_of_xla_have_them_too_and_go_on_from_a_state_that_was_read(batches, by_the_formulas):
    pytest.importorskip("jax", reason="the xla engine runs on JAX: install the extra [xla]")
    training = engines.training(CONFIG, State(init(CONFIG)), MUON, name="xla", precision="float32")
    losses = [training.step(*batch, RATE).loss for batch in batches[:25]]
    training.load(training.state())
    losses += [training.step(*batch, RATE).loss for batch in batches[25:]]
    np.testing.assert_allclose(losses, by_the_formulas, rtol=1e-4)


@pytest.mark.parametrize("precision", ["bfloat16", "int16"])
def test_with_rounded_products_the_losses_are_nearly_those(precision, batches, by_the_formulas, monkeypatch):
    emulate_what_is_missing(monkeypatch)
    np.testing.assert_allclose(losses_of("cpu", batches, precision), by_the_formulas, rtol=2**-8)


def test_only_matrices_of_the_blocks_move_by_muon(batches):
    trained = [
        dict(tree.named_leaves(training.weights))
        for training in (
            reference.Training(CONFIG, State(init(CONFIG)), settings)
            for settings in (OptimizerSettings(), MUON)
        )
        if training.step(*batches[0], RATE)
    ]
    differ = {name for name, weight in trained[0].items() if not np.array_equal(weight, trained[1][name])}
    assert differ == {name for name, w in trained[0].items() if name.startswith("blocks.") and w.ndim == 2}
    assert len(differ) == 6 * CONFIG.n_layers


@pytest.mark.parametrize("shape", [(36, 50), (50, 36), (64, 64), (1, 9), (130, 70)])
@pytest.mark.parametrize("precision", PRECISIONS)
def test_the_engines_products_make_a_matrix_orthogonal(precision, shape, rng, monkeypatch):
    """Twice, in memory that the first time has used."""
    emulate_what_is_missing(monkeypatch)
    workspace = Workspace(Arena(0), aligned(0), kernels_for(precision))
    for _ in range(2):
        u, _, vt = np.linalg.svd(rng.normal(size=shape), full_matrices=False)
        x = (u * np.geomspace(1, 0.05, min(shape)) @ vt).astype(np.float32)
        workspace.arena.reset()
        found = cpu_muon.orthogonalized(x, float(np.linalg.norm(x)), workspace)
        found = found if found.shape == shape else found.T
        assert np.linalg.norm(found - u @ vt, 2) < 0.25  # BEST itself: 0.23
        if precision == "float32":
            np.testing.assert_allclose(found, muon.orthogonalized(x.astype(np.float64)), rtol=0, atol=1e-4)


@pytest.mark.parametrize("shape", [(40, 33), (7, 70), (600, 5), (33, 800)])
@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_product_with_itself_is_computed_by_half_and_is_whole(precision, shape, rng, monkeypatch):
    emulate_what_is_missing(monkeypatch)
    workspace = Workspace(Arena(0), aligned(0), kernels_for(precision))
    x = rng.normal(size=shape).astype(np.float32)
    products, a = workspace.kernels.products, workspace.operand(x)
    scratch = workspace.need(products.scratch_size(shape[1]))
    square, as_of_two = np.full((2, shape[1], shape[1]), np.nan, np.float32)
    products.add_gradient(square, a, a, False, scratch)
    products.add_gradient(as_of_two, a, a.copy(), False, scratch)
    np.testing.assert_array_equal(square, square.T)
    np.testing.assert_array_equal(np.triu(square), np.triu(as_of_two))
    np.testing.assert_allclose(square, x.T @ x, rtol=0, atol=0.02 * np.abs(square).max())


@pytest.mark.parametrize("precision", PRECISIONS)
def test_the_number_of_workers_changes_nothing(precision, batches, monkeypatch):
    emulate_what_is_missing(monkeypatch)
    one = [each[:1] for each in batches[0]]  # one sequence: one worker has the gradient
    trained = []
    for n_workers in (1, 2, 3):
        training = cpu.Training(CONFIG, State(init(CONFIG)), MUON, precision=precision, n_workers=n_workers)
        for _ in range(3):
            training.step(*one, RATE)
        trained.append(training.flat)
    np.testing.assert_array_equal(trained[0], trained[1])
    np.testing.assert_array_equal(trained[0], trained[2])


@pytest.mark.parametrize("name", ["reference", "cpu"])
def test_a_state_that_is_loaded_goes_on_as_the_training_it_was_taken_from(name, batches):
    first, second = (engines.training(CONFIG, State(init(CONFIG, seed)), MUON, name=name) for seed in (1, 2))
    first.step(*batches[0], RATE)
    weights, moments, _ = first.state()
    second.load(State(tree.map(np.copy, weights), moments))
    assert [first.step(*batch, RATE) for batch in batches[:3]] == [
        second.step(*batch, RATE) for batch in batches[:3]
    ]
    for ours, theirs in zip(tree.leaves(first.state()), tree.leaves(second.state()), strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_all_that_it_calls_is_compiled_before_the_first_step(precision, batches, monkeypatch):
    emulate_what_is_missing(monkeypatch)
    called = set()

    def recorded(kernel):
        def call(*arguments):
            called.add((kernel.py_func, tuple(map(numba.typeof, arguments))))
            return kernel(*arguments)

        return call

    for module, name, kernel in list(profile.kernels()):
        monkeypatch.setattr(module, name, recorded(kernel))
    cpu.compile_kernels(CONFIG, precision, lambda name: None, MUON)
    compiled = called.copy()
    called.clear()
    cpu.Training(CONFIG, State(init(CONFIG)), MUON, precision=precision).step(*batches[0], RATE)
    assert any(function.__name__ == "look_ahead" for function, _ in called)
    assert called <= compiled


def test_work_is_dealt_out_evenly_and_all_of_it():
    matrices = {
        str(n): cpu_muon.Matrix(*3 * [np.zeros(shape)])
        for n, shape in enumerate(4 * [(24, 24)] + 2 * [(24, 96)] + 4 * [(24, 24)] + 2 * [(96, 24)])
    }
    hands = cpu_muon.dealt(matrices, 2)
    assert sorted(hands[0] + hands[1], key=int) == list(matrices)
    costs = [sum(matrices[name].cost for name in hand) for hand in hands]
    assert costs[0] == costs[1]
