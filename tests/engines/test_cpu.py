"""The CPU engine: the same losses, gradients and steps as the formulas, from memory allocated once."""

import importlib.util
import itertools
import subprocess
import sys
import tracemalloc

import numba
import numpy as np
import pytest

from handgrad import engines, tree
from handgrad.api import loss_and_gradients
from handgrad.benchmark import profile
from handgrad.counted import Counted
from handgrad.data import batches
from handgrad.engines import cpu, cpu_memory, cpu_weights, cpu_writing, micro_batches, reference
from handgrad.engines.engine import OPTIMIZERS, OptimizerSettings, State
from handgrad.errors import UserError
from handgrad.kernels import machine, products
from handgrad.kernels import precision as precisions
from handgrad.kernels.precision import kernels_for
from handgrad.model.config import CHOICES, PRESETS, ModelConfig
from handgrad.model.count import matrix_shapes
from handgrad.model.init import init
from handgrad.model.transformer import Transformer
from handgrad.ops.rope import RopeScaling
from handgrad.optim import adamw
from tests.rounding import round_what_is_multiplied
from tests.rounding import rounded as rounded_numbers

SMALL = {"vocab_size": 67, "context_length": 21, "n_layers": 2, "d_model": 36, "d_ff": 50}
VARIANTS = {
    **{name: {} for name in PRESETS},
    "paper, other activation": {"preset": "paper", "activation": "sigmoid", "tied": False},
    "prelu, gated": {"preset": "nano", "activation": "prelu", "gated": True, "bias": True},
    "grouped, normalized": {"preset": "llama", "qk_norm": True, "dropout": 0.1, "bias": True},
    "one key-value head": {"preset": "nano", "n_kv_heads": 1, "activation": "relu_squared"},
    "untied, post-norm": {"preset": "baby", "tied": False, "norm_placement": "post", "norm": "rms_norm"},
    "wide heads, their bias, scaled rope": {
        "preset": "llama", "d_head": 10, "qk_norm": True, "qkv_bias": True, "unturned_every": 2,
        "rope_scaling": RopeScaling("llama3", 8.0, original_context_length=60),
    },
    "narrow heads": {"preset": "nano", "d_head": 7, "qkv_bias": True},
}  # fmt: skip

INSTALLED = [name for name in engines.ENGINES if name != "xla" or importlib.util.find_spec("jax")]


def small(variant):
    choices = VARIANTS[variant]
    preset = PRESETS[choices.get("preset", variant)]
    heads = {"n_heads": 6, "n_kv_heads": 2} if preset.n_kv_heads else {"n_heads": 2}
    changes = {key: value for key, value in choices.items() if key != "preset"}
    return preset.replace(**{**SMALL, **heads, **changes})


def lively(config, rng):
    """Weights whose every array matters: biases of zero and slopes of one would hide an error."""
    return tree.map(lambda w: (w + 0.1 * rng.normal(size=w.shape)).astype(np.float32), init(config, rng))


