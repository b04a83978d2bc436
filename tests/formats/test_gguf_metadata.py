"""What a GGUF file says of its model and its tokenizer is understood, or refused by name."""

import struct

import numpy as np
import pytest
from tokenizers import pre_tokenizers

from handgrad.errors import UserError
from handgrad.formats import gguf, gguf_header, gguf_save
from handgrad.formats.model_folder import Model
from handgrad.model.config import ModelConfig
from handgrad.model.init import init
from handgrad.tokenizer import BPETokenizer

CONFIG = ModelConfig(
    vocab_size=300, context_length=8, n_layers=1, n_heads=2, d_model=8, d_ff=8, position="rope",
    norm="rms_norm", activation="silu", gated=True, bias=False,
)  # fmt: skip
KEY = "tokenizer.ggml."


@pytest.fixture
def write(tmp_path, monkeypatch):
    """Write a model whose metadata has other values, or lacks some (None)."""

    def write(**changes):
        tokenizer = BPETokenizer.train(["abc abcd"], 260, ["<|eot_id|>"])
        model = Model(CONFIG, init(CONFIG), tokenizer, ends=(3,))
        plain = gguf_save._write

        def changed(partial, metadata, *rest):
            metadata |= {key.replace("__", ".").replace("ggml.", KEY): v for key, v in changes.items()}
            plain(partial, {key: v for key, v in metadata.items() if v is not None}, *rest)

        monkeypatch.setattr(gguf_save, "_write", changed)
        return gguf.save(model, tmp_path / "model.gguf")

    return write


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"general__architecture": "mamba"}, "gpt2, llama, qwen2, qwen3, smollm3; .* 'mamba'"),
        ({"general__architecture": None}, "has no general.architecture"),
        ({"general__architecture": 3}, "general.architecture must be text"),
        ({"split__count": 3}, "a part of a model in several files"),
        ({"llama__expert_count": 8}, r"'llama.expert_count' is 8: that is nothing that handgrad computes"),
        ({"llama__attention__sliding_window": 4}, r"'llama.attention.sliding_window' is 4"),
        ({"llama__attn_logit_softcapping": 50.0}, r"'llama.attn_logit_softcapping' is 50.0"),
        ({"llama__rope__scaling__type": "yarn"}, "rope.scaling.type 'yarn'"),
        ({"llama__rope__dimension_count": 2}, "must be the width of a head, 4; it is 2"),
        ({"llama__attention__value_length": 8}, "must be the width of a head, 4; it is 8"),
        ({"llama__block_count": 2}, "has .* weights, and its metadata describes a model of"),
        ({"llama__block_count": (1 << 31) - 1}, "has .* weights, and its metadata describes a model of"),
        ({"llama__block_count": 0}, "block_count must be a whole number from 1"),
        ({"llama__embedding_length": None}, "has no embedding_length"),
        ({"llama__attention__head_count": 3}, "must be"),
        ({"llama__attention__layer_norm_rms_epsilon": "no"}, "must be a number"),
        (
            {"llama__feed_forward_length": np.array([8], np.int32)},
            "feed_forward_length must be a whole number",
        ),
        ({"ggml__model": "t5"}, "the tokenizers gpt2 and llama; this file has 't5'"),
        ({"ggml__pre": "tekken"}, "does not know how tokenizer.ggml.pre 'tekken' splits"),
        ({"ggml__tokens": ["a"] * 400}, "must list texts, 1 to 300"),
        ({"ggml__tokens": ["a"] * 300}, "must differ"),
        ({"ggml__merges": ["ab"]}, "two tokens with a blank between them; got 'ab'"),
        ({"ggml__merges": ["a zzz"]}, "are no tokenizer"),
        ({"ggml__merges": None}, "must list texts"),
        ({"ggml__eos_token_id": 999}, "is 999, and there are 259 tokens"),
        ({"ggml__token_type": np.ones(3, np.int32)}, "must list 300 numbers"),
        ({"tokenizer__chat_template": 3}, "must be text"),
        ({"handgrad__tokenizer": "magic"}, "There is no handgrad.tokenizer 'magic'"),
        ({"ggml__model": "llama"}, "scores must list 300 numbers"),
        ({"ggml__model": "llama", "ggml__scores": np.full(300, np.nan, np.float32)}, "must be finite"),
    ],
)
def test_what_is_not_understood_is_refused_by_name(write, changes, words):
    with pytest.raises(UserError, match=words) as caught:
        gguf.load(write(**changes))
    assert "model.gguf" in str(caught.value)


