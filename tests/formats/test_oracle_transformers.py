"""Models that `transformers` made are ours, and what we write it loads: the same logits, texts and bits."""

import numpy as np
import pytest
from jaxtyping import config as jaxtyping_config

import handgrad
from handgrad import tree
from handgrad.formats import hugging_face
from handgrad.formats.model_folder import Model
from handgrad.generation import stream
from handgrad.generation.beam import beam_search
from handgrad.generation.request import Request
from handgrad.model.config import PRESETS
from handgrad.model.init import init
from handgrad.tokenizer import BPETokenizer, ByteTokenizer, CharacterTokenizer

torch = pytest.importorskip("torch", reason="needs torch: pip install handgrad[oracles]")
transformers = pytest.importorskip("transformers", reason="needs transformers")

LOGITS = 1e-5
"""Sums of a few hundred products in float32, in another order."""
V, T, N = 50, 32, 12
LLAMA_SIZES = {
    "vocab_size": V,
    "max_position_embeddings": T,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "hidden_size": 32,
    "intermediate_size": 48,
    "initializer_range": 0.1,
    "bos_token_id": 0,
    "eos_token_id": None,
}
LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 500.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 16,
}
SHAPES = {
    "gpt2": lambda: transformers.GPT2Config(
        vocab_size=V, n_positions=T, n_embd=32, n_layer=2, n_head=4, initializer_range=0.1, bos_token_id=0,
        eos_token_id=None,
    ),
    "llama3": lambda: transformers.LlamaConfig(**LLAMA_SIZES, rope_parameters=LLAMA3),
    "smollm2": lambda: transformers.LlamaConfig(
        **{**LLAMA_SIZES, "num_attention_heads": 9, "num_key_value_heads": 3, "hidden_size": 36},
        tie_word_embeddings=True,
        rope_theta=100_000.0,
    ),
    "biases": lambda: transformers.LlamaConfig(**LLAMA_SIZES, attention_bias=True, mlp_bias=True),
    "some biases": lambda: transformers.LlamaConfig(**LLAMA_SIZES, mlp_bias=True),
    "linear": lambda: transformers.LlamaConfig(
        **LLAMA_SIZES, rope_parameters={"rope_type": "linear", "rope_theta": 1e4, "factor": 2.0}
    ),
    "mistral": lambda: transformers.MistralConfig(**LLAMA_SIZES, sliding_window=None),
    "qwen2": lambda: transformers.Qwen2Config(**LLAMA_SIZES),
    "smollm3": lambda: transformers.SmolLM3Config(
        **{**LLAMA_SIZES, "num_hidden_layers": 3}, no_rope_layer_interval=2, pad_token_id=0
    ),
    "qwen3": lambda: transformers.Qwen3Config(**LLAMA_SIZES, head_dim=12),
}  # fmt: skip


@pytest.fixture(autouse=True)
def forgiving_arithmetic(monkeypatch):
    """transformers computes masks that overflow on purpose; this is no test of theirs. Nor of our shapes."""
    monkeypatch.setattr(jaxtyping_config, "jaxtyping_disable", True)
    with np.errstate(all="ignore"):
        yield


def made(shape, **settings):
    """A model with random weights; norms and biases too are not what they begin as."""
    torch.manual_seed(0)
    config = SHAPES[shape]()
    config.update(settings)
    model = transformers.AutoModelForCausalLM.from_config(config).eval()
    for name, parameter in model.named_parameters():
        if parameter.ndim == 1:
            torch.nn.init.normal_(parameter, 0.0 if name.endswith("bias") else 1.0, 0.3)
    return model


def their_logits(model, token_ids):
    with torch.no_grad():
        return model(torch.tensor(token_ids)).logits.numpy()


def from_folder(folder):
    return transformers.AutoModelForCausalLM.from_pretrained(folder).eval()


@pytest.mark.parametrize("shape", SHAPES)
def test_logits_are_the_same_in_and_out_and_back(shape, tmp_path, rng):
    theirs = made(shape)
    theirs.save_pretrained(tmp_path / "in", max_shard_size="20KB")  # so in several files
    ours = handgrad.load(tmp_path / "in")
    token_ids = rng.integers(V, size=(2, T))
    expected = their_logits(theirs, token_ids)
    np.testing.assert_allclose(handgrad.logits(ours.config, ours.weights, token_ids), expected, atol=LOGITS)

    hugging_face.save(ours, tmp_path / "out")
    again = from_folder(tmp_path / "out")
    np.testing.assert_allclose(their_logits(again, token_ids), expected, atol=LOGITS)
    for name, parameter in theirs.named_parameters():
        assert torch.equal(parameter, again.get_parameter(name)), name
    weights = dict(tree.named_leaves(handgrad.load(tmp_path / "out").weights))
    for name, array in tree.named_leaves(ours.weights):
        np.testing.assert_array_equal(array, weights.pop(name))
    assert not any(map(np.any, weights.values()))  # biases that their layout has and we had not


FAMILIES = ("gpt2", "llama3", "smollm2", "qwen2", "qwen3")
BEAMS = (
    {"n_beams": 1},
    {"n_beams": 3},
    {"n_beams": 3, "ends": (3, 7, 11, 19)},
    {"n_beams": 4, "ends": (3, 7), "length_penalty": 0.0},
    {"n_beams": 4, "ends": (3, 7, 11, 19), "length_penalty": -1.0, "early_stopping": "never"},
    {"n_beams": 3, "ends": tuple(range(0, V, 3)), "length_penalty": 2.0, "early_stopping": "never"},
    {"n_beams": 3, "ends": (3, 7, 11, 19), "early_stopping": True},
)


