"""A small text and the smallest run that still has all parts of one."""

import contextlib
import shutil
import signal

import pytest

import handgrad
from handgrad.formats import atomic
from handgrad.training import loop, run

DRAW_CURVE = run._draw_curve

TEXT = "".join(f"{i} times {j} is {i * j}.\n" for i in range(1, 20) for j in range(1, 20))
SMALL = {
    "steps": 12, "batch_size": 4, "eval_every": 4, "eval_batches": 2, "warmup_steps": 2, "context_length": 16,
    "n_layers": 2, "n_heads": 2, "d_model": 16, "dropout": 0.1,
}  # fmt: skip
TINY = {
    "steps": 4, "batch_size": 2, "eval_every": 2, "eval_batches": 1, "warmup_steps": 0, "context_length": 8,
    "n_layers": 1, "n_heads": 2, "d_model": 8, "dropout": 0.1,
}  # fmt: skip
"""By the reference engine: nothing is compiled."""


@pytest.fixture
def text_file(tmp_path):
    path = tmp_path / "text.txt"
    path.write_text(TEXT, encoding="utf-8")
    return path


@pytest.fixture
def small():
    return dict(SMALL)


@pytest.fixture(scope="session")
def stopped_run(tmp_path_factory):
    """A tiny run after three of its four steps, to be copied."""
    folder = tmp_path_factory.mktemp("stopped")
    (folder / "text.txt").write_text(TEXT[:2000], encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch, contextlib.suppress(KeyboardInterrupt):
        patch.setattr(loop, "SAMPLE_TOKENS", 4)
        handgrad.train(
            folder / "text.txt", out=folder / "run", engine="reference", report=stop_after_three, **TINY
        )
    return folder / "run"


def stop_after_three(event):
    if isinstance(event, loop.StepDone) and event.step == 3:
        signal.raise_signal(signal.SIGINT)


@pytest.fixture
def tiny_run(stopped_run, tmp_path):
    """A copy of it, to be damaged."""
    return shutil.copytree(stopped_run, tmp_path / "run")


@pytest.fixture(autouse=True)
def brief(monkeypatch):
    """Runs write little, draw nothing and wait for no disk: that would take most of a test's time."""
    monkeypatch.setattr(loop, "SAMPLE_TOKENS", 4)
    monkeypatch.setattr(atomic, "_flush", lambda path: None)
    monkeypatch.setattr(run, "_draw_curve", lambda folder, config: None)


@pytest.fixture
def curves(brief, monkeypatch):
    """Runs draw their curve all the same."""
    monkeypatch.setattr(run, "_draw_curve", DRAW_CURVE)
