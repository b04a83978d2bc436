"""The xla engine: the formulas' losses, gradients and steps, from one compiled function."""

import functools
import itertools
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import handgrad
from handgrad import engines, ops, tree
from handgrad.api import loss_and_gradients
from handgrad.counted import Counted
from handgrad.engines import micro_batches, reference
from handgrad.engines.engine import UNLIMITED, Limits, OptimizerSettings, State, Step
from handgrad.errors import UserError
from handgrad.model.config import PRESETS
from handgrad.model.init import init
from handgrad.model.ops import Ops
from handgrad.model.transformer import LanguageModel, Transformer
from handgrad.ops.rope import RopeScaling
from handgrad.optim import adamw, clip
from handgrad.training import metrics
from handgrad.training.events import Compiling
from handgrad.training.metrics import StepRow
from handgrad.training.run import about

jax = pytest.importorskip("jax", reason="the xla engine runs on JAX: install the extra [xla]")
jax.config.update("jax_enable_x64", True)

from jax import numpy as jnp  # noqa: E402

from handgrad.engines.xla import attention_kernels, device, kernels, plan, random, steps, twins, writing  # noqa: E402
from handgrad.engines.xla import weights as stacking  # noqa: E402
from handgrad.engines.xla.program import Batch, Program  # noqa: E402
from handgrad.engines.xla.twins import Fused, FusedAttention, next_token_loss  # noqa: E402
from handgrad.engines.xla.twins.attention import FormulaAttention  # noqa: E402

pytestmark = pytest.mark.usefixtures("compiled_quickly")
SMALL = {"vocab_size": 67, "context_length": 12, "n_layers": 2, "d_model": 24, "d_ff": 20}
SCALING = RopeScaling("llama3", 8.0, original_context_length=60)
NO_POSITIONS = {"position": "rope", "unturned_every": 2}
FUSED = Fused("xla", interpret=True)
"""All that a GPU would compute by kernels, by the same code on any device."""


@functools.cache
def training_of(preset):
    """One training for several tests, compiled once: each begins by loading a state."""
    config = small(preset)
    return steps.Training(config, State(init(config)), OptimizerSettings(), precision="float32")


def small(preset, **changes):
    heads = {"n_heads": 6, "n_kv_heads": 2} if PRESETS[preset].n_kv_heads else {"n_heads": 2}
    return PRESETS[preset].replace(**{**SMALL, **heads, **changes})


def lively(config, rng, dtype=np.float64):
    """Weights whose every array matters: biases of zero and slopes of one would hide an error."""
    return tree.map(lambda w: (w + 0.1 * rng.normal(size=w.shape)).astype(dtype), init(config, rng))


def batch_of(config, rng, batch_size=4):
    token_ids, targets = rng.integers(config.vocab_size, size=(2, batch_size, config.context_length))
    targets[0, :5] = -1
    return token_ids, targets


def program(config, layers="scanned", fused=None, dtype=np.float64, settings=None):
    return Program(config, settings or OptimizerSettings(), fused, np.dtype(dtype), layers)


def computed(program, weights, token_ids, targets, rng=None):
    """Loss and gradients by name."""
    keys = random.keys(program.config, rng, 1, token_ids.shape)
    batch = Batch(token_ids[None], targets[None], np.ones(1, program.dtype), keys)
    compute = jax.jit(program.loss_and_gradients)
    loss, gradients = compute(stacking.to_device(weights, stacked=program.stacked), batch)
    return float(loss), dict(tree.named_leaves(stacking.to_host(gradients)))


def assert_gradients_close(actual, expected, share):
    """Every array within `share` of its own largest element; or of a hundredth of the largest of all."""
    largest = max(float(np.max(np.abs(g))) for g in expected.values())
    assert actual.keys() == expected.keys()
    for name, gradient in actual.items():
        scale = max(float(np.max(np.abs(expected[name]))), largest / 100)
        np.testing.assert_allclose(gradient, expected[name], rtol=0, atol=share * scale, err_msg=name)


