"""The xla engine on several devices: here, eight that the processor plays."""

import contextlib
import functools
import os
import re
import signal
import sys

import numpy as np
import pytest

import handgrad
from handgrad import cli, engines, tree
from handgrad.api import loss_and_gradients
from handgrad.engines.engine import UNLIMITED, OptimizerSettings, State
from handgrad.engines.xla.mesh import ONE, Mesh, parse
from handgrad.errors import UserError
from handgrad.model.config import PRESETS
from handgrad.model.init import init
from handgrad.training import events, loop, metrics
from handgrad.training.metrics import StepRow
from handgrad.training.run import about

jax = pytest.importorskip("jax", reason="the xla engine runs on JAX: install the extra [xla]")
jax.config.update("jax_enable_x64", True)
jax.config.update("jax_num_cpu_devices", 8)  # before anything is computed, as this:
os.environ["PJRT_NPROC"] = "64"  # see `device.THREADS`

from jax.sharding import PartitionSpec as P  # noqa: E402

from handgrad.engines.xla import device, placement, plan, random, steps  # noqa: E402
from handgrad.engines.xla.placement import divisible  # noqa: E402
from handgrad.engines.xla.twins import Fused, Twins  # noqa: E402
from handgrad.engines.xla.twins.attention import DroppingAttention  # noqa: E402
from handgrad.engines.xla.twins.next_token_loss import FormulaLoss, FusedLoss  # noqa: E402

pytestmark = pytest.mark.usefixtures("compiled_quickly")
CONFIG = PRESETS["gpt2"].replace(
    vocab_size=96, context_length=12, n_layers=2, n_heads=4, d_head=12, d_model=32, d_ff=64, dropout=0.2
)
MESHES = {
    "data=8": plan.Plan(1, "separate"),
    "fsdp=8": plan.Plan(1, "scanned"),
    "data=2,model=4": plan.Plan(2, "scanned"),
    "data=2,fsdp=2,model=2": plan.Plan(1, "rematerialized"),
}
BATCHES = np.random.default_rng(0).integers(96, size=(3, 2, 16, 12))


@functools.cache
def trained(mesh, n_parts=1, layers="scanned"):
    """Losses and norms of three steps, the weights after them, and what was compiled."""
    training = steps.Training(
        CONFIG, State(init(CONFIG)), OptimizerSettings(), plan=plan.Plan(n_parts, layers), mesh=parse(mesh)
    )
    batch = training._batch(*BATCHES[0], np.random.default_rng(0))
    step = jax.jit(training.program.step, donate_argnums=0)
    training._step = step.lower(
        training.carried, batch, np.float32(1e-2), training._limits(UNLIMITED)
    ).compile()
    numbers = [training.step(*batch, 1e-2, np.random.default_rng(seed)) for seed, batch in enumerate(BATCHES)]
    return np.array(numbers), training.state(), training._step


def collectives(mesh):
    """The shapes of what is communicated, by kind."""
    found = {}
    text = trained(mesh, *MESHES[mesh])[2].as_text()
    pattern = r"= (.*?) (all-gather|all-reduce|reduce-scatter|all-to-all|collective-permute)(?:-start)?\("
    for shapes, kind in re.findall(pattern, text):
        for shape in re.findall(r"\w+\[([\d,]*)\]", shapes):
            found.setdefault(kind, []).append(tuple(int(n) for n in shape.split(",") if n))
    return found


@pytest.mark.parametrize("mesh", MESHES)
def test_steps_on_eight_devices_are_those_of_one_with_the_whole_batch(mesh):
    numbers, state, _ = trained(mesh, *MESHES[mesh])
    expected, expected_state, _ = trained("data=1")
    np.testing.assert_allclose(numbers, expected, rtol=1e-5)
    np.testing.assert_allclose(state.moments.mean, expected_state.moments.mean, rtol=0, atol=1e-5)
    ours, theirs = (tree.leaves(each.weights) for each in (state, expected_state))
    # Adam divides each gradient by its size: where it is all rounding, a step goes either way
    differ = [np.abs(a - b).ravel() > 1e-5 for a, b in zip(ours, theirs, strict=True)]
    assert np.concatenate(differ).mean() < 0.01


