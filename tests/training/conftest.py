"""A small text and the smallest run that still has all parts of one."""

import shutil

import pytest

from handgrad.formats import atomic
from handgrad.training import curves as drawing
from handgrad.training import loop
from tests.training import fuzz

DRAW_LOSS = drawing.draw_loss

TEXT = "".join(f"{i} times {j} is {i * j}.\n" for i in range(1, 20) for j in range(1, 20))
SMALL = {
    "preset": "nano",
    "steps": 12, "batch_size": 4, "eval_every": 4, "eval_batches": 2, "warmup_steps": 2, "context_length": 16,
    "n_layers": 2, "n_heads": 2, "d_model": 16, "dropout": 0.1,
}  # fmt: skip


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
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "SAMPLE_TOKENS", 4)
        return fuzz.make_run(tmp_path_factory.mktemp("stopped"))


@pytest.fixture
def tiny_run(stopped_run, tmp_path):
    """A copy of it, to be damaged."""
    return shutil.copytree(stopped_run, tmp_path / "run")


@pytest.fixture(autouse=True)
def brief(monkeypatch):
    """Runs write little, draw nothing and wait for no disk: that would take most of a test's time."""
    monkeypatch.setattr(loop, "SAMPLE_TOKENS", 4)
    monkeypatch.setattr(atomic, "_flush", lambda path: None)
    monkeypatch.setattr(drawing, "draw_loss", lambda folder, config: None)


@pytest.fixture
def curves(brief, monkeypatch):
    """Runs draw their curve all the same."""
    monkeypatch.setattr(drawing, "draw_loss", DRAW_LOSS)