@pytest.mark.parametrize("preset", PRESETS)
def test_gradients_are_those_that_jax_derives_from_the_same_forward(preset, rng):
    config = small(preset, dropout=0.2)
    weights, (token_ids, targets) = lively(config, rng), batch_of(config, rng)
    scanned = program(config)
    _, ours = computed(scanned, weights, token_ids, targets, np.random.default_rng(8))
    keys = random.keys(config, np.random.default_rng(8), 1, token_ids.shape)[0]

    def loss(weights):
        return scanned.model.forward(weights, token_ids, targets, rng=random.Keyed(jnp.asarray(keys)))[0]

    derive = jax.jit(jax.grad(loss))
    theirs = stacking.to_host(derive(stacking.to_device(weights, stacked=True)))
    assert_gradients_close(ours, dict(tree.named_leaves(theirs)), 1e-10)


@pytest.mark.parametrize(
    ("layers", "preset", "changes"),
    [
        (
            "scanned", "llama",
            {"qk_norm": True, "dropout": 0.1, "qkv_bias": True, "d_head": 6, "rope_scaling": SCALING}
            | NO_POSITIONS,
        ),
        ("scanned", "nano", {"activation": "prelu", "bias": True, "tied": False}),
        ("separate", "paper", {"activation": "prelu", "gated": True}),
        ("rematerialized", "baby", {"norm_placement": "post", "norm": "rms_norm"} | NO_POSITIONS),
    ],
)  # fmt: skip
def test_loss_and_gradients_are_those_of_the_formulas_and_so_is_dropout(layers, preset, changes, rng):
    config = small(preset, **changes)
    weights, batch = lively(config, rng), batch_of(config, rng)
    loss, found = computed(program(config, layers), weights, *batch, np.random.default_rng(8))
    seed = micro_batches.seed(np.random.default_rng(8))
    expected, gradients = loss_and_gradients(config, weights, *batch, rng=Counted(seed))
    assert loss == pytest.approx(expected, rel=1e-12)
    assert_gradients_close(found, gradients, 1e-12)


def test_kernels_have_the_gradients_of_the_formulas(rng):
    config = small("llama", d_model=96, context_length=16, dropout=0.2)  # of a size that every kernel takes
    weights, batch = lively(config, rng, np.float32), batch_of(config, rng)
    loss, found = computed(
        program(config, fused=FUSED, dtype=np.float32), weights, *batch, np.random.default_rng(8)
    )
    seed = micro_batches.seed(np.random.default_rng(8))
    wide = tree.map(lambda w: w.astype(np.float64), weights)
    expected, gradients = loss_and_gradients(config, wide, *batch, rng=Counted(seed))
    assert loss == pytest.approx(expected, rel=1e-6)  # kernels compute in float32
    assert_gradients_close(found, gradients, 2e-5)  # some ten layers of float32 sums


@pytest.mark.parametrize("shape", [(48, 33), (6, 768), (5, 16)])
@pytest.mark.parametrize("op", [ops.layer_norm, ops.rms_norm])
def test_the_norms_kernels_are_their_formulas(op, shape, rng):
    x, dy = rng.normal(3, 2, size=(2, *shape)).astype(np.float32)
    weights = rng.normal(size=(2, shape[1])).astype(np.float32)
    weights = weights if op is ops.layer_norm else weights[:1]
    twin = twins.FusedNorm(centred=op is ops.layer_norm, interpret=True)
    y, saved = twin.forward(jnp.asarray(x), *weights, eps=0.1)
    exact = (array.astype(np.float64) for array in (x, *weights))
    expected, saved_expected = op.forward(*exact, eps=0.1)
    bound = 8 * np.finfo(np.float32).eps  # a few roundings a number; sums over rows have some more
    np.testing.assert_allclose(y, expected, rtol=0, atol=bound * np.abs(expected).max())
    pairs = zip(twin.backward(dy, saved), op.backward(dy.astype(np.float64), saved_expected), strict=True)
    for ours, theirs in pairs:
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=4 * bound * np.abs(theirs).max())


def test_a_norm_without_bias_has_no_gradient_of_it(rng):
    twin = twins.FusedNorm(centred=True, interpret=True)
    _, saved = twin.forward(jnp.asarray(rng.normal(size=(4, 8)), jnp.float32), jnp.ones(8, jnp.float32))
    assert twin.backward(jnp.ones((4, 8), jnp.float32), saved)[2] is None


