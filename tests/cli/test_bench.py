"""The benchmark: what it counts is exact, what it wraps it restores, and what it prints can be read."""

import json
import re
import sys

import pytest

from handgrad import cli
from handgrad.benchmark import against, profile, worker, workload
from handgrad.engines import fits
from handgrad.engines.engine import OptimizerSettings
from handgrad.errors import UserError
from handgrad.kernels import machine, peaks
from handgrad.model.config import PRESETS, ModelConfig
from handgrad.model.count import count
from handgrad.optim import muon

TINY = ModelConfig(
    vocab_size=11, context_length=8, n_layers=2, n_heads=2, d_model=16, bias=False, dropout=0.1
)
BATCH = 3


class Broken(against.Variant):
    def start(self, config):
        return worker.Worker("handgrad.benchmark.nothing", [])


class Clocked:
    """A worker whose first step takes a minute, as if it compiled, and every later one `seconds`."""

    def __init__(self, seconds):
        self.seconds = [60.0, seconds]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def run(self, n_steps, limit):
        return [*self.seconds[:1], *[self.seconds[-1]] * (n_steps - 1)]


@pytest.fixture
def bench(monkeypatch, capfd):
    """Run `handgrad bench` on a tiny nano, measured as briefly as can be; exit code, output, error output."""
    monkeypatch.setattr(peaks, "SECONDS", 1e-4)
    monkeypatch.setattr(peaks, "MEMORY_BYTES", 1 << 20)
    monkeypatch.setitem(PRESETS, "nano", TINY)

    def run(*args):
        monkeypatch.setattr(sys, "argv", ["handgrad", "bench", *map(str, args)])
        code = 0
        try:
            cli.main()
        except SystemExit as ended:
            code = ended.code or 0
        captured = capfd.readouterr()
        return code, captured.out, captured.err

    return run


@pytest.fixture(scope="module")
def profiled():
    return profile.profile(TINY, batch_size=BATCH, precision="float32", n_steps=2)


def test_shares_sum_to_one(profiled):
    assert sum(row.share for row in profiled.rows) == pytest.approx(1.0)
    assert sum(row.seconds for row in profiled.rows) == pytest.approx(profiled.seconds)
    assert profiled.rows[-1].kernel == profile.BETWEEN


def test_products_are_counted_to_the_operation(profiled):
    """Every matrix takes part in three products: forward, its input's gradient, its own."""
    operations = {row.kernel: row.operations for row in profiled.rows}
    tokens = BATCH * TINY.context_length
    weights = operations["products.affine"] + operations["products.add_gradient"]
    assert weights == 6 * tokens * count(TINY).matrix_parameters
    pairs = TINY.context_length * (TINY.context_length + 1) // 2
    assert operations["attention.forward"] == TINY.n_layers * BATCH * pairs * 2 * 2 * TINY.d_model
    assert operations["attention.backward"] == 2.5 * operations["attention.forward"]


@pytest.mark.parametrize("precision", ["bfloat16", "int16"])
def test_products_of_fewer_bits_are_counted_as_if_they_were_float32(precision, monkeypatch):
    """Without the scales of integers."""
    for name in ("AMX", "INT16"):
        if getattr(machine, name) == "none":
            monkeypatch.setattr(machine, name, "emulate")
    config = TINY.replace(vocab_size=64, d_model=64)  # nothing is filled up
    rows = profile.profile(config, batch_size=BATCH, precision=precision, n_steps=2).rows
    weights = sum(row.operations for row in rows if row.kernel.startswith("products"))
    assert weights == 6 * BATCH * config.context_length * count(config).matrix_parameters


def test_muons_kernels_have_rows_of_their_own():
    """X^T X, S S and X p(S) of each polynomial and each matrix."""
    settings = OptimizerSettings(optimizer="muon")
    rows = profile.profile(TINY, batch_size=BATCH, precision="float32", settings=settings, n_steps=2).rows
    muons = {row.kernel: row for row in rows if row.kernel.endswith("(Muon)")}
    calls = [muons[f"products.{name} (Muon)"].calls for name in ("add_gradient", "affine")]
    n_products = 6 * TINY.n_layers * len(muon.BEST)
    assert calls == [2 * n_products, n_products]
    assert {"optimizer.look_ahead (Muon)", "optimizer.move (Muon)"} < muons.keys()
    own = sum(
        row.operations for row in rows if row.kernel.startswith("products") and row not in muons.values()
    )
    assert own == 6 * BATCH * TINY.context_length * count(TINY).matrix_parameters