def batch_of(config, rng, batch_size=5, n_positions=None):
    shape = (2, batch_size, n_positions or config.context_length)
    token_ids, targets = rng.integers(config.vocab_size, size=shape)
    targets[0, : shape[2] // 3] = -1
    return token_ids, targets


def emulate_what_is_missing(monkeypatch):
    """Every precision runs on every machine."""
    for name in ("AMX", "INT16"):
        if getattr(machine, name) == "none":
            monkeypatch.setattr(machine, name, "emulate")


def assert_gradients_close(actual, expected, share):
    """Every array within `share` of its own largest element; or of a hundredth of the largest of all."""
    largest = max(float(np.max(np.abs(g))) for g in expected.values())
    for name, gradient in tree.named_leaves(actual):
        scale = max(float(np.max(np.abs(expected[name]))), largest / 100)
        np.testing.assert_allclose(gradient, expected[name], rtol=0, atol=share * scale, err_msg=name)


@pytest.mark.parametrize("variant", VARIANTS)
def test_loss_and_gradients_are_those_of_the_formulas(variant, rng):
    config = small(variant)
    weights, batch = lively(config, rng), batch_of(config, rng)
    training = cpu.Training(config, State(weights), OptimizerSettings(), precision="float32", n_workers=1)
    loss, found = training.loss_and_gradients(*batch, np.random.default_rng(8))
    seed = micro_batches.seed(np.random.default_rng(8))
    exact = tree.map(lambda w: w.astype(np.float64), weights)
    expected, gradients = loss_and_gradients(config, exact, *batch, rng=Counted(seed))
    assert loss == pytest.approx(float(expected), rel=1e-6)
    assert_gradients_close(found, gradients, 2e-5)  # some ten layers of float32 sums
    assert training.loss(*batch) == pytest.approx(
        float(loss_and_gradients(config, exact, *batch)[0]), rel=1e-6
    )


@pytest.mark.parametrize("shape", [(1, 1), (1, 21), (5, 1), (2, 7)])
def test_any_batch_and_any_length(shape, rng):
    config = small("gpt2")
    weights, batch = lively(config, rng), rng.integers(67, size=(2, *shape))
    training = cpu.Training(config, State(weights), OptimizerSettings(), precision="float32")
    loss, found = training.loss_and_gradients(*batch)
    exact = tree.map(lambda w: w.astype(np.float64), weights)
    expected, gradients = loss_and_gradients(config, exact, *batch)
    assert loss == pytest.approx(float(expected), rel=1e-6)
    assert_gradients_close(found, gradients, 2e-5)


@pytest.mark.parametrize("variant", ["nano", "paper", "wide heads, their bias, scaled rope", "gpt2"])
def test_bfloat16_is_the_formulas_with_rounded_operands(variant, rng, monkeypatch):
    emulate_what_is_missing(monkeypatch)
    config = small(variant).replace(dropout=0.0)
    weights, batch = lively(config, rng), batch_of(config, rng)
    exact = tree.map(lambda w: w.astype(np.float64), weights)
    unrounded, _ = loss_and_gradients(config, exact, *batch)
    training = cpu.Training(config, State(weights), OptimizerSettings(), precision="bfloat16", n_workers=1)
    loss, found = training.loss_and_gradients(*batch)
    round_what_is_multiplied(monkeypatch, "bfloat16")
    expected, gradients = loss_and_gradients(config, exact, *batch)
    # a number that float32 puts on the other side of a tie is rounded the other way, by 2^-8 of it; there are
    # few, and what they make of a gradient is a small share of what rounding itself makes
    assert loss == pytest.approx(float(expected), rel=2**-8 / 10)
    assert_gradients_close(found, gradients, 2**-8 * 4)
    assert loss != pytest.approx(float(unrounded), rel=1e-7)  # it did round


@pytest.mark.parametrize("variant", VARIANTS)
def test_scaled_integers_are_the_formulas_with_rounded_operands(variant, rng, monkeypatch):
    """As near as the formulas are to themselves when moved by as much as float32's roundings add up to.

    A number that they put on the other side of a tie is rounded the other way, by a whole unit, and so are
    others after it. How far that moves a gradient is seen by moving the formulas' weights by 2^-18 of
    themselves, three times. The engine is one draw more: it may go three times as far as the farthest.
    """
    emulate_what_is_missing(monkeypatch)
    config = small(variant).replace(dropout=0.0)
    if config.activation in ("relu", "prelu"):  # a number that lands beyond the kink has another slope
        config = config.replace(activation="gelu")
    weights, batch = lively(config, rng), batch_of(config, rng)
    exact = tree.map(lambda w: w.astype(np.float64), weights)
    unrounded, _ = loss_and_gradients(config, exact, *batch)
    training = cpu.Training(config, State(weights), OptimizerSettings(), precision="int16", n_workers=1)
    loss, found = training.loss_and_gradients(*batch)
    round_what_is_multiplied(monkeypatch, "int16")
    expected, gradients = loss_and_gradients(config, exact, *batch)
    moved = [
        loss_and_gradients(
            config, tree.map(lambda w: w * (1 + 2**-18 * rng.normal(size=w.shape)), exact), *batch
        )
        for _ in range(3)
    ]
    farthest = max(abs(other - expected) for other, _ in moved)
    assert abs(loss - expected) <= 1e-6 * expected + 3 * farthest
    largest = max(float(np.max(np.abs(g))) for g in gradients.values())
    for name, gradient in tree.named_leaves(found):
        farthest = max(np.max(np.abs(other[name] - gradients[name])) for _, other in moved)
        float32 = 2e-5 * max(float(np.max(np.abs(gradients[name]))), largest / 100)  # as without rounding
        np.testing.assert_allclose(
            gradient, gradients[name], rtol=0, atol=float32 + 3 * farthest, err_msg=name
        )
    assert abs(loss - unrounded) > 1e-7 * unrounded  # it did round


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_in_scaled_integers_too_a_weight_that_is_not_finite_stops_the_run(value, rng, monkeypatch):
    emulate_what_is_missing(monkeypatch)
    config = small("llama")
    token_ids, targets = batch_of(config, rng)
    token_ids[0, 0] = 0  # which has the first row of the embedding
    for name, _ in tree.named_leaves(init(config)):
        weights = init(config)
        dict(tree.named_leaves(weights))[name].flat[0] = value
        training = cpu.Training(config, State(weights), OptimizerSettings(), precision="int16")
        step = training.step(token_ids, targets, 1e-3)
        assert np.isnan(step.loss), name
        assert not step.is_finite
        for before, after in zip(tree.leaves(weights), tree.leaves(training.weights), strict=True):
            np.testing.assert_array_equal(before, after)


def test_gradients_of_a_batch_in_parts_are_those_of_the_whole(rng, monkeypatch):
    config = small("baby").replace(dropout=0.0)
    weights, (token_ids, targets) = lively(config, rng), rng.integers(67, size=(2, 7, 21))
    targets[0, 3:], targets[2] = -1, -1  # a part's share is what counts in it
    exact = tree.map(lambda w: w.astype(np.float64), weights)
    expected, gradients = loss_and_gradients(config, exact, token_ids, targets)
    for tokens, n_workers in itertools.product((21, 60, 500), (1, 2, 3)):
        monkeypatch.setattr(products, "TOKENS", tokens)
        training = cpu.Training(
            config, State(weights), OptimizerSettings(), precision="float32", n_workers=n_workers
        )
        loss, found = training.loss_and_gradients(token_ids, targets)
        assert loss == pytest.approx(float(expected), rel=1e-6)
        assert_gradients_close(found, gradients, 2e-5)
        assert training.loss(token_ids, targets) == pytest.approx(float(expected), rel=1e-6)


@pytest.mark.parametrize("precision", ["float32", "bfloat16", "int16"])
def test_the_same_seed_gives_the_same_losses_bit_for_bit(precision, rng, monkeypatch):
    emulate_what_is_missing(monkeypatch)
    monkeypatch.setattr(kernels_for(precision).products, "TOKENS", 42)
    config = small("baby")
    batches = [batch_of(config, rng, 7) for _ in range(3)]
    runs = []
    for _ in range(2):
        training = cpu.Training(
            config, State(init(config, 1)), OptimizerSettings(), precision=precision, n_workers=2
        )
        losses = [training.step(*batch, 1e-2, np.random.default_rng(i)) for i, batch in enumerate(batches)]
        runs.append((losses, training.flat))
    assert runs[0][0] == runs[1][0]
    np.testing.assert_array_equal(runs[0][1], runs[1][1])


def test_a_sequence_drops_the_same_however_a_batch_is_cut_and_in_every_engine(rng, monkeypatch):
    config = small("baby").replace(dropout=0.3)
    state, batch = State(lively(config, rng)), batch_of(config, rng, 7)
    whole = cpu.Training(config, state, OptimizerSettings(), precision="float32", n_workers=1)
    loss, gradients = whole.loss_and_gradients(*batch, np.random.default_rng(8))
    expected = {name: g.copy() for name, g in tree.named_leaves(gradients)}
    assert loss != pytest.approx(whole.loss_and_gradients(*batch, np.random.default_rng(9))[0], rel=1e-3)
    monkeypatch.setattr(kernels_for("float32").products, "TOKENS", 42)
    monkeypatch.setattr(reference, "MICRO_BATCH_TOKENS", 63)
    cut = cpu.Training(config, state, OptimizerSettings(), precision="float32", n_workers=2)
    others = [
        engines.training(config, state, OptimizerSettings(), name=name, precision="float32")
        for name in INSTALLED
    ]
    for training in (cut, *others):
        found, gradients = training.loss_and_gradients(*batch, np.random.default_rng(8))
        assert found == pytest.approx(loss, rel=1e-5)
        assert_gradients_close(gradients, expected, 1e-4)  # float32 sums in another order


@pytest.mark.parametrize("name", INSTALLED)
def test_a_step_that_would_silently_drop_nothing_is_an_error(name, rng):
    config = small("baby").replace(dropout=0.3)
    training = engines.training(config, State(init(config)), OptimizerSettings(), name=name)
    batch = batch_of(config, rng, 2)
    with pytest.raises(ValueError, match=r"dropout 0\.3 needs the generator `rng`"):
        training.step(*batch, 1e-3)
    with pytest.raises(ValueError, match="rng"):
        training.begin(*batch, 1e-3)


def test_steps_are_those_of_the_reference_engine(rng):
    config = small("gpt2").replace(dropout=0.0)
    settings = OptimizerSettings(weight_decay=0.5, max_gradient_norm=0.3)
    weights = lively(config, rng)
    fast = cpu.Training(config, State(weights), settings, precision="float32", n_workers=2)
    exact = reference.Training(config, State(weights), settings)
    for _ in range(4):
        batch = rng.integers(67, size=(2, 6, 21))
        ours, theirs = fast.step(*batch, 1e-3), exact.step(*batch, 1e-3)
        assert ours.loss == pytest.approx(theirs.loss, rel=1e-5)
        assert ours.gradient_norm == pytest.approx(theirs.gradient_norm, rel=1e-4)
        assert ours.gradient_norm > settings.max_gradient_norm
    # Adam divides each gradient by its size: where it is all rounding, a step goes either way
    moved = np.abs(exact.flat - np.concatenate([w.ravel() for w in tree.leaves(weights)]))
    differs = np.abs(fast.flat - exact.flat) > 1e-5
    assert differs.mean() < 0.01
    assert np.abs(fast.flat - exact.flat).max() < 2 * moved.max()
    np.testing.assert_allclose(fast.moments.square, exact.moments.square, rtol=1e-3, atol=1e-9)
    assert fast.moments.step == 4


def test_a_step_that_is_not_finite_changes_nothing(rng):
    config = small("nano")
    weights = init(config)
    weights.blocks[0].norm1.gamma[0] = np.inf
    training = cpu.Training(config, State(weights), OptimizerSettings(), precision="float32")
    before = training.flat.copy()
    assert not training.step(*batch_of(config, rng), 1e-2).is_finite
    np.testing.assert_array_equal(training.flat, before)
    assert training.state().moments.step == 0


@pytest.mark.parametrize("name", INSTALLED)
def test_a_state_that_is_loaded_goes_on_as_the_training_it_was_taken_from(name, rng):
    config = small("nano")
    first, second = (
        engines.training(config, State(init(config, seed)), OptimizerSettings(), name=name) for seed in (1, 2)
    )
    batches = [batch_of(config, rng) for _ in range(3)]
    first.step(*batches[0], 1e-2)
    weights, moments, _ = first.state()
    second.load(State(tree.map(np.copy, weights), moments))
    assert [first.step(*batch, 1e-2) for batch in batches] == [second.step(*batch, 1e-2) for batch in batches]
    for ours, theirs in zip(tree.leaves(first.state()), tree.leaves(second.state()), strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("precision", ["float32", "bfloat16", "int16"])
def test_all_that_a_training_calls_is_compiled_before_its_first_step(variant, precision, rng, monkeypatch):
    emulate_what_is_missing(monkeypatch)
    config, called = small(variant), set()

    def recorded(kernel):
        def call(*arguments):
            called.add((kernel.py_func, tuple(map(numba.typeof, arguments))))
            return kernel(*arguments)

        return call

    for module, name, kernel in list(profile.kernels()):
        monkeypatch.setattr(module, name, recorded(kernel))
    cpu.compile_kernels(config, precision, lambda name: None)
    compiled = called.copy()
    called.clear()
    training = cpu.Training(config, State(init(config)), OptimizerSettings(), precision=precision)
    text = np.arange(200, dtype=np.uint16) % config.vocab_size
    batch = batches.draw(text, 5, config.context_length, rng)
    training.step(*batch, 1e-3, rng)
    training.loss_and_gradients(*batch)
    training.loss(*batch)
    training.logits(batch[0])
    assert len(called) > 10
    assert called <= compiled


@pytest.mark.parametrize("name", INSTALLED)
@pytest.mark.parametrize("variant", VARIANTS)
def test_every_engine_has_the_logits_of_the_formulas(name, variant, rng):
    config = small(variant)
    weights, (token_ids, _) = lively(config, rng), batch_of(config, rng, batch_size=20)
    training = engines.training(config, State(weights), OptimizerSettings(), name=name, precision="float32")
    exact = tree.map(lambda w: w.astype(np.float64), weights)
    expected, _ = Transformer(config).forward(exact, token_ids)
    rounding = 1e-5 * np.abs(expected).max()  # some ten layers of float32 sums
    np.testing.assert_allclose(training.logits(token_ids), expected, rtol=0, atol=rounding)


def broken(array, number):
    """A copy whose last number is another."""
    array = array.copy()
    array[-1, -1] = number
    return array


WRONG = {
    "an id above the vocabulary": (lambda ids, targets: (broken(ids, 67), targets), "0 to 66"),
    "an id far above it": (lambda ids, targets: (broken(ids, 100_000), targets), "0 to 66"),
    "an id below zero": (lambda ids, targets: (broken(ids, -5_000), targets), "0 to 66"),
    "a target above the vocabulary": (lambda ids, targets: (ids, broken(targets, 67)), "0 to 66"),
    "a target below -1": (lambda ids, targets: (ids, broken(targets, -2)), "0 to 66"),
    "targets of another shape": (lambda ids, targets: (ids, targets[:, :-1]), "are both"),
    "a sequence above the context": (
        lambda ids, targets: (np.tile(ids, 2), np.tile(targets, 2)),
        "attends to 21",
    ),
    "an empty batch": (lambda ids, targets: (ids[:0], targets[:0]), r"at least one .* \(0, 21\)\.$"),
    "no positions": (lambda ids, targets: (ids[:, :0], targets[:, :0]), r"at least one .* \(5, 0\)\.$"),
    "one axis": (lambda ids, targets: (ids[0], targets[0]), "add an axis"),
    "ids that are no integers": (lambda ids, targets: (ids + 0.5, targets), "are integers"),
}


@pytest.mark.parametrize("name", INSTALLED)
@pytest.mark.parametrize("what", WRONG)
def test_every_entry_of_every_engine_refuses_what_the_model_cannot_read(name, what, rng):
    config = small("nano")
    training = engines.training(config, State(init(config)), OptimizerSettings(), name=name)
    change, words = WRONG[what]
    token_ids, targets = change(*batch_of(config, rng))
    before = tree.map(np.copy, training.state())
    with pytest.raises(UserError, match=words):
        training.loss(token_ids, targets)
    with pytest.raises(UserError, match=words):
        training.loss_and_gradients(token_ids, targets)
    with pytest.raises(UserError, match=words):
        training.step(token_ids, targets, 1e-3)
    for ours, theirs in zip(tree.leaves(training.state()), tree.leaves(before), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    if "target" not in what:
        with pytest.raises(UserError, match=words):
            training.logits(token_ids)


@pytest.mark.parametrize("name", INSTALLED)
def test_a_precision_that_does_not_exist_is_refused(name):
    config = small("nano")
    with pytest.raises(UserError, match="no precision 'float8'"):
        engines.training(config, State(init(config)), OptimizerSettings(), name=name, precision="float8")


@pytest.mark.parametrize("name", INSTALLED)
@pytest.mark.parametrize(
    ("token_ids", "words"), [([0, 67], "0 to 66"), ([-1], "0 to 66"), ([0] * 22, "attends to 21")]
)
def test_what_a_decoding_cannot_read_is_refused(name, token_ids, words):
    config = small("nano")
    decoding = engines.get(name).decoding(config, init(config))
    with pytest.raises(UserError, match=words):
        decoding.read([np.array(token_ids)])
    assert decoding.lengths[0] == 0


FEW = ["paper", "nano", "untied, post-norm", "wide heads, their bias, scaled rope"]
READ = [(name, variant) for name in INSTALLED for variant in (VARIANTS if name == "cpu" else FEW)]


@pytest.mark.parametrize(("name", "variant"), READ)
def test_texts_read_in_pieces_side_by_side_have_the_logits_of_whole_ones(name, variant, rng):
    config = small(variant)
    weights, token_ids = lively(config, rng), rng.integers(67, size=(3, 21))
    expected, _ = Transformer(config).forward(weights, token_ids)
    decoding = engines.get(name).decoding(config, weights, n_texts=3)
    for piece in (slice(0, 9), slice(9, 10), slice(10, 21)):
        logits = decoding.read(token_ids[:, piece])
        np.testing.assert_allclose(logits, expected[:, piece][:, -1], rtol=1e-4, atol=1e-4)
    decoding.cut(0, 0)
    assert decoding.lengths.tolist() == [0, 21, 21]
    np.testing.assert_allclose(decoding.read(token_ids[:1, :2]), expected[:1, 1], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("name", "variant"), [(name, FEW[i]) for i, name in enumerate(INSTALLED)])
def test_texts_of_different_lengths_are_read_together_and_cut_without_a_trace(name, variant, rng):
    config = small(variant)
    weights, token_ids = lively(config, rng), rng.integers(67, size=(3, 21))
    expected, _ = Transformer(config).forward(weights, token_ids)
    decoding = engines.get(name).decoding(config, weights, n_texts=4, capacity=20)

    def assert_close(found, *rows):
        np.testing.assert_allclose(found, np.concatenate(rows), rtol=1e-4, atol=1e-4)

    found = decoding.read([token_ids[0, :5], token_ids[1, :6], token_ids[2, :7]], [3, 0, 1], every=True)
    assert_close(found, expected[0, :5], expected[1, :6], expected[2, :7])
    decoding.cut(1, 4)
    found = decoding.read([token_ids[2, 4:8], token_ids[0, 5:8]], [1, 3])
    assert_close(found, expected[2, 7:8], expected[0, 7:8])
    assert decoding.lengths.tolist() == [6, 8, 0, 8]


@pytest.mark.parametrize(
    ("read", "words"),
    [
        (lambda texts: texts.read([np.array([1])] * 3), "numbered 0 to 1, each at most once"),
        (lambda texts: texts.read([np.array([1])] * 2, [1, 1]), "each at most once"),
        (lambda texts: texts.read([np.array([1])], [0, 1]), "got 1 pieces for 2 texts"),
        (lambda texts: texts.read([]), "got 0 pieces"),
        (lambda texts: texts.read(np.array([1, 2])), r"For one text: read\(\[token_ids\]\)"),
        (lambda texts: texts.read([np.array([], int)]), "at least one"),
        (lambda texts: texts.read([np.array([0.5])]), "integers; got float64"),
        (lambda texts: texts.read([np.arange(10)]), "room for 9 tokens a text; got 10"),
        (lambda texts: texts.cut(2, 0), "numbered 0 to 1"),
        (lambda texts: texts.cut(0, 1), "Text 0 has 0 tokens; it cannot be cut to 1"),
    ],
)
def test_texts_that_are_not_there_are_neither_read_nor_cut(read, words):
    config = small("nano")
    for name in INSTALLED:
        texts = engines.get(name).decoding(config, init(config), n_texts=2, capacity=9)
        with pytest.raises(UserError, match=words):
            read(texts)
        assert texts.lengths.tolist() == [0, 0]


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"n_texts": 0}, "n_texts must be a whole number from 1"),
        ({"capacity": 0}, "capacity must be a whole number from 1"),
        ({"capacity": 22}, "at most the model's context of 21 tokens; got 22"),
        ({"precision": "int4"}, "precision 'int4'"),
    ],
)
def test_room_that_cannot_be_made_is_refused(settings, words):
    config = small("nano")
    for name in INSTALLED:
        with pytest.raises(UserError, match=words):
            engines.get(name).decoding(config, init(config), **settings)


