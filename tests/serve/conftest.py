"""A small model that is served: what it writes makes no sense, and is the same every time."""

import pytest

from handgrad.formats.model_folder import Model
from handgrad.model.config import ModelConfig
from handgrad.model.init import init
from handgrad.tokenizer import ByteTokenizer

pytest.importorskip("fastapi", reason="serving is an extra")

from handgrad.serve import server

CONFIG = ModelConfig(vocab_size=256, context_length=64, n_layers=1, n_heads=2, d_model=16)


@pytest.fixture(scope="module")
def model():
    return Model(CONFIG, init(CONFIG, 1), ByteTokenizer())


@pytest.fixture
def idle(model):
    """Two slots, two more texts that may wait; its scheduler stands still."""
    return server.service(model, "tiny", server.Options(slots=2, waiting=2, engine="reference"))


@pytest.fixture
def service(idle):
    """The same, and it writes."""
    with server.writing(idle.scheduler):
        yield idle
