"""A model is saved whole, comes back as it was, and is not loaded where it does not fit."""

import dataclasses
import json

import numpy as np
import pytest

import handgrad
from handgrad import tree
from handgrad.engines import fits
from handgrad.errors import UserError
from handgrad.formats import block_file, model_folder, quantization, tensors
from handgrad.formats.model_folder import BLOCKS, CONFIG, MODEL, TOKENIZER, Model
from handgrad.model.config import PRESETS, ModelConfig
from handgrad.model.count import count
from handgrad.model.init import init
from handgrad.ops.rope import RopeScaling
from handgrad.parameters import Blocks
from handgrad.tokenizer import BPETokenizer, ByteTokenizer, CharacterTokenizer

ALPHABET = CharacterTokenizer("\n abcßä")
CONFIG_7 = ModelConfig(vocab_size=7, context_length=8, n_layers=2, n_heads=2, d_model=8)


@pytest.fixture
def model():
    return Model(CONFIG_7, init(CONFIG_7, 3), ALPHABET)


def test_a_saved_model_comes_back_as_it_was(model, tmp_path):
    folder = handgrad.save(model, tmp_path / "model")
    assert {path.name for path in folder.iterdir()} == {CONFIG, TOKENIZER, MODEL}
    again = handgrad.load(folder)
    assert again.config == model.config
    assert again.tokenizer.characters == ALPHABET.characters
    for one, other in zip(tree.leaves(model.weights), tree.leaves(again.weights), strict=True):
        np.testing.assert_array_equal(one, other)
    assert handgrad.generate(again, "ab") == handgrad.generate(model, "ab")


@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_is_counted_as_it_is_saved(preset, tmp_path):
    config = PRESETS[preset].replace(vocab_size=7, context_length=8, n_layers=2, d_model=48, d_ff=None)
    model = handgrad.load(handgrad.save(Model(config, init(config)), tmp_path / "model"))
    assert tree.size(model.weights) == count(config).parameters
    assert model.tokenizer is None


@pytest.mark.parametrize(
    "tokenizer", [ByteTokenizer(), BPETokenizer.train(["abcabc abc"], 260)], ids=["bytes", "bpe"]
)
def test_every_tokenizer_comes_back(tokenizer, tmp_path):
    config = CONFIG_7.replace(vocab_size=tokenizer.vocab_size)
    again = handgrad.load(handgrad.save(Model(config, init(config), tokenizer), tmp_path / "model"))
    np.testing.assert_array_equal(again.tokenizer.encode("abc ä"), tokenizer.encode("abc ä"))


def test_what_a_configuration_may_leave_open_is_written_and_read(tmp_path):
    scaling = RopeScaling("llama3", 8.0, original_context_length=64)
    config = CONFIG_7.replace(d_head=6, position="rope", qkv_bias=True, bias=False, rope_scaling=scaling)
    for number, each in enumerate((config, CONFIG_7)):
        folder = handgrad.save(Model(each, init(each)), tmp_path / str(number))
        written = json.loads((folder / CONFIG).read_text())["model"]
        assert written.keys() == {field.name for field in dataclasses.fields(ModelConfig)}
        assert handgrad.load(folder).config == each


def test_a_model_is_saved_whole_or_not_at_all(model, tmp_path, monkeypatch):
    def break_off(*_):
        raise RuntimeError

    monkeypatch.setattr(tensors, "write", break_off)
    with pytest.raises(RuntimeError):
        handgrad.save(model, tmp_path / "model")
    assert list(tmp_path.iterdir()) == []


def test_what_was_saved_before_is_not_overwritten(model, tmp_path):
    folder = handgrad.save(model, tmp_path / "model")
    before = (folder / MODEL).read_bytes()
    with pytest.raises(UserError, match="not empty"):
        handgrad.save(Model(CONFIG_7, init(CONFIG_7, 4), ALPHABET), folder)
    assert (folder / MODEL).read_bytes() == before


def test_what_load_would_refuse_is_not_saved(model, tmp_path):
    with pytest.raises(UserError, match="it has 256, the model 7"):
        handgrad.save(Model(CONFIG_7, model.weights, ByteTokenizer()), tmp_path / "model")
    with pytest.raises(UserError, match="another model's"):
        handgrad.save(Model(CONFIG_7.replace(n_layers=3), model.weights), tmp_path / "model")
    nan = tree.map(lambda w: np.full_like(w, np.nan), model.weights)
    with pytest.raises(UserError, match="finite"):
        handgrad.save(Model(CONFIG_7, nan), tmp_path / "model")
    large = tree.map(lambda w: np.full(w.shape, 1e300), model.weights)
    with pytest.raises(UserError, match="finite in float32"):
        handgrad.save(Model(CONFIG_7, large), tmp_path / "model")
    assert list(tmp_path.iterdir()) == []


def test_how_texts_start_and_end_comes_back(model, tmp_path):
    made = dataclasses.replace(model, starts=(1,), ends=(6, 2), chat_template="{{ messages }}")
    again = handgrad.load(handgrad.save(made, tmp_path / "model"))
    assert (again.starts, again.ends, again.chat_template) == ((1,), (6, 2), "{{ messages }}")