@pytest.mark.parametrize("vocab_size", [37, kernels.COLUMNS, kernels.COLUMNS + 9])
def test_the_losss_kernel_is_its_formula(vocab_size, rng):
    logits = (5 * rng.normal(size=(6, vocab_size))).astype(np.float32)
    targets = rng.integers(vocab_size, size=6)
    targets[1] = -1
    loss, dlogits = next_token_loss.FusedLoss(interpret=True)(0.7, jnp.asarray(logits), jnp.asarray(targets))
    expected, saved = ops.softmax_cross_entropy.forward(logits.astype(np.float64), targets)
    (gradient,) = ops.softmax_cross_entropy.backward(0.7, saved)
    assert float(loss) == pytest.approx(float(expected), rel=1e-6)
    np.testing.assert_allclose(dlogits, gradient, rtol=0, atol=1e-6 * np.abs(gradient).max())


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_logit_that_is_not_finite_reaches_the_loss(value, rng):
    logits = rng.normal(size=(4, 37)).astype(np.float32)
    logits[2, 30] = value
    loss, _ = next_token_loss.FusedLoss(interpret=True)(1.0, jnp.asarray(logits), jnp.arange(4))
    assert np.isnan(float(loss))


def test_kernels_can_be_compiled_for_a_gpu_where_there_is_none():
    rows, logits = (jnp.zeros((16, width), jnp.bfloat16) for width in (768, 50_304))
    weight, number, ids = jnp.zeros(768, jnp.float32), jnp.zeros(16, jnp.float32), jnp.zeros(16, jnp.int32)
    heads, numbers = jnp.zeros((1, 128, 2, 64), jnp.bfloat16), jnp.zeros((1, 2, 128), jnp.float32)
    mask = attention_kernels.Mask(*(jnp.zeros(n, jnp.uint32) for n in (2, 1, 2)))
    walk = attention_kernels.Walk(n_heads=2, n_positions=128, block=64, scale=0.125, rate=0.1)
    calls = [
        (kernels.norm_forward, {"eps": 1e-5, "centred": True}, (rows, weight, weight)),
        (kernels.norm_backward, {"centred": False}, (rows, rows, weight, number, number)),
        (kernels.cross_entropy, {}, (logits, ids, number, number)),
        (attention_kernels.forward, {"walk": walk}, (*3 * [heads], mask)),
        (attention_kernels.backward, {"walk": walk}, (*4 * [heads], numbers, numbers, mask)),
    ]
    for kernel, settings, arguments in calls:
        call = jax.jit(functools.partial(kernel, interpret=False, **settings))
        lowered = call.trace(*arguments).lower(lowering_platforms=("cuda",))
        assert "triton" in lowered.as_text()