def test_data_parallel_devices_sum_gradients_and_gather_nothing():
    found = collectives("data=8")
    assert found.keys() == {"all-reduce"}
    assert (96, 32) in found["all-reduce"]


def test_a_compiled_step_sends_what_the_formula_says():
    scaling = pytest.importorskip("scaling")
    config = CONFIG.replace(dropout=0.0)
    formula = scaling.sent(config, parse("data=8"), tokens=24, itemsize=4)
    embedding = 2 * 7 / 8 * 4 * 96 * 32
    found = scaling.traffic(trained("data=8", *MESHES["data=8"])[2].as_text())
    # the embedding's gradient is summed as the head's as well; and losses, counts, norms, which are small
    assert found == pytest.approx(sum(formula) + embedding, rel=0.01)
    assert scaling.sent(config, parse("fsdp=8"), 24, 4).weights == pytest.approx(formula.gradients)


def test_devices_that_share_weights_gather_them_a_layer_at_a_time():
    found = collectives("fsdp=8")
    assert found.keys() == {"all-gather", "all-reduce"}  # on a GPU the sums are reduce-scatter
    layer = {(1, 32, 48), (1, 48, 32), (1, 32, 64), (1, 64, 32)}
    assert set(found["all-gather"]) == {*layer, (96, 32), (12, 32)}  # the embedding, and the positions


def test_devices_that_share_heads_communicate_the_stream_and_no_weights():
    found = collectives("data=2,model=4")
    assert found.keys() == {"all-reduce"}
    assert (4, 12, 32) in found["all-reduce"]


@pytest.mark.parametrize("mesh", MESHES)
def test_no_device_computes_what_is_of_the_whole_batch(mesh):
    text = trained(mesh, *MESHES[mesh])[2].as_text()
    part = 16 // MESHES[mesh].n_parts
    assert f"[{part // parse(mesh).batch_parts},12,32]" in text
    assert f"[{part},12,32]" not in text  # nor a mask of dropout


def test_every_device_drops_what_its_sequences_and_heads_drop_on_one(rng):
    q, dy = rng.normal(size=(2, 4, 16, 4, 16)).astype(np.float32)
    k, v = rng.normal(size=(2, 4, 16, 2, 16)).astype(np.float32)
    keys = rng.integers(1 << 32, size=(1, 2)).astype(np.uint32)

    @functools.partial(jax.jit, static_argnames="mesh")
    def run(q, k, v, dy, mesh):
        op = DroppingAttention(interpret=True, placement=placement.on(parse(mesh)))
        y, saved = op.forward(q, k, v, dropout=0.4, rng=random.Keyed(jax.numpy.asarray(keys)))
        return y, *op.backward(dy, saved)

    divided, expected = (run(q, k, v, dy, mesh=mesh) for mesh in ("data=2,fsdp=2,model=2", "data=1"))
    for ours, theirs in zip(divided, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-5)