@pytest.mark.parametrize("activation", CHOICES["activation"])
def test_every_activation_is_known_to_what_writes(activation, rng):
    config = small("nano").replace(activation=activation, n_layers=1)
    weights, token_ids = lively(config, rng), rng.integers(67, size=5)
    found, expected = (engines.get(name).decoding(config, weights) for name in ("cpu", "reference"))
    np.testing.assert_allclose(found.read([token_ids]), expected.read([token_ids]), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("precision", "few", "cache"),
    [
        ("float32", 0, "auto"),
        ("float32", 0, "int8"),
        ("float32", cpu_weights.SMALL, "int8"),
        ("bfloat16", 0, "auto"),
        ("bfloat16", cpu_weights.SMALL, "auto"),
        ("int8", 0, "auto"),
    ],
)
def test_a_text_has_the_same_bits_alone_and_among_others_at_once_and_in_pieces(
    precision, few, cache, rng, monkeypatch
):
    monkeypatch.setattr(cpu_weights, "SMALL", few)  # with 0, on tiles where there are any
    monkeypatch.setattr(cpu_writing, "BYTES_A_THREAD", 1)  # as many threads as are asked for
    config = small("llama").replace(context_length=90, d_model=96, d_ff=96)
    weights, token_ids = lively(config, rng), rng.integers(67, size=(3, 80))  # more than is read in one call
    together = cpu.Decoding(config, weights, precision, n_texts=3, n_threads=2, cache=cache)
    alone, slowly = (cpu.Decoding(config, weights, precision, n_threads=n, cache=cache) for n in (1, 3))
    logits = together.read(token_ids)
    np.testing.assert_array_equal(alone.read(token_ids[2:])[0], logits[2])
    pieces = [slowly.read(token_ids[2:, first : first + 9], every=True) for first in range(0, 80, 9)]
    np.testing.assert_array_equal(pieces[-1][-1], logits[2])
    together.cut(0, 0)
    together.cut(1, 70)
    mixed = together.read([token_ids[2], token_ids[1, 70:71]], [0, 1], every=True)  # of other lengths
    np.testing.assert_array_equal(mixed[:80], np.concatenate(pieces))