def test_a_share_is_that_of_the_peak_of_its_own_products():
    rates = [peaks.Rate(float(n), float(n)) for n in range(1, 6)]
    measured = peaks.Peaks(*rates)
    names = "products", "products_bfloat16", "products_int16", "attention"
    assert [measured.products(f"{name}.forward").one_core for name in names] == [1, 2, 3, 1]
    without = peaks.Peaks(rates[0], None, None, *rates[3:])
    assert without.products("products_int16.affine") == rates[0]


def test_a_row_names_its_peak():
    measured = peaks.Peaks(*(peaks.Rate(float(n), float(n)) for n in range(1, 6)))
    product = profile.Row("products_int16.affine", 1.0, 2.0, 0.5, operations=12.0, bytes=0.0)
    moved = profile.Row("optimizer.adamw", 1.0, 2.0, 0.5, operations=0.0, bytes=5.0)
    neither = profile.Row(profile.BETWEEN, 0.0, 2.0, 0.5, operations=0.0, bytes=0.0)
    assert [row.peak(measured) for row in (product, moved, neither)] == ["int16", "memory", None]
    assert [row.of_peak(measured) for row in (product, moved, neither)] == [2.0, 0.5, None]


def test_bytes_are_those_a_kernel_works_on(profiled):
    n_bytes = {row.kernel: row.bytes for row in profiled.rows}
    parameters = 4 * count(TINY).parameters
    assert n_bytes["optimizer.adamw"] == 4 * parameters
    assert n_bytes["optimizer.collect"] == pytest.approx(parameters)


def test_kernels_are_restored_even_after_a_failure():
    before = list(profile.kernels())
    calls = []

    def fail():
        with profile.timed(calls), profile.one_thread():
            assert not list(profile.kernels())
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    after = list(profile.kernels())
    assert len(before) > 20
    assert [name for _, name, _ in after] == [name for _, name, _ in before]
    assert all(now is then for (*_, now), (*_, then) in zip(after, before, strict=True))