def test_the_devices_attention_is_the_formulas(rng):
    q, dy = rng.normal(size=(2, 2, 5, 4, 8))
    k, v = rng.normal(size=(2, 2, 5, 2, 8))
    arrays = [jnp.asarray(a) for a in (q, k, v)]
    theirs, formula = FusedAttention("xla"), FormulaAttention()
    y, saved = theirs.forward(*arrays)
    expected, saved_expected = formula.forward(*arrays)
    np.testing.assert_allclose(y, expected, rtol=0, atol=1e-5)  # its softmax is float32's
    for a, b in zip(theirs.backward(dy, saved), formula.backward(dy, saved_expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("T", "K", "takes"), [(128, 16, True), (16, 32, True), (96, 16, False), (64, 24, False)]
)
def test_attention_with_dropout_is_the_formulas_with_the_same_mask(T, K, takes, rng):
    q, dy = rng.normal(size=(2, 2, T, 4, K)).astype(np.float32)
    k, v = rng.normal(size=(2, 2, T, 2, K)).astype(np.float32)
    arrays = [jnp.asarray(a) for a in (q, k, v)]
    keys = jnp.asarray(rng.integers(1 << 32, size=(3, 2)), jnp.uint32)
    ours, formula = FusedAttention("xla", interpret=True), FormulaAttention()
    assert ours.dropping.takes(*arrays[:2]) == takes
    y, saved = ours.forward(*arrays, dropout=0.3, rng=random.Keyed(keys))
    expected, saved_expected = formula.forward(*arrays, dropout=0.3, rng=random.Keyed(keys))
    np.testing.assert_allclose(y, expected, rtol=0, atol=1e-5)  # one other place in a mask moves it by 1e-2
    for a, b in zip(ours.backward(dy, saved), formula.backward(dy, saved_expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-5)


def test_texts_in_bfloat16_are_those_of_float32_to_its_roundings(rng):
    config = small("llama")
    weights, token_ids = lively(config, rng, np.float32), batch_of(config, rng)[0]
    wide, narrow = (
        writing.Decoding(config, weights, precision, len(token_ids)) for precision in ("float32", "bfloat16")
    )
    for piece in (slice(0, 5), slice(5, 6)):
        expected, logits = wide.read(token_ids[:, piece]), narrow.read(token_ids[:, piece])
        assert np.abs(logits - expected).max() < 2**-4 * np.abs(expected).max()  # some 16 roundings of 2^-8
        assert not np.array_equal(logits, expected)


def test_every_function_that_a_transformer_calls_has_a_twin():
    assert isinstance(twins.Twins(), Ops)
    assert isinstance(twins.Twins(FUSED), Ops)


def test_bfloat16_rounds_what_is_multiplied_and_stored_with_kernels_too(rng):
    config = small("gpt2", dropout=0.0)
    weights, batch = lively(config, rng, np.float32), batch_of(config, rng)
    narrow = program(config, fused=FUSED, dtype=jnp.bfloat16)
    wide_batch = Batch(batch[0][None], batch[1][None], np.ones(1, np.float32), None)
    compute = jax.jit(narrow.loss_and_gradients)
    loss, found = compute(stacking.to_device(weights, stacked=True), wide_batch)
    exact = tree.map(lambda w: w.astype(np.float64), weights)
    expected, gradients = loss_and_gradients(config, exact, *batch)
    # each of some twenty roundings, by 2^-9 at most, one after the other; they are of either sign
    assert float(loss) == pytest.approx(expected, rel=2**-9)
    assert_gradients_close(dict(tree.named_leaves(stacking.to_host(found))), gradients, 20 * 2**-9)
    assert all(g.dtype == np.float32 for g in jax.tree.leaves(found))
    assert float(loss) != pytest.approx(expected, rel=1e-7)  # it did round


def test_gradients_of_a_batch_in_parts_are_those_of_the_whole(rng):
    config = small("nano")
    weights, (token_ids, targets) = lively(config, rng, np.float32), batch_of(config, rng, 6)
    targets[2] = -1  # a part's share is what counts in it
    exact = tree.map(lambda w: w.astype(np.float64), weights)
    expected, gradients = loss_and_gradients(config, exact, token_ids, targets)
    training = steps.Training(config, State(weights), OptimizerSettings(), plan=plan.Plan(5))
    assert training._parts(token_ids, 0).shape == (6, 1, 12)  # five do not divide six sequences: six parts
    loss, found = training.loss_and_gradients(token_ids, targets)
    assert loss == pytest.approx(expected, rel=1e-6)
    assert_gradients_close(dict(tree.named_leaves(found)), gradients, 2e-5)
    assert training.loss(token_ids, targets) == pytest.approx(expected, rel=1e-6)


def test_the_loss_keeps_the_logits_of_some_tokens_only(rng, monkeypatch):
    config = small("nano", tied=False, bias=True)
    weights, batch = lively(config, rng), batch_of(config, rng)
    expected = computed(program(config), weights, *batch)
    monkeypatch.setattr(next_token_loss, "LOGIT_BYTES", 16 * 67 * 8)  # of 48 tokens, 16 in a part
    loss, found = computed(program(config), weights, *batch)
    assert loss == pytest.approx(expected[0], rel=1e-12)
    assert_gradients_close(found, expected[1], 1e-12)
    arguments = Batch(batch[0][None], batch[1][None], np.ones(1), None)
    text = (
        jax.jit(program(config).loss_and_gradients)
        .lower(stacking.to_device(weights, stacked=True), arguments)
        .as_text()
    )
    assert "tensor<16x67xf64>" in text
    assert "48x67x" not in text


def test_a_program_is_as_long_for_48_layers_as_for_12():
    lengths = {}
    for layers, n_layers in itertools.product(("scanned", "rematerialized"), (12, 48)):
        config = small("gpt2", n_layers=n_layers)
        weights = stacking.to_device(init(config), stacked=True)
        keys = random.keys(config, np.random.default_rng(0), 1, (1, 12))
        ids = np.zeros((1, 1, 12), np.int32)
        batch = Batch(ids, ids, np.ones(1, np.float32), keys)
        compute = jax.jit(program(config, layers, dtype=np.float32).loss_and_gradients)
        lengths[layers, n_layers] = len(compute.lower(weights, batch).as_text().splitlines())
    assert lengths["scanned", 48] == lengths["scanned", 12]
    assert lengths["rematerialized", 48] == lengths["rematerialized", 12]


@pytest.mark.parametrize("layers", ["separate", "scanned"])
def test_steps_are_those_of_the_reference_engine(layers, rng):
    config = small("gpt2", dropout=0.2)
    settings = OptimizerSettings(weight_decay=0.5, max_gradient_norm=0.3)
    weights = lively(config, rng, np.float32)
    fast = steps.Training(config, State(weights), settings, precision="float32", plan=plan.Plan(2, layers))
    exact = reference.Training(config, State(weights), settings)
    for seed in range(4):
        batch = rng.integers(67, size=(2, 6, 12))
        ours, theirs = (each.step(*batch, 1e-3, np.random.default_rng(seed)) for each in (fast, exact))
        assert ours.loss == pytest.approx(theirs.loss, rel=1e-5)
        assert ours.gradient_norm == pytest.approx(theirs.gradient_norm, rel=1e-4)
        assert ours.gradient_norm > settings.max_gradient_norm
    # Adam divides each gradient by its size: where it is all rounding, a step goes either way
    state = fast.state()
    flat = np.concatenate([w.ravel() for w in tree.leaves(state.weights)])
    moved = np.abs(exact.flat - np.concatenate([w.ravel() for w in tree.leaves(weights)]))
    assert (np.abs(flat - exact.flat) > 1e-5).mean() < 0.01
    assert np.abs(flat - exact.flat).max() < 2 * moved.max()
    np.testing.assert_allclose(state.moments.square, exact.moments.square, rtol=1e-3, atol=1e-9)
    assert state.moments.step == 4


def test_a_step_beyond_its_limits_changes_nothing_and_one_at_them_is_as_ever(rng):
    training = training_of("baby")
    start = State(init(training.config))
    token_ids, targets = batch_of(training.config, rng)
    training.load(start)
    step = training.step(token_ids, targets, 1e-2, np.random.default_rng(0))
    free = training.state()
    training.load(start)
    for limits in (Limits(0.999 * step.loss), Limits(gradient_norm=0.999 * step.gradient_norm)):
        assert training.step(token_ids, targets, 1e-2, np.random.default_rng(0), limits) == step
        state = training.state()
        for before, after in zip(tree.leaves(start.weights), tree.leaves(state.weights), strict=True):
            np.testing.assert_array_equal(before, after)
        assert state.moments.step == 0
        assert not state.moments.mean.any()
    assert training.step(token_ids, targets, 1e-2, np.random.default_rng(0), Limits(*step)) == step
    for one, other in zip(tree.leaves(free), tree.leaves(training.state()), strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_step_that_is_not_finite_changes_nothing(rng):
    training = training_of("baby")
    weights = init(training.config)
    weights.blocks[0].norm1.gamma[0] = np.inf
    training.load(State(weights))
    assert not training.step(*batch_of(training.config, rng), 1e-2, rng).is_finite
    state = training.state()
    for before, after in zip(tree.leaves(weights), tree.leaves(state.weights), strict=True):
        np.testing.assert_array_equal(before, after)
    assert state.moments.step == 0
    assert not state.moments.mean.any()


def test_the_same_seed_gives_the_same_losses_bit_for_bit_and_another_drops_others(rng):
    training = training_of("baby")
    batches = [batch_of(training.config, rng) for _ in range(2)]
    runs = []
    for seed in (0, 0, 1):
        training.load(State(init(training.config)))
        runs.append([training.step(*batch, 1e-2, np.random.default_rng(seed)) for batch in batches])
    assert runs[0] == runs[1]
    assert runs[0] != runs[2]


def test_a_step_can_be_asked_for_its_loss_later(rng):
    training = training_of("baby")
    batches = [(*batch_of(training.config, rng), 1e-2) for _ in range(3)]
    training.load(State(init(training.config)))
    expected = [training.step(*batch, np.random.default_rng(0)) for batch in batches]
    training.load(State(init(training.config)))
    begun = [training.begin(*batch, np.random.default_rng(0)) for batch in batches]
    assert [step() for step in begun] == expected


def test_a_generator_inside_a_compiled_function_is_refused(rng):
    config = small("paper")
    weights = stacking.to_device(init(config), stacked=True)
    token_ids, targets = batch_of(config, rng)
    with pytest.raises(UserError, match="a Generator would drop the same in every step"):
        program(config).model.forward(weights, token_ids, targets, rng=rng)


def test_50_steps_have_the_losses_of_the_formulas_and_of_the_cpu_engine(rng):
    config = small("gpt2", dropout=0.0, n_layers=2)
    text = (np.arange(2000) ** 2 // 7 % 67).astype(np.int64)  # some pattern to learn
    starts = rng.integers(len(text) - 13, size=(50, 8))
    windows = [np.stack([text[i : i + 13] for i in each]) for each in starts]
    batches = [(each[:, :-1], each[:, 1:]) for each in windows]
    expected = formula_losses(config, batches)
    assert expected[-1] < expected[0] - 0.1  # it learns
    # float32 differs by 1e-6 in the first loss. Where a gradient is all rounding, Adam's step goes either
    # way: by 1e-3, for few weights. Nothing grows from it in fifty steps.
    for name in ("cpu", "xla"):
        training = engines.training(
            config, State(init(config)), OptimizerSettings(), name=name, precision="float32"
        )
        losses = [training.step(*batch, 1e-3).loss for batch in batches]
        np.testing.assert_allclose(losses, expected, rtol=1e-4, err_msg=name)
        assert losses[0] == pytest.approx(expected[0], rel=1e-6)
    training = engines.training(
        config, State(init(config)), OptimizerSettings(), name="xla", precision="bfloat16"
    )
    losses = [training.step(*batch, 1e-3).loss for batch in batches]
    np.testing.assert_allclose(losses, expected, rtol=2**-8)  # one rounding of the largest logits


def formula_losses(config, batches):
    """50 steps of clipping and AdamW on the formulas, in float64."""
    flat, weights = tree.pack(init(config), np.float64)
    decay = np.concatenate([np.full(w.size, 0.1 * (w.ndim >= 2)) for w in tree.leaves(weights)])
    model, state, losses = LanguageModel(Transformer(config)), adamw.init(flat), []
    for batch in batches:
        loss, gradients = model.loss_and_gradients(1.0, weights, *batch)
        clipped, _ = clip.by_global_norm(tree.pack(gradients, np.float64)[0], 1.0)
        flat[:], state = adamw.update(
            flat, clipped, state, learning_rate=1e-3, beta1=0.9, beta2=0.99, weight_decay=decay
        )
        losses.append(float(loss))
    return losses


def test_a_batch_is_cut_where_memory_is_short_then_layers_are_computed_again(monkeypatch):
    config = PRESETS["gpt2"].replace(n_layers=24, dropout=0.0)
    monkeypatch.setattr(device, "memory", lambda mesh: None)
    assert plan.choose(config, 8, "bfloat16") == plan.Plan(1, "scanned")
    chosen = []
    for gigabytes in (60, 20, 6):
        monkeypatch.setattr(device, "memory", lambda mesh, n=gigabytes: int(n * 1e9))
        chosen.append(plan.choose(config, 8, "bfloat16"))
        needed = plan.predict(config, 8, "bfloat16", chosen[-1])
        assert needed.total - needed.process < gigabytes * 1e9
    assert chosen[0].n_parts < chosen[1].n_parts
    assert chosen[2].layers == "rematerialized"
    monkeypatch.setattr(device, "memory", lambda mesh: 10**9)
    with pytest.raises(
        UserError, match=r"needs \d\.\d GB on the device, one sequence at a time; it has 0\.9 GB"
    ):
        plan.choose(config, 8, "bfloat16")


@pytest.mark.parametrize("layers", ["scanned", "rematerialized"])
def test_memory_is_what_xla_allocates(layers):
    config = PRESETS["baby"].replace(dropout=0.0)
    training = steps.Training(config, State(init(config)), OptimizerSettings(), plan=plan.Plan(1, layers))
    ids = np.zeros((8, 256), np.int64)
    step = jax.jit(training.program.step, donate_argnums=0)
    arguments = training._batch(ids, ids, None), np.float32(1e-3), training._limits(UNLIMITED)
    analysis = step.lower(training.carried, *arguments).compile().memory_analysis()
    allocated = analysis.argument_size_in_bytes + analysis.temp_size_in_bytes
    predicted = plan.predict(config, 8, "float32", training.plan)
    # XLA lets arrays share memory, and keeps some that are needed again: it is the same to a quarter
    assert predicted.total - predicted.process == pytest.approx(allocated, rel=0.25)


def test_what_the_engine_needs_is_said_in_a_sentence(monkeypatch):
    with pytest.raises(UserError, match="Take --engine cpu for int16"):
        engines.get("xla").require("int16")
    assert engines.get("xla").describe("auto").startswith("float32, what suits a CPU")
    monkeypatch.setitem(sys.modules, "jax", None)
    config = small("nano")
    for call in (
        lambda: engines.get("xla").require("auto"),
        lambda: engines.get("xla").memory(config, 1),
        lambda: engines.training(config, State(init(config)), OptimizerSettings(), name="xla"),
    ):
        with pytest.raises(
            UserError, match=r'JAX, which is not installed\. .* pip install "handgrad\[xla\]"'
        ):
            call()


def test_a_run_is_trained_resumed_and_written_with(tmp_path):
    text = tmp_path / "text.txt"
    text.write_text("the cat sat on the mat. " * 60)
    size = {
        "steps": 3,
        "eval_batches": 1,
        "context_length": 16,
        "batch_size": 4,
        "d_model": 32,
        "n_layers": 1,
    }
    events = []
    run = handgrad.train(text, out=tmp_path / "run", engine="xla", report=events.append, **size)
    assert {event.kernel for event in events if isinstance(event, Compiling)} == {"training step", "loss"}
    assert about(run).steps_done == 3
    assert about(run).config.engine == "xla"
    assert len(handgrad.generate(handgrad.load(run), "the ", max_tokens=5)) == 5


def test_a_step_that_is_begun_before_the_last_one_is_read_changes_no_loss(tmp_path, monkeypatch):
    text = tmp_path / "text.txt"
    text.write_text("the cat sat on the mat. " * 60)
    size = {
        "steps": 6,
        "eval_every": 4,
        "eval_batches": 1,
        "context_length": 8,
        "batch_size": 4,
        "dropout": 0.1,
    }
    small = {"d_model": 16, "n_layers": 1, "n_heads": 2}
    rows = []
    for ahead in (0, 1):
        monkeypatch.setattr(device, "steps_ahead", lambda ahead=ahead: ahead)
        run = handgrad.train(text, out=tmp_path / str(ahead), engine="xla", report=print, **size, **small)
        rows.append([row[:3] if isinstance(row, StepRow) else row[:2] for row in metrics.read(run)])
    assert [row[0] for row in rows[0]] == [0, 1, 2, 3, 4, 4, 5, 6, 6, 6]
    assert rows[0] == rows[1]


def test_a_loss_that_is_not_finite_is_said_of_its_own_step(tmp_path, monkeypatch):
    text = tmp_path / "text.txt"
    text.write_text("the cat sat on the mat. " * 60)
    monkeypatch.setattr(device, "steps_ahead", lambda: 1)
    begin, n = steps.Training.begin, itertools.count(1)

    def broken(training, *arguments):
        result = begin(training, *arguments)
        return (lambda: Step(np.nan, 1.0)) if next(n) == 2 else result

    monkeypatch.setattr(steps.Training, "begin", broken)
    size = {"steps": 6, "eval_batches": 1, "context_length": 8, "batch_size": 4}
    with pytest.raises(UserError, match="stopped at step 2: the loss is nan"):
        handgrad.train(text, out=tmp_path / "run", engine="xla", d_model=16, n_layers=1, n_heads=2, **size)


def test_the_gpu_benchmark_runs_where_there_is_no_gpu():
    script = Path(__file__).parents[2] / "benchmarks" / "gpu.py"
    options = [
        "--alone",
        "--preset",
        "nano",
        "--context",
        "8",
        "--batch",
        "2",
        "--steps",
        "1",
        "--size",
        "64",
    ]
    done = subprocess.run(
        [sys.executable, script, *options], check=True, capture_output=True, text=True, timeout=300
    )
    heading, _, _, rule, *rows = done.stdout.splitlines()
    assert heading.startswith("nano, 796,928 parameters, batches of 2 x 8, dropout 0, bfloat16; peak ")
    assert rule == "|---|---|---|---|"
    assert [row.split(" | ")[0] for row in rows] == [
        "| handgrad, engine xla",
        "| handgrad, loss read each step",
    ]