def test_a_token_is_the_same_in_every_form_and_refused_where_it_is_none():
    config = small("nano")
    texts = cpu.Decoding(config, init(config), n_texts=2, capacity=3)
    texts.read([np.array([5]), np.array([6])])
    expected = texts.read([np.array([7])], [1])
    for piece, text in ([7], 1), (np.array([7], np.uint8), np.int64(1)), (np.array([7]), 1):
        texts.cut(1, 1)
        np.testing.assert_array_equal(texts.read([piece], [text]), expected)
        assert texts.lengths.tolist() == [1, 2]
    for piece, text in (np.array([True]), 1), (np.array([67]), 1), (np.array([[7]]), 1), (np.array([7]), 2):
        with pytest.raises(UserError):
            texts.read([piece], [text])
    texts.read([np.array([7])], [1])
    with pytest.raises(UserError, match="room for 3 tokens"):
        texts.read([np.array([7])], [1])
    assert texts.lengths.tolist() == [1, 3]


@pytest.mark.parametrize("few", [cpu_weights.SMALL, 0])
def test_keys_and_values_in_bfloat16_move_the_logits_by_their_rounding(few, rng, monkeypatch):
    monkeypatch.setattr(cpu_weights, "SMALL", few)  # with 0, on tiles where there are any
    config = small("llama").replace(context_length=70)
    weights, token_ids = lively(config, rng), rng.integers(67, size=(1, 70))
    exact = cpu_writing.Decoding(config, weights, "bfloat16", cache="float32").read(token_ids, every=True)
    found = cpu_writing.Decoding(config, weights, "bfloat16").read(token_ids, every=True)
    errors = np.sqrt(np.mean((found - exact) ** 2, 1) / np.mean(exact**2, 1))
    assert 0 < errors.max() < 2.0**-6