def test_the_tables_fit_80_columns(bench, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    code, out, err = bench("--steps", 1)
    assert (code, err) == (0, "")
    assert max(map(len, out.splitlines())) <= 80
    assert re.search(r"float32 multiply-adds +[\d.,]+ +[\d.,]+ +GFLOP/s", out)
    assert re.search(r"products\S*\.affine +\d+ +[\d.]+ +[\d.]+% +[\d.]+ +\d+% +\w+", out)
    assert re.search(r"[\d,]+ tokens a second on all cores", out)


def test_json_is_one_object_with_peaks_and_kernels(bench):
    code, out, _ = bench("--steps", 1, "--json", "--precision", "float32", "--dropout", 0)
    row = json.loads(out)
    assert code == 0
    assert row["peaks"]["float32"]["one_core"] > 0
    assert {"products.affine", "optimizer.adamw", profile.BETWEEN} <= {k["kernel"] for k in row["kernels"]}
    assert row["tokens_per_second"] > 0
    assert row["model"]["dropout"] == 0


def test_an_unknown_peer_is_explained(bench):
    code, out, err = bench("--against", "torchh")
    assert (code, out) == (2, "")
    assert err == "handgrad: There is no peer 'torchh'; choose one of torch. Did you mean torch?\n"


def test_a_missing_peer_is_explained(bench, monkeypatch):
    monkeypatch.setattr(against.importlib.util, "find_spec", lambda name: None)
    code, _, err = bench("--against", "torch")
    assert code == 2
    assert "pip install torch" in err


def test_beside_a_peer_there_is_no_muon(bench):
    code, _, err = bench("--against", "torch", "--optimizer", "muon")
    assert code == 2
    assert "both train with adamw. Leave out --optimizer muon." in err


def test_only_models_that_the_peer_has_are_compared():
    with pytest.raises(UserError, match="nano, baby, gpt2"):
        against.require("torch", "llama")


def test_torch_is_compared_turn_by_turn_and_a_failing_variant_left_out(bench, monkeypatch):
    pytest.importorskip("torch")
    variants = [against.Variant(against.EAGER, "float32", BATCH), Broken(against.COMPILED, "float32", BATCH)]
    monkeypatch.setattr(against, "torch_variants", lambda batch_sizes: variants)
    code, out, err = bench("--against", "torch", "--steps", 1, "--json")
    row = json.loads(out)
    assert (code, err) == (0, "")
    assert {v["engine"]: len(v["rounds"]) for v in row["variants"] if not v["failure"]} == {
        "handgrad": against.ROUNDS,
        "torch eager": against.ROUNDS,
    }
    assert [v["engine"] for v in row["variants"] if v["failure"]] == ["torch compiled"]
    assert row["ratio"] > 0


def test_a_worker_that_is_late_or_fails_says_so():
    options = ["--config-json", workload.to_json(TINY), "--batch", "1"]
    with worker.Worker("handgrad.benchmark.ours", options) as late:
        with pytest.raises(worker.WorkerError, match="took more than 0 s"):
            late.run(1, limit=0.01)
    with worker.Worker("handgrad.benchmark.nothing", []) as missing:
        with pytest.raises(worker.WorkerError, match=r"exit code 1 and said: .*nothing"):
            missing.run(1, limit=60)


def test_what_a_probe_finds_five_times_slower_is_left_out_at_every_batch_size(monkeypatch):
    milliseconds = {"torch eager, float32": 10, "torch eager, bfloat16": 49, "torch compiled, bfloat16": 51}
    probed, said = [], []

    def start(variant, config):
        probed.append(variant)
        name = f"{variant.engine}, {variant.precision}"
        if name not in milliseconds:
            return Broken.start(variant, config)
        return Clocked(milliseconds[name] / 1000)

    monkeypatch.setattr(against.Variant, "start", start)
    entries = [against.Entry(variant) for variant in against.torch_variants([16, 4])]
    against._leave_out_the_slow(TINY, entries, 60.0, said.append)
    failures = {str(entry.variant): entry.failure for entry in entries if entry.failure}
    slow = "5 times slower in a probe of 2 steps"
    assert {name: why for name, why in failures.items() if "compiled, bf" in name} == {
        "torch compiled, bfloat16, batch 16": slow,
        "torch compiled, bfloat16, batch 4": slow,
    }
    broken = [why for name, why in failures.items() if "compiled, float32" in name]
    assert len(failures) == 4
    assert all("in a probe, it ended with exit code 1" in why for why in broken)
    assert [variant.batch_size for variant in probed] == [4] * 4
    assert said == [f"probing {variant}" for variant in probed]


def test_without_a_peer_that_runs_our_own_rate_is_measured(monkeypatch):
    peers = [Broken(against.EAGER, "float32", BATCH)]
    compared = against.compare(TINY, peers, batch_size=BATCH, n_steps=1, n_rounds=1)
    assert compared.ratio is None
    assert len(compared.ours.rates) == 1


def test_variants_that_do_not_fit_in_memory_come_in_groups(monkeypatch):
    entries = [against.Entry(v) for v in against.torch_variants([4, 16])]
    ours = against.Entry(against.Variant(against.OURS, "float32", 4))
    monkeypatch.setattr(fits, "available", lambda: 2.4e9)
    groups = list(against._groups(TINY, ours, entries))
    assert [len(group) for group in groups] == [3, 3, 2]
    assert [entry for group in groups for entry in group] == entries


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["--batch-size", 10**12], "GB of memory, and this machine has"),
        (["--steps", 10**20], "steps must be a whole number from 1, below 2^63"),
    ],
)
def test_what_cannot_be_measured_is_not_begun(bench, args, words):
    code, out, err = bench(*args)
    assert (code, out) == (2, "")
    assert words in err
