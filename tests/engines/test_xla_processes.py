"""Several real processes that train one model together, over the machine's own network."""

import contextlib
import os
import socket
import subprocess
import sys

import numpy as np
import pytest

import handgrad
from handgrad import cli
from handgrad.data import batches
from handgrad.engines.processes import ALONE
from handgrad.training import loop, metrics
from handgrad.training.metrics import StepRow
from handgrad.training.run import about

pytest.importorskip("jax", reason="the xla engine runs on JAX: install the extra [xla]")

pytestmark = pytest.mark.usefixtures("compiled_quickly")
SIZE = {
    "steps": 4, "eval_batches": 1, "context_length": 8, "batch_size": 6, "d_model": 16, "n_layers": 1,
    "n_heads": 2, "dropout": 0.1,
}  # fmt: skip


def together(n, *arguments):
    """Run `handgrad train` in `n` processes; their exit codes and what they printed."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    command = [sys.executable, "-m", "handgrad", "train", *map(str, arguments)]
    joined = [
        [*command, "--distributed", "--coordinator", f"127.0.0.1:{port}", "--processes", n, "--process", k]
        for k in range(n)
    ]
    quickly = {**os.environ, "JAX_DISABLE_MOST_OPTIMIZATIONS": "1", "JAX_PLATFORMS": "cpu"}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True, "env": quickly}
    started = [subprocess.Popen([str(each) for each in one], **pipes) for one in joined]
    try:
        printed = [process.communicate(timeout=200)[0] for process in started]
    finally:
        for process in started:
            process.kill()
    return [process.returncode for process in started], printed


def losses(folder):
    return [row.loss for row in metrics.read(folder) if isinstance(row, StepRow)]


def test_two_processes_make_the_run_of_one_with_the_whole_batch(tmp_path, monkeypatch):
    text, one, two = (tmp_path / name for name in ("text.txt", "one", "two"))
    text.write_text("the cat sat on the mat. " * 60)
    options = [f"--set={name}={value}" for name, value in SIZE.items()]
    codes, printed = together(2, text, "--out", two, "--engine", "xla", "--mesh", "fsdp=2", *options)
    assert codes == [0, 0], printed
    assert "step 4" in printed[0]
    assert "step" not in printed[1]
    monkeypatch.setattr(loop.Run, "_sample", lambda run, weights: "")
    handgrad.train(text, out=one, engine="xla", **SIZE)
    assert len(losses(two)) == 4
    np.testing.assert_allclose(losses(two), losses(one), rtol=1e-5)
    assert about(two).best_validation_loss == pytest.approx(about(one).best_validation_loss, rel=1e-5)
    assert sorted(path.name for path in two.iterdir()) == sorted(path.name for path in one.iterdir())
    assert len(handgrad.generate(handgrad.load(two), "the ", max_tokens=5, engine="reference")) == 5


def test_what_the_first_process_refuses_ends_all_of_them_with_the_same_sentence(tmp_path):
    text = tmp_path / "text.txt"
    text.write_text("too short")
    codes, printed = together(2, text, "--out", tmp_path / "run", "--engine", "xla", "--steps", "3")
    assert codes == [2, 2], printed
    assert all("this text has" in " ".join(each.split()) for each in printed), printed
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--engine", "xla"], "Given are none; JAX says: "),
        (
            ["--engine", "xla", "--coordinator", "here", "--processes", "1", "--process", "0"],
            "Give --coordinator",
        ),
        (["--engine", "cpu"], "Several processes train together on the xla engine; this is cpu"),
    ],
)
def test_a_process_that_cannot_join_others_says_what_it_lacks(options, message, monkeypatch, capfd):
    monkeypatch.setattr(sys, "argv", ["handgrad", "train", "--distributed", *options])
    with contextlib.suppress(SystemExit):
        cli.main()
    assert message in " ".join(capfd.readouterr().err.split())


def test_windows_of_other_processes_are_not_read(rng):
    tokens = np.arange(1000)
    whole = batches.draw(tokens, 6, 8, np.random.default_rng(3))
    own = np.array([1, 4])
    part = batches.draw(tokens, 6, 8, np.random.default_rng(3), own)
    for ours, all_of_them in zip(part, whole, strict=True):
        np.testing.assert_array_equal(ours[own], all_of_them[own])
        assert not np.delete(ours, own, axis=0).any()


def test_a_single_process_agrees_with_itself():
    assert ALONE.leads
    assert ALONE.agreed(lambda: "runs/quick-1") == "runs/quick-1"
    assert ALONE.largest(2) == 2