def test_weights_in_bfloat16_move_the_logits_by_their_rounding(rng, monkeypatch):
    config = small("nano")
    weights, token_ids = lively(config, rng), rng.integers(67, size=9)
    narrow = cpu_writing.Decoding(config, weights, "bfloat16", cache="float32")
    rounded = tree.map(lambda w: rounded_numbers(w) if w.ndim == 2 else w, weights)
    tables = rounded._replace(embedding=weights.embedding, positions=weights.positions)
    expected, _ = Transformer(config).hidden(tables, token_ids[None])
    logits = expected[0, -1] @ rounded.embedding.T  # looked up as it is, multiplied rounded
    found = narrow.read([token_ids])[0]
    np.testing.assert_allclose(found, logits, rtol=1e-4, atol=1e-4)  # what they meet is not rounded
    monkeypatch.setattr(cpu_weights, "SMALL", 0)
    found = cpu.decoding(config, weights, precision="bfloat16").read([token_ids])[0]  # on tiles it is
    assert 0 < np.sqrt(np.mean((found - logits) ** 2)) < 2.0**-8 * np.sqrt(np.mean(logits**2)) * 2


@pytest.mark.parametrize("name", INSTALLED)
def test_weights_and_moments_of_another_model_are_refused(name):
    config = small("nano")
    with pytest.raises(UserError, match=r"they lack blocks\.1\.attention"):
        engines.get(name).decoding(config, init(config.replace(n_layers=1)))
    with pytest.raises(UserError, match=r"they lack blocks\.1\.attention"):
        engines.training(config, State(init(config.replace(n_layers=1))), OptimizerSettings(), name=name)
    with pytest.raises(UserError, match=r"embedding, \(9, 36\) instead of \(67, 36\)"):
        engines.training(config, State(init(config.replace(vocab_size=9))), OptimizerSettings(), name=name)
    with pytest.raises(UserError, match="Moments belong to"):
        engines.training(config, State(init(config), adamw.init(np.zeros(3))), OptimizerSettings(), name=name)