def test_every_device_runs_kernels_on_its_part_of_the_batch(rng):
    config = PRESETS["llama"].replace(
        vocab_size=64, context_length=8, n_layers=1, n_heads=2, n_kv_heads=2, d_model=32, d_ff=32, bias=True
    )
    weights = tree.map(lambda w: (w + 0.1 * rng.normal(size=w.shape)).astype(np.float32), init(config, rng))
    token_ids, targets = rng.integers(64, size=(2, 6, 8))
    targets[:3] = -1  # the parts of the batch count for different shares
    training = steps.Training(config, State(weights), OptimizerSettings(), mesh=parse("data=2,fsdp=2"))
    training.program = training.program._replace(fused=Fused("xla", interpret=True))
    training._gradients = training.program.compiled(training.program.loss_and_gradients)
    loss, found = training.loss_and_gradients(token_ids, targets)
    exact = tree.map(lambda w: w.astype(np.float64), weights)
    expected, gradients = loss_and_gradients(config, exact, token_ids, targets)
    assert loss == pytest.approx(expected, rel=1e-6)
    largest = max(np.abs(g).max() for g in gradients.values())
    for name, gradient in tree.named_leaves(found):
        np.testing.assert_allclose(gradient, gradients[name], rtol=0, atol=2e-5 * largest, err_msg=name)


def test_devices_that_share_a_vocabulary_compute_the_loss_by_the_formula():
    kernels = (Twins(Fused(), placement.on(parse(mesh))).next_token_loss for mesh in ("data=8", "model=2"))
    assert [type(each.entropy) for each in kernels] == [FusedLoss, FormulaLoss]


def test_a_batch_that_devices_cannot_share_evenly_has_the_same_loss_and_logits():
    token_ids, targets = BATCHES[0][:, :5]
    found = []
    for mesh in ("data=1", "data=4,model=2"):
        training = steps.Training(CONFIG, State(init(CONFIG)), OptimizerSettings(), mesh=parse(mesh))
        found.append((training.loss(token_ids, targets), training.logits(token_ids)))
    assert found[1][0] == pytest.approx(found[0][0], rel=1e-6)
    assert found[1][1].shape == (5, 12, 96)
    np.testing.assert_allclose(found[1][1], found[0][1], rtol=0, atol=1e-5)


def test_a_vocabulary_that_devices_cannot_share_is_whole_on_each():
    assert divisible(P("model", "fsdp"), (97, 32), {"model": 4, "fsdp": 2}) == P(None, "fsdp")
    assert divisible(P("model", "fsdp"), (96, 32), {"model": 4, "fsdp": 2}) == P("model", "fsdp")


def test_memory_of_a_device_is_what_xla_allocates_on_it():
    config = PRESETS["baby"].replace(dropout=0.0, n_heads=8, vocab_size=128)
    mesh = parse("data=2,fsdp=2,model=2")
    training = steps.Training(config, State(init(config)), OptimizerSettings(), mesh=mesh)
    ids = np.zeros((16, 256), np.int64)
    step = jax.jit(training.program.step, donate_argnums=0)
    batch, limits = training._batch(ids, ids, None), training._limits(UNLIMITED)
    lowered = step.lower(training.carried, batch, np.float32(1e-3), limits)
    analysis = lowered.compile().memory_analysis()
    allocated = analysis.argument_size_in_bytes + analysis.temp_size_in_bytes
    predicted = plan.predict(config, 16, "float32", training.plan, mesh)
    # XLA lets arrays share memory, and keeps some that are needed again: it is the same to a quarter
    assert predicted.total - predicted.process == pytest.approx(allocated, rel=0.25)
    assert analysis.argument_size_in_bytes == pytest.approx(predicted.weights, rel=0.01)


def test_memory_is_divided_among_as_many_devices_as_it_takes(monkeypatch):
    config = PRESETS["gpt2"].replace(n_layers=48, n_heads=32, d_model=4096, dropout=0.0)  # 9.9 billion
    monkeypatch.setattr(device, "memory", lambda mesh=ONE: 80 * 10**9)
    with pytest.raises(UserError, match="or share it among more devices"):
        plan.choose(config, 8, "bfloat16", parse("fsdp=2"))
    chosen = plan.choose(config, 8, "bfloat16", parse("fsdp=8"))
    assert chosen.layers != "separate"  # each layer would be gathered once, and kept
    need = engines.get("xla", "fsdp=8").memory(config, 8, "bfloat16")
    assert need.weights == pytest.approx(3 * 4 * 9.9e9 / 8, rel=0.05)


