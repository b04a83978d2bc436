"""A small text and the smallest run that still has all parts of one."""

import pytest

from handgrad.training import loop

TEXT = "".join(f"{i} times {j} is {i * j}.\n" for i in range(1, 20) for j in range(1, 20))
SMALL = {
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


@pytest.fixture(autouse=True)
def short_samples(monkeypatch):
    """Runs write little: with checked shapes, writing would take most of a test's time."""
    monkeypatch.setattr(loop, "SAMPLE_TOKENS", 4)