def test_more_workers_than_parts_leave_some_idle(rng):
    config = small("nano")
    training = cpu.Training(
        config, State(init(config)), OptimizerSettings(), precision="float32", n_workers=4
    )
    losses = [training.step(*batch_of(config, rng, size), 1e-2).loss for size in (5, 1, 2)]
    assert np.isfinite(losses).all()
    one = cpu.Training(config, State(training.weights), OptimizerSettings(), precision="float32", n_workers=1)
    batch = batch_of(config, rng, 1)
    assert training.loss_and_gradients(*batch)[0] == one.loss_and_gradients(*batch)[0]
    np.testing.assert_array_equal(training.gradient, one.gradient)  # nothing of an idle worker is left in it


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("precision", ["float32", "bfloat16", "int16"])
def test_the_arena_is_sized_exactly(variant, precision, rng, monkeypatch):
    emulate_what_is_missing(monkeypatch)
    config = small(variant)
    training = cpu.Training(
        config, State(init(config)), OptimizerSettings(), precision=precision, n_workers=1, batch_size=4
    )
    (worker,) = training.workers
    workspace = worker.workspace
    arenas = workspace.arena, workspace.passing, workspace.entering
    before = [[block.size for block in arena.blocks] for arena in arenas]
    training.step(*batch_of(config, rng, 4), 1e-3, np.random.default_rng(0))
    kernels = kernels_for(precision)
    size = config, 4 * config.context_length, kernels
    measures = cpu_memory.arena_size, cpu_memory.passing_size, cpu_memory.entering_size
    assert [[arena.most] for arena in arenas] == before
    assert before == [[measure(*size)] for measure in measures]
    training.loss(*batch_of(config, rng, 4))
    assert [[block.size for block in arena.blocks] for arena in arenas] == before
    assert worker.workspace.scratch.size == cpu_memory.scratch_size(config, kernels)