def test_a_mesh_says_how_many_devices_each_axis_has():
    assert parse("data=4,model=2") == Mesh(data=4, model=2)
    assert parse(" fsdp = 8 ") == Mesh(fsdp=8)
    assert (parse("data=2,fsdp=2,model=2").n_devices, parse("data=1")) == (8, ONE)
    assert str(parse("model=2,data=4")) == "data=4,model=2"
    for text in ("", "data", "data=0", "data=-1", "data=two", "data=2,data=2", "pipeline=2", "data=2,"):
        with pytest.raises(UserError, match="Name each at most once, with a number from 1"):
            parse(text)


@pytest.mark.parametrize(
    ("mesh", "message"),
    [
        ("model=3", "model must divide n_heads, .* model=3, n_heads=4 .* Try model=1, or n_heads=6"),
        ("model=4", "model must divide n_kv_heads, .* model=4, n_kv_heads=2 .* Try model=2"),
        ("fsdp=5", "fsdp must divide d_model, .* fsdp=5, d_model=32"),
        ("data=4,fsdp=2", "data x fsdp must divide batch_size, .* data x fsdp=8, batch_size=12"),
    ],
)
def test_what_cannot_be_divided_is_said_before_anything_is_computed(mesh, message):
    config = CONFIG.replace(n_kv_heads=2)
    with pytest.raises(UserError, match=message):
        engines.get("xla", mesh).memory(config, 12)
    with pytest.raises(UserError, match=message):
        engines.training(
            config, State(init(config)), OptimizerSettings(), name="xla", mesh=mesh, batch_size=12
        )


def test_devices_that_are_not_there_are_missed_in_a_sentence():
    eight = engines.get("xla", "data=8").describe("float32")
    assert eight.startswith("float32, as asked; 8 x cpu, data=8, JAX")
    with pytest.raises(UserError, match=r"takes 16 devices; JAX sees 8: cpu\. .*device_count=16"):
        engines.get("xla", "data=16").require("auto")
    with pytest.raises(UserError, match=r"A mesh is for the xla engine, .* leave out --mesh data=2"):
        engines.get("cpu", "data=2")


def test_a_run_goes_on_with_other_devices_than_it_began_with(tmp_path, monkeypatch):
    monkeypatch.setattr(loop.Run, "_sample", lambda run, weights: "")  # writing has tests of its own
    text = tmp_path / "text.txt"
    text.write_text("the cat sat on the mat. " * 60)
    size = {"steps": 4, "eval_batches": 1, "context_length": 8, "batch_size": 4, "d_model": 16, "n_layers": 1}
    one, several = tmp_path / "one", tmp_path / "several"

    def stop(event):
        if isinstance(event, events.StepDone) and event.step == 2:
            os.kill(os.getpid(), signal.SIGINT)

    handgrad.train(text, out=one, engine="xla", **size)
    with pytest.raises(KeyboardInterrupt):
        handgrad.train(text, out=several, engine="xla", report=stop, mesh="fsdp=4", **size)
    assert about(several).steps_done == 2
    assert handgrad.resume(several, mesh="data=2,model=2")
    rows = [
        [row.loss for row in metrics.read(folder) if isinstance(row, StepRow)] for folder in (one, several)
    ]
    assert len(rows[0]) == 4
    np.testing.assert_allclose(*rows, rtol=1e-5)
    names = [sorted(path.name for path in folder.iterdir()) for folder in (one, several)]
    assert names[0] == names[1]
    assert len(handgrad.generate(handgrad.load(several), "the ", max_tokens=5, engine="reference")) == 5


def test_info_says_what_each_device_takes(capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["handgrad", "info", "gpt2", "--mesh", "fsdp=4"])
    with contextlib.suppress(SystemExit):
        cli.main()
    assert "MB on each device of fsdp=4, in batches of" in capsys.readouterr().out
