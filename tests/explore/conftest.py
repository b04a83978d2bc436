"""A small run that is explored: three blocks, characters, a few checkpoints."""

import pytest

pytest.importorskip("fastapi", reason="exploring is an extra: pip install handgrad[serve]")

import handgrad
from handgrad.explore import app
from handgrad.explore.explorer import Explorer
from handgrad.explore.server import RULES
from handgrad.training import loop

TEXT = "To be, or not to be, that is the question.\n"


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("explore")
    (folder / "book.txt").write_text(TEXT * 60)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "SAMPLE_TOKENS", 12)
        return handgrad.train(
            folder / "book.txt", preset="quick", steps=8, eval_every=2, n_layers=3, d_model=16, n_heads=2,
            batch_size=2, context_length=32, keep=2, out=folder / "run", engine="reference",
            report=lambda event: None,
        )  # fmt: skip


@pytest.fixture(scope="session")
def explorer(folder):
    return Explorer(str(folder), TEXT[:20])


@pytest.fixture
def client(explorer):
    test_client = pytest.importorskip("fastapi.testclient", reason="wants httpx2").TestClient
    with test_client(app.create(explorer, RULES), base_url="http://localhost") as client:
        yield client