def test_a_batch_larger_than_said_makes_room_once(rng):
    config = small("nano")
    training = cpu.Training(config, State(init(config)), OptimizerSettings(), n_workers=1, batch_size=1)
    (worker,) = training.workers
    batch = batch_of(config, rng, 6)
    first = training.loss(*batch)
    training.loss(*batch)
    sizes = [block.size for block in worker.arena.blocks]
    assert training.loss(*batch) == first
    assert [block.size for block in worker.arena.blocks] == sizes
    assert len(sizes) == 1


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_nothing_is_allocated_in_a_step(optimizer, rng):
    config, settings = small("baby").replace(d_model=384), OptimizerSettings(optimizer=optimizer)
    training = cpu.Training(config, State(init(config)), settings, n_workers=2, batch_size=6)
    batch = [np.ascontiguousarray(part) for part in batch_of(config, rng, 6)]
    for i in range(2):
        training.step(*batch, 1e-3, np.random.default_rng(i))
    tracemalloc.start()
    before, _ = tracemalloc.get_traced_memory()
    training.step(*batch, 1e-3, np.random.default_rng(3))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    stream = 4 * 3 * 21 * 384  # bytes of the residual stream in a worker's three sequences
    assert peak - before < stream  # views and tuples there are, but not one array


def test_memory_does_not_grow_with_the_batch(rng):
    config = small("baby")
    sizes = {}
    for batch_size in (64, 512):
        training = cpu.Training(
            config, State(init(config)), OptimizerSettings(), n_workers=2, batch_size=batch_size
        )
        training.step(*batch_of(config, rng, batch_size), 1e-3, np.random.default_rng(0))
        sizes[batch_size] = [[block.size for block in worker.arena.blocks] for worker in training.workers]
    assert sizes[64] == sizes[512]