@pytest.mark.parametrize("name", ["starts", "ends"])
@pytest.mark.parametrize("ids", [(7,), (-1,), (True,), 3, ("a",)])
def test_ids_that_the_model_does_not_have_start_and_end_no_text(name, ids, model, tmp_path):
    with pytest.raises(UserError, match=name):
        handgrad.save(dataclasses.replace(model, **{name: ids}), tmp_path / "model")
    folder = handgrad.save(model, tmp_path / "model")
    data = json.loads((folder / CONFIG).read_text())
    data["writing"][name] = ids
    (folder / CONFIG).write_text(json.dumps(data))
    with pytest.raises(UserError, match=name):
        handgrad.load(folder)


def test_a_model_may_have_more_rows_than_its_tokenizer_has_tokens(model, tmp_path):
    made = dataclasses.replace(model, tokenizer=CharacterTokenizer("abc"))
    again = handgrad.load(handgrad.save(made, tmp_path / "model"))
    assert (again.tokenizer.vocab_size, again.config.vocab_size) == (3, 7)


def test_a_folder_without_weights_is_said(model, tmp_path):
    folder = handgrad.save(model, tmp_path / "model")
    (folder / MODEL).unlink()
    with pytest.raises(UserError, match=r"no weights in .*: no model\.safetensors, best"):
        handgrad.load(folder)


@pytest.mark.parametrize(("n_layers", "words"), [(1, "describes one of"), (3, "describes one of")])
def test_weights_of_another_depth_are_not_half_of_a_model(model, tmp_path, n_layers, words):
    folder = handgrad.save(model, tmp_path / "model")
    data = json.loads((folder / CONFIG).read_text())
    data["model"]["n_layers"] = n_layers
    (folder / CONFIG).write_text(json.dumps(data))
    with pytest.raises(UserError, match=words):
        handgrad.load(folder)


def test_where_there_is_no_model_those_nearby_are_named(model, tmp_path):
    handgrad.save(model, tmp_path / "model")
    with pytest.raises(UserError, match=rf"There is no run or model in .*other.*{tmp_path.name}/model"):
        handgrad.load(tmp_path / "other")
    with pytest.raises(UserError, match="Cannot look at"):
        handgrad.load("a\0b")
    with pytest.raises(UserError, match="Cannot look at"):
        handgrad.load("a" * 5000)


def test_a_model_that_does_not_fit_is_not_loaded(model, tmp_path, monkeypatch):
    folder = handgrad.save(model, tmp_path / "model")
    monkeypatch.setattr(fits, "available", lambda: count(CONFIG_7).weight_bytes - 1)
    monkeypatch.setattr(model_folder, "blank", lambda _: pytest.fail("it was allocated"))
    with pytest.raises(UserError, match=r"needs .* GB of memory"):
        handgrad.load(folder)


@pytest.fixture
def quantized():
    """Heads and feed-forward as wide as a block of Q8_0; the weights are what the blocks stand for."""
    config = ModelConfig(vocab_size=7, context_length=8, n_layers=1, n_heads=2, d_model=32, d_ff=64)
    weights = init(config, 3)
    blocks = {}
    for name in ("embedding", "blocks.0.attention.query.weight", "blocks.0.feed_forward.down.weight"):
        weight = dict(tree.named_leaves(weights))[name]
        rows = weight if name == "embedding" else weight.T
        blocks[name] = Blocks("Q8_0", quantization.quantize("Q8_0", np.ascontiguousarray(rows)))
        rows[...] = quantization.dequantize("Q8_0", blocks[name].data)
    return Model(config, weights, blocks=blocks)


def test_the_blocks_of_a_quantized_model_come_back(quantized, tmp_path):
    again = handgrad.load(handgrad.save(quantized, tmp_path / "model")).blocks
    assert again.keys() == quantized.blocks.keys()
    for name, (kind, data) in quantized.blocks.items():
        assert again[name].kind == kind
        np.testing.assert_array_equal(again[name].data, data)


@pytest.mark.parametrize(
    "damage",
    [
        lambda blocks: blocks.update(norm=blocks.pop("embedding")),
        lambda blocks: blocks.update(embedding=Blocks("Q9_9", blocks["embedding"].data)),
        lambda blocks: blocks.update(embedding=Blocks("F32", blocks["embedding"].data)),
        lambda blocks: blocks.update(embedding=Blocks("Q8_0", blocks["embedding"].data[:-1])),
        lambda blocks: blocks.update(embedding=Blocks("Q8_0", blocks["embedding"].data ^ 1)),
    ],
)
def test_blocks_of_other_weights_are_refused(quantized, damage, tmp_path):
    folder = handgrad.save(quantized, tmp_path / "model")
    blocks = dict(quantized.blocks)
    damage(blocks)
    block_file.write(folder / BLOCKS, blocks)
    with pytest.raises(UserError, match="belongs to other weights"):
        handgrad.load(folder)
