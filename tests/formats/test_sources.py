"""A model may be a run, a folder, a file or a public name: each is told by what stands in it."""

import numpy as np
import pytest

import handgrad
from handgrad.errors import UserError
from handgrad.formats import gguf, hub, hugging_face, sources
from handgrad.formats.model_folder import Model
from handgrad.model.config import PRESETS
from handgrad.model.init import init
from handgrad.tokenizer import CharacterTokenizer

CONFIG = PRESETS["llama"].replace(
    vocab_size=7, context_length=8, n_layers=1, n_heads=2, n_kv_heads=1, d_model=8, d_ff=12
)


@pytest.fixture
def model():
    return Model(CONFIG, init(CONFIG))


@pytest.mark.parametrize("save", [handgrad.save, hugging_face.save])
def test_a_folder_is_told_by_its_config(save, model, tmp_path):
    folder = save(model, tmp_path / "model")
    assert sources.load(folder).config == sources.read_config(folder) == CONFIG


def test_a_path_is_no_public_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(hub, "fetch", lambda name: pytest.fail(f"{name} was asked for"))
    (tmp_path / "models").mkdir()
    nowhere = ("models/none", "runs/quick-1", "none", "a/b/c", "../a", "~/a", tmp_path / "a")
    for path in (*nowhere, "a/b@", "@a/b", "models/none@v1", "models/a@b/c"):
        with pytest.raises(UserError, match="no run or model"):
            sources.load(path)


def test_what_is_no_model_is_said(tmp_path):
    (tmp_path / "notes.txt").write_text("hello")
    with pytest.raises(UserError, match="no model that handgrad reads"):
        sources.load(tmp_path / "notes.txt")


def test_only_llama2c_has_a_tokenizer_apart(model, tmp_path):
    folder = handgrad.save(model, tmp_path / "model")
    with pytest.raises(UserError, match="Name no tokenizer"):
        sources.load(folder, tokenizer="tokenizer.bin")


@pytest.mark.parametrize("width", [128, 640])
def test_a_width_of_llama2c_is_not_taken_for_pickle(width, tmp_path):
    (tmp_path / "model.bin").write_bytes(width.to_bytes(4, "little") + bytes(24))
    with pytest.raises(UserError, match=r"model\.bin") as refused:
        sources.load(tmp_path / "model.bin")
    assert "pickle" not in str(refused.value)


@pytest.mark.parametrize("first", [b"PK\x03\x04", b"\x80\x02}q", b"\x80\x04\x95\x0b"])
def test_pickle_is_never_read(first, tmp_path):
    (tmp_path / "model.bin").write_bytes(first + bytes(24))
    with pytest.raises(UserError, match="pickle"):
        sources.load(tmp_path / "model.bin")


def test_a_gguf_is_told_by_its_first_bytes_and_described_without_its_weights(model, tmp_path, monkeypatch):
    path = handgrad.export(model, tmp_path / "model.gguf", to="gguf")
    again = path.rename(tmp_path / "model")
    assert sources.load(again).config == sources.read_config(again)
    monkeypatch.setattr(gguf, "load", lambda path: pytest.fail("its weights were read"))
    assert sources.read_config(again).d_ff == CONFIG.d_ff


@pytest.mark.parametrize(("to", "name"), [("hf", "model"), ("gguf", "model.gguf")])
def test_what_train_makes_by_default_leaves_for_other_programs_and_comes_back(to, name, tmp_path):
    config = PRESETS["quick"].replace(vocab_size=5, n_layers=1, n_heads=2, d_model=16)
    model = Model(config, init(config, 1), CharacterTokenizer("abcde"))
    again = handgrad.load(handgrad.export(model, tmp_path / name, to=to))
    token_ids = np.array([[0, 1, 4]])
    np.testing.assert_allclose(
        handgrad.logits(again.config, again.weights, token_ids)[..., :5],
        handgrad.logits(config, model.weights, token_ids),
        rtol=1e-5,
        atol=1e-6,
    )