MEASURE = """
import pathlib, sys
import numpy as np
import handgrad, matplotlib.pyplot, scipy.linalg  # what a training command or its Numba may load
from handgrad import engines
from handgrad.engines.engine import OptimizerSettings, State
from handgrad.model.config import PRESETS
from handgrad.model.init import shapes

config = PRESETS[sys.argv[1]].replace(**eval(sys.argv[2]))
batch = np.zeros((2, int(sys.argv[3]), config.context_length), np.int64)
state, settings = State(shapes(config)), OptimizerSettings()
training = engines.training(config, state, settings, name=sys.argv[4], batch_size=len(batch[0]))
training.step(*batch, 1e-3, np.random.default_rng(0))
training.step(*batch, 1e-3, np.random.default_rng(0))
# getrusage would tell the parent's peak where that was higher
(peak,) = (line for line in pathlib.Path("/proc/self/status").read_text().splitlines() if "VmHWM" in line)
print(int(peak.split()[1]) * 1024)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="Linux tells the peak of a process")
@pytest.mark.parametrize(
    ("name", "preset", "changes", "batch_size"),
    [
        ("cpu", "baby", {}, 6),
        ("cpu", "gpt2", {"context_length": 128, "n_layers": 3, "vocab_size": 20_001}, 2),
        ("reference", "baby", {}, 6),
    ],
)
def test_memory_is_predicted_within_a_tenth(name, preset, changes, batch_size):
    config = PRESETS[preset].replace(**changes)
    predicted = engines.get(name).memory(config, batch_size)
    arguments = [sys.executable, "-c", MEASURE, preset, repr(changes), str(batch_size), name]
    if name == "cpu":
        subprocess.run(arguments, check=True, capture_output=True, timeout=300)  # has the kernels compiled
    measured = int(subprocess.run(arguments, check=True, capture_output=True, timeout=300).stdout)
    assert predicted.total == pytest.approx(measured, rel=0.1)
    assert predicted.total > 2 * predicted.process  # it is the arrays that are tested


def test_memory_follows_from_numbers_alone_however_large_the_model():
    config = ModelConfig(n_layers=10**9, d_model=10**6, n_heads=1, vocab_size=10**9)
    for name in INSTALLED:
        memory = engines.get(name).memory(config, 12)
        assert memory.total > memory.weights > 12 * 10**9 * 10**12


def test_the_matrices_that_are_counted_are_those_that_are_packed():
    for variant in VARIANTS:
        config = small(variant)
        block, ends = matrix_shapes(config)
        packed = [matrix.shape for matrix in cpu_memory.packed(init(config), config).values()]
        ends = [shape[::-1] for shape in ends] if config.tied else ends
        assert sorted(packed) == sorted(config.n_layers * block + ends), variant


def test_engines_are_found_by_name_and_said_to_be_missing():
    config = ModelConfig()
    for name, kind in (("reference", reference.Training), ("cpu", cpu.Training)):
        assert isinstance(engines.training(config, State(init(config)), OptimizerSettings(), name=name), kind)
    with pytest.raises(UserError, match=r"no engine 'gpu'; choose one of cpu, reference, xla"):
        engines.get("gpu")
    with pytest.raises(UserError, match=r"no precision 'float16'.*Did you mean"):
        engines.get("cpu").require("float16")
    with pytest.raises(UserError, match="reference engine computes in float32"):
        engines.get("reference").require("bfloat16")
    with pytest.raises(UserError, match="Take --engine cpu for int16"):
        engines.get("reference").require("int16")


def test_int16_without_avx2_is_refused_in_a_sentence(monkeypatch):
    monkeypatch.setattr(machine, "INT16", machine._int16({}, 4))
    with pytest.raises(UserError, match=r"needs an x86 processor with AVX2.*Take float32, or auto"):
        cpu.require("int16")
    monkeypatch.setattr(machine, "INT16", machine._int16({"avx2": True}, 8))
    assert "int16, as asked" in cpu.describe("int16")


def test_bfloat16_without_amx_is_refused_in_a_sentence(monkeypatch):
    monkeypatch.setattr(machine, "AMX", "none")
    with pytest.raises(UserError, match=r"needs AMX.*Take float32, or auto"):
        cpu.require("bfloat16")


def test_what_this_machine_has_is_what_is_not_refused(monkeypatch):
    emulate_what_is_missing(monkeypatch)
    assert precisions.available() == list(precisions.OF)
    monkeypatch.setattr(machine, "AMX", "none")
    assert "bfloat16" not in precisions.available()
    assert precisions.available()[0] == "float32"


@pytest.mark.parametrize(
    ("amx", "int16", "lanes", "chosen"),
    [
        ("hardware", "vnni", 16, "bfloat16, the fastest here that learns the same (AMX)"),
        ("none", "vnni", 16, "int16, the fastest here that learns the same (VNNI, no AMX)"),
        ("none", "vnni", 8, "int16, the fastest here that learns the same (VNNI, no AMX)"),
        ("emulate", "madd", 8, "int16, the fastest here that learns the same (AVX2, no VNNI)"),
        ("none", "madd", 16, "int16, the fastest here that learns the same (AVX2, no VNNI)"),
        ("none", "emulate", 8, "float32, the fastest here that learns the same (no AVX2)"),
        ("none", "none", 4, "float32, the fastest here that learns the same (no AVX2)"),
    ],
)
def test_auto_takes_the_fastest_that_learns_the_same_and_says_why(amx, int16, lanes, chosen, monkeypatch):
    for name, value in (("AMX", amx), ("INT16", int16), ("LANES", lanes)):
        monkeypatch.setattr(machine, name, value)
    assert cpu.describe("auto").startswith(chosen)
    assert precisions.kernels_for("auto") is precisions.OF[chosen.partition(",")[0]]
    assert cpu.describe("float32").startswith("float32, as asked")