def test_what_leaves_a_feature_out_is_no_obstacle(write):
    model = gguf.load(write(llama__expert_count=0, llama__attention__causal=True, general__name="A model"))
    assert model.config.replace(n_kv_heads=None, qkv_bias=None) == CONFIG


def test_known_control_tokens_end_a_text_too(write):
    assert gguf.load(write()).ends == (3, 258)


@pytest.mark.parametrize(
    ("pre", "text", "words"),
    [
        ("gpt-2", "It's 2024 ", ["It", "'s", " 2024", " "]),
        ("smollm", "It's 2024", ["It", "'s", " ", "2", "0", "2", "4"]),
        ("llama-bpe", "It'S 12345!\n\n", ["It", "'S", " ", "123", "45", "!\n\n"]),
        ("qwen2", "It's 12", ["It", "'s", " ", "1", "2"]),
    ],
)
def test_words_are_split_as_the_name_says(write, pre, text, words):
    model = gguf.load(write(ggml__pre=pre))
    split = model.tokenizer._tokenizer.pre_tokenizer.pre_tokenize_str(text)
    assert [text[start:end] for _, (start, end) in split] == words
    assert model.tokenizer.decode(model.tokenizer.encode(text)) == text


@pytest.mark.parametrize("pre", ["gpt-2", "smollm", "llama-bpe", "smaug-bpe", "qwen2"])
def test_the_name_of_a_split_comes_back(write, pre, tmp_path, monkeypatch):
    model = gguf.load(write(ggml__pre=pre))
    monkeypatch.undo()
    again = gguf_header.read(gguf.save(model, tmp_path / "again.gguf"))
    assert again.metadata.text(KEY + "pre") == pre


def test_a_split_without_a_name_is_refused(write, tmp_path, monkeypatch):
    model = gguf.load(write())
    monkeypatch.undo()
    model.tokenizer._tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    with pytest.raises(UserError, match=r"llama\.cpp has no name for this one"):
        gguf.save(model, tmp_path / "again.gguf")


def test_llama_3_begins_its_texts_where_the_file_does_not_say(write):
    changes = {"ggml__add_bos_token": None, "ggml__bos_token_id": 7}
    assert gguf.load(write(ggml__pre="llama-bpe", **changes)).starts == (7,)


def test_pieces_with_scores_are_merged_by_score(write):
    names = ["<unk>", "<s>", "</s>", *[f"<0x{i:02X}>" for i in range(256)], "▁", "a", "b", "▁a", "ab"]
    scores = np.array([0] * 262 + [-2, -1], np.float32)
    types = np.array([2, 3, 3] + [6] * 256 + [1] * 5, np.int32)
    path = write(
        ggml__model="llama", ggml__tokens=names, ggml__scores=scores, ggml__token_type=types,
        ggml__bos_token_id=1, ggml__add_bos_token=None,
    )  # fmt: skip
    model = gguf.load(path)
    assert [names[i] for i in model.tokenizer.encode("ab c<s>")] == ["▁", "ab", "▁", "<0x63>", "<s>"]
    assert model.tokenizer.decode(model.tokenizer.encode("ab c")) == "ab c"
    assert model.starts == (1,)


def test_numbers_that_are_not_finite_are_refused(tmp_path):
    path = gguf.save(Model(CONFIG, init(CONFIG)), tmp_path / "model.gguf", "F32")
    data = bytearray(path.read_bytes())
    data[-64:-60] = struct.pack("<f", np.inf)
    path.write_bytes(data)
    with pytest.raises(UserError, match="must be finite"):
        gguf.load(path)