@pytest.fixture(scope="module", params=FAMILIES)
def family(request, tmp_path_factory):
    """A model of transformers, and the same read by us; no two of its logits are nearly alike."""
    folder = tmp_path_factory.mktemp(request.param)
    with np.errstate(all="ignore"):
        theirs = made(request.param, initializer_range=0.4)
        theirs.save_pretrained(folder)
    return theirs, handgrad.load(folder)


def their_texts(model, prompt, ends=(), **settings):
    """What transformers writes after a prompt, filled up with the last id to equal lengths."""
    written = model.generate(
        torch.tensor([prompt]), attention_mask=torch.ones(1, len(prompt)), max_new_tokens=N, do_sample=False,
        eos_token_id=list(ends) or None, pad_token_id=V - 1, **settings,
    )  # fmt: skip
    return written[:, len(prompt) :].tolist()


def test_greedy_texts_are_the_same(family, rng):
    theirs, ours = family
    request = Request.of(max_tokens=N, temperature=0.0)
    for prompt in rng.integers(V, size=(3, 4)).tolist():
        _, written = stream.begun(ours, prompt, request, engine="reference")
        assert [[piece.token_id for piece in written]] == their_texts(theirs, prompt)


@pytest.mark.parametrize("settings", BEAMS, ids=str)
def test_beams_are_the_same(family, settings, rng):
    theirs, ours = family
    ends, n = settings.get("ends", ()), settings["n_beams"]
    ours = Model(ours.config, ours.weights, ends=ends)
    how = {name: value for name, value in settings.items() if name not in ("ends", "n_beams")}
    prompt = rng.integers(V, size=4).tolist()
    expected = their_texts(theirs, prompt, ends, num_beams=n, num_return_sequences=n, **how)
    found = beam_search(ours, prompt, n_beams=n, max_tokens=N, engine="reference", **how)
    longest = max(map(len, expected))
    assert expected == [[*ids, *[V - 1] * (longest - len(ids))] for ids, _ in found]


@pytest.mark.parametrize("preset", ["nano", "baby", "gpt2", "llama"])
def test_what_is_trained_here_leaves_as_it_is(preset, tmp_path, rng):
    config = PRESETS[preset].replace(
        vocab_size=V, context_length=T, n_layers=2, n_heads=4, d_model=32, d_ff=None, n_kv_heads=None
    )
    weights = tree.map(lambda w: (w + 0.1 * rng.normal(size=w.shape)).astype(np.float32), init(config, rng))
    theirs = from_folder(hugging_face.save(Model(config, weights), tmp_path / "out"))
    token_ids = rng.integers(V, size=(2, T))
    expected = handgrad.logits(config, weights, token_ids)
    np.testing.assert_allclose(their_logits(theirs, token_ids), expected, atol=LOGITS)


@pytest.mark.parametrize("dtype", ["F16", "BF16"])
def test_narrow_types_are_rounded_as_torch_rounds(dtype, tmp_path):
    theirs = made("llama3")
    theirs.save_pretrained(tmp_path / "in")
    folder = hugging_face.save(handgrad.load(tmp_path / "in"), tmp_path / "out", dtype)
    again = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype="auto")
    kind = {"F16": torch.float16, "BF16": torch.bfloat16}[dtype]
    for name, parameter in theirs.named_parameters():
        assert torch.equal(parameter.to(kind), again.get_parameter(name)), name


TEXT = "ab  ba\nab"
TOKENIZERS = [
    CharacterTokenizer("\n ab"),
    ByteTokenizer(),
    BPETokenizer.train([TEXT * 9], 270, ["<|start|>", "<|end|>"]),
]


@pytest.mark.parametrize("tokenizer", TOKENIZERS, ids=lambda tokenizer: tokenizer.kind)
@pytest.mark.parametrize("preset", ["nano", "llama"])
def test_their_tokenizer_has_our_ids(preset, tokenizer, tmp_path):
    config = PRESETS[preset].replace(vocab_size=270, n_layers=1, n_heads=2, n_kv_heads=2, d_model=4)
    folder = hugging_face.save(Model(config, init(config), tokenizer), tmp_path / "out")
    theirs = transformers.AutoTokenizer.from_pretrained(folder)
    token_ids = tokenizer.encode(TEXT).tolist()
    assert theirs(TEXT)["input_ids"] == token_ids
    assert theirs.decode(token_ids) == TEXT
    assert handgrad.load(folder).tokenizer.encode(TEXT).tolist() == token_ids


def test_first_and_last_tokens_and_the_chat_template_are_theirs(tmp_path):
    tokenizer = TOKENIZERS[-1]
    start, end = tokenizer.special_tokens.values()
    config = PRESETS["llama"].replace(vocab_size=270, n_layers=1, n_heads=2, n_kv_heads=2, d_model=4)
    template = "{{ bos_token }}{% for m in messages %}{{ m['content'] }}{{ eos_token }}{% endfor %}"
    model = Model(config, init(config), tokenizer, (start,), (end, 7), template)
    folder = hugging_face.save(model, tmp_path / "out")
    theirs = transformers.AutoTokenizer.from_pretrained(folder)
    assert theirs(TEXT)["input_ids"] == [start, *tokenizer.encode(TEXT)]
    messages = [{"role": "user", "content": "ab"}]
    assert theirs.apply_chat_template(messages, tokenize=False) == "<|start|>ab<|end|>"
    assert transformers.GenerationConfig.from_pretrained(folder).eos_token_id == [end, 7]
    again = handgrad.load(folder)
    assert (again.starts, again.ends, again.chat_template) == ((start,), (end, 7), template)
