"""llama.cpp itself loads what we write and computes the same, where llama-cpp-python is installed."""

import os
from pathlib import Path

import numpy as np
import pytest

from handgrad.formats import gguf, llama2c
from handgrad.formats.model_folder import Model
from handgrad.model.config import ModelConfig
from handgrad.model.init import init
from handgrad.model.transformer import Transformer
from handgrad.tokenizer import BPETokenizer, ByteTokenizer, CharacterTokenizer

llama_cpp = pytest.importorskip("llama_cpp")

TEXT = "the theme of the others, there and then"
LLAMA = ModelConfig(
    vocab_size=300, context_length=64, n_layers=4, n_heads=4, n_kv_heads=2, d_model=64, d_ff=96,
    position="rope", norm="rms_norm", activation="silu", gated=True, bias=False,
)  # fmt: skip
CONFIGS = {
    "gpt2": ModelConfig(vocab_size=300, n_layers=2, d_model=64, activation="gelu_tanh"),
    "gpt2 without biases": ModelConfig(
        vocab_size=300, n_layers=2, d_model=64, activation="gelu_tanh", bias=False
    ),
    "llama": LLAMA,
    "untied": LLAMA.replace(tied=False, rope_base=5e5),
    "wide heads": LLAMA.replace(d_head=32),
    "scaled linearly": LLAMA.replace(rope_scaling={"kind": "linear", "factor": 4.0}),
    "scaled as Llama 3": LLAMA.replace(rope_scaling={"kind": "llama3", "factor": 8.0}, rope_base=5e5),
    "with all biases": LLAMA.replace(bias=True),
    "qwen2": LLAMA.replace(qkv_bias=True),
    "qwen3": LLAMA.replace(qk_norm=True, d_head=32),
    "smollm3": LLAMA.replace(unturned_every=4),
}


def theirs(path):
    """llama.cpp with the file, keys and values in float32 as the weights."""
    return llama_cpp.Llama(
        str(path), n_ctx=64, logits_all=True, verbose=False, n_threads=1, type_k=0, type_v=0, seed=0
    )


def their_logits(path, token_ids):
    model = theirs(path)
    model.eval(list(map(int, token_ids)))
    return np.array(model.scores[: len(token_ids)])


def our_logits(model, token_ids):
    return Transformer(model.config).forward(model.weights, np.asarray(token_ids)[None])[0][0]


def random_model(config, tokenizer=None, deviation=0.1):
    """Weights large enough for logits that differ."""
    model = Model(config, init(config), tokenizer or BPETokenizer.train([TEXT], 290, ["<|end|>"]))
    rng = np.random.default_rng(0)
    for name, leaf in gguf.tensors.by_name(model.weights).items():
        if name != "head.bias":
            leaf += deviation * rng.standard_normal(leaf.shape).astype(np.float32)
    return model


@pytest.mark.parametrize("name", CONFIGS)
def test_llama_cpp_computes_the_same_logits(name, tmp_path):
    model = random_model(CONFIGS[name])
    path = gguf.save(model, tmp_path / "model.gguf", "F32")
    token_ids = np.arange(40) * 7 % 290
    bound = 0.02 if name.startswith("gpt2") else 2e-3  # its GELU is a table in float16
    np.testing.assert_allclose(
        their_logits(path, token_ids), our_logits(model, token_ids), atol=bound, rtol=0
    )


@pytest.mark.parametrize("kind", ["F16", "BF16", "Q8_0", "Q4_0", "Q4_K", "Q6_K"])
def test_llama_cpp_reads_every_kind(kind, tmp_path):
    """It rounds activations to 8 bits before it multiplies them with blocks."""
    config = LLAMA.replace(d_model=256, d_ff=256, n_layers=2)
    path = gguf.save(random_model(config, deviation=0.03), tmp_path / "model.gguf", kind)
    token_ids = np.arange(30) * 7 % 290
    ours, found = our_logits(gguf.load(path), token_ids), their_logits(path, token_ids)
    assert np.abs(found - ours).max() < 0.05 * np.abs(ours).max()


@pytest.mark.parametrize(
    "tokenizer",
    [
        CharacterTokenizer("\n ,abcdefhmnorstßä"),
        ByteTokenizer(),
        BPETokenizer.train([TEXT], 290, ["<|end|>"]),
    ],
    ids=["characters", "bytes", "bpe"],
)
def test_llama_cpp_cuts_texts_into_our_tokens(tokenizer, tmp_path):
    path = gguf.save(random_model(LLAMA, tokenizer), tmp_path / "model.gguf", "F32")
    for text in (TEXT, "a  b\n\nä of ß"):
        text = (
            text if tokenizer.kind != "characters" else "".join(c for c in text if c in tokenizer.characters)
        )
        found = theirs(path).tokenize(text.encode(), add_bos=True, special=False)
        assert found == tokenizer.encode(text).tolist()


SMOLLM2 = os.environ.get("HANDGRAD_SMOLLM2")


@pytest.mark.skipif(not SMOLLM2, reason="HANDGRAD_SMOLLM2 names no file")
@pytest.mark.parametrize("kind", [None, "F32", "Q4_K", "Q6_K"])
def test_llama_cpp_writes_on_with_smollm2(kind, tmp_path):
    model = gguf.load(SMOLLM2)
    path = gguf.save(model, tmp_path / "model.gguf", kind)
    prompt = "The capital of France is"
    written = theirs(path)(prompt, max_tokens=8, temperature=0.0)["choices"][0]["text"]
    assert written.startswith(" Paris")
    token_ids = model.tokenizer.encode(prompt)
    for _ in range(8 if kind == "F32" else 0):
        token_ids = np.append(token_ids, our_logits(model, token_ids)[-1].argmax())
    assert kind != "F32" or model.tokenizer.decode(token_ids) == prompt + written


def test_llama_cpp_tells_llama2cs_story(tmp_path):
    """Pieces with scores leave in an order that merges as before."""
    stories = Path(__file__).parents[3] / "shared" / "data" / "stories260K" / "stories260K.bin"
    if not stories.exists():
        pytest.skip("the model is not among the package's files")
    model = llama2c.load(stories)
    found = theirs(gguf.save(model, tmp_path / "model.gguf", "F32"))
    prompt, story = (
        "Once upon a time, there was",
        " a little girl named Lily. She loved to play outside in the park.",
    )
    assert found.tokenize(prompt.encode(), add_bos=True) == [1, *model.tokenizer.encode(prompt).tolist()]
    assert story.startswith(found(prompt, max_tokens=24, temperature=0.0)["choices"][0]["text"])
