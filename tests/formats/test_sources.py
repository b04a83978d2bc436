"""A model may be a run, a folder, a file or a public name: each is told by what stands in it."""

import shutil
import socket

import pytest

import handgrad
from handgrad.errors import UserError
from handgrad.formats import gguf, hub, hugging_face, sources
from handgrad.formats.model_folder import Model
from handgrad.model.config import PRESETS
from handgrad.model.init import init

CONFIG = PRESETS["llama"].replace(
    vocab_size=7, context_length=8, n_layers=1, n_heads=2, n_kv_heads=1, d_model=8, d_ff=12
)
huggingface_hub = pytest.importorskip("huggingface_hub", reason="needs huggingface_hub")


@pytest.fixture
def model():
    return Model(CONFIG, init(CONFIG))


@pytest.fixture
def published(model, tmp_path, monkeypatch):
    """A public model without a network: its files are fetched from one folder into another."""
    there = hugging_face.save(model, tmp_path / "there")
    cache = tmp_path / "cache"
    cache.mkdir()
    fetched = []

    def hf_hub_download(name, file):
        fetched.append(file)
        assert name == "owner/name"
        if not (there / file).exists():
            raise huggingface_hub.errors.EntryNotFoundError("404")
        return str(shutil.copy(there / file, cache / file))

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", hf_hub_download)
    return there, fetched


@pytest.mark.parametrize("save", [handgrad.save, hugging_face.save])
def test_a_folder_is_told_by_its_config(save, model, tmp_path):
    folder = save(model, tmp_path / "model")
    assert sources.load(folder).config == sources.read_config(folder) == CONFIG


def test_a_public_model_is_fetched_by_its_name(published):
    assert sources.read_config("owner/name") == CONFIG
    assert published[1] == ["config.json"]
    assert sources.load("owner/name").config == CONFIG
    assert {"config.json", "model.safetensors"} <= set(published[1])


def test_of_a_model_that_is_not_computed_only_the_configuration_is_fetched(published):
    there, fetched = published
    (there / "config.json").write_text('{"model_type": "mamba"}')
    with pytest.raises(UserError, match="model_type = 'mamba'"):
        sources.load("owner/name")
    assert fetched == ["config.json"]


def test_a_path_is_no_public_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(hub, "fetch", lambda name: pytest.fail(f"{name} was asked for"))
    (tmp_path / "models").mkdir()
    for path in ("models/none", "runs/nano-1", "none", "a/b/c", "../a", "~/a", tmp_path / "a"):
        with pytest.raises(UserError, match="no run or model"):
            sources.load(path)


def test_without_a_network_nothing_is_asked(monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)  # read from the environment
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_: pytest.fail("the network was asked"))
    with pytest.raises(UserError, match=r"no-such-model, and .* HF_HUB_OFFLINE"):
        sources.load("no-such-owner/no-such-model")


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
