"""GGUF: what handgrad writes, the `gguf` package and transformers read; what comes back is what was saved."""

import gguf as library
import numpy as np
import pytest

from handgrad import tree
from handgrad.errors import UserError
from handgrad.formats import gguf
from handgrad.formats.model_folder import Model
from handgrad.model.config import PRESETS, ModelConfig
from handgrad.model.init import init
from handgrad.model.transformer import Transformer
from handgrad.tokenizer import BPETokenizer, ByteTokenizer, CharacterTokenizer

LLAMA = ModelConfig(
    vocab_size=40, context_length=16, n_layers=2, n_heads=4, n_kv_heads=2, d_model=64, d_ff=96,
    position="rope", norm="rms_norm", activation="silu", gated=True, bias=False,
)  # fmt: skip
LLAMA3 = {"kind": "llama3", "factor": 8.0}
CONFIGS = {
    "gpt2": ModelConfig(vocab_size=40, context_length=16, n_layers=2, d_model=64, activation="gelu_tanh"),
    "gpt2 with a head": ModelConfig(
        vocab_size=40, context_length=16, n_layers=1, d_model=64, activation="gelu_tanh", tied=False
    ),
    "llama": LLAMA,
    "untied": LLAMA.replace(tied=False, rope_base=5e5),
    "of one head each": LLAMA.replace(n_kv_heads=None),
    "wide heads": LLAMA.replace(d_head=32),
    "scaled linearly": LLAMA.replace(rope_scaling={"kind": "linear", "factor": 4.0}),
    "scaled as Llama 3": LLAMA.replace(rope_scaling=LLAMA3, d_head=32, rope_base=5e5),
    "with all biases": LLAMA.replace(bias=True),
    "qwen2": LLAMA.replace(qkv_bias=True, norm_eps=1e-6),
    "smollm3": LLAMA.replace(unturned_every=4, n_layers=4),
    "qwen3": LLAMA.replace(qk_norm=True, d_head=32, norm_eps=1e-6),
}
"""Every architecture, and what it may have."""
UNCHANGED = (
    "rope_scaling", "rope_base", "norm_eps", "head_width", "kv_heads", "tied", "context_length",
    "unturned_every",
)  # fmt: skip


def random_model(config, seed=0):
    """A model no weight of which is where it starts: none may be left out or confused."""
    rng = np.random.default_rng(seed)
    weights = tree.map(
        lambda w: w + 0.1 * rng.standard_normal(w.shape).astype(np.float32), init(config, seed)
    )
    if weights.head is not None and weights.head.bias is not None:
        weights = weights._replace(head=weights.head._replace(bias=np.zeros_like(weights.head.bias)))
    return Model(config, weights)


def logits(model):
    token_ids = np.arange(12).reshape(1, 12) * 3
    return Transformer(model.config).forward(model.weights, token_ids)[0]


def assert_equal_weights(one, other):
    for a, b in zip(tree.leaves(one.weights), tree.leaves(other.weights), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("name", CONFIGS)
def test_a_model_in_float32_comes_back_as_it_was(name, tmp_path):
    model = random_model(CONFIGS[name])
    again = gguf.load(gguf.save(model, tmp_path / "model.gguf", "F32"))
    assert_equal_weights(again, model)
    np.testing.assert_array_equal(logits(again), logits(model))
    assert again.blocks is None
    for field in UNCHANGED:
        assert getattr(again.config, field) == getattr(model.config, field), field


@pytest.mark.parametrize("name", [name for name in CONFIGS if name not in ("with all biases", "smollm3")])
def test_transformers_reads_what_we_write(name, tmp_path):
    pytest.importorskip("accelerate", reason="transformers asks for it before it reads GGUF")
    torch, transformers = pytest.importorskip("torch"), pytest.importorskip("transformers")
    model = random_model(CONFIGS[name])
    gguf.save(model, tmp_path / "model.gguf", "F32")
    theirs = transformers.AutoModelForCausalLM.from_pretrained(
        tmp_path, gguf_file="model.gguf", dtype=torch.float32, config=their_config(transformers, model.config)
    )
    with torch.no_grad():
        expected = theirs(torch.arange(12).reshape(1, 12) * 3).logits.numpy()
    np.testing.assert_allclose(logits(model), expected, atol=2e-5, rtol=0)


def their_config(transformers, config):
    """The settings as transformers has them: it takes the weights of a GGUF file, but few of its settings."""
    if config.position == "learned":
        return transformers.GPT2Config(
            vocab_size=config.vocab_size, n_positions=config.context_length, n_embd=config.d_model,
            n_layer=config.n_layers, n_head=config.n_heads, tie_word_embeddings=config.tied,
            layer_norm_epsilon=config.norm_eps,
        )  # fmt: skip
    rope = {"rope_theta": config.rope_base, "rope_type": "default"}
    if config.rope_scaling is not None:
        about = config.rope_scaling
        rope |= {
            "rope_type": about.kind, "factor": about.factor, "low_freq_factor": about.low_frequency_factor,
            "high_freq_factor": about.high_frequency_factor,
            "original_max_position_embeddings": about.original_context_length,
        }  # fmt: skip
    family = "Qwen3" if config.qk_norm else "Qwen2" if config.has_qkv_bias else "Llama"
    return getattr(transformers, f"{family}Config")(
        vocab_size=config.vocab_size, max_position_embeddings=config.context_length,
        head_dim=config.head_width, hidden_size=config.d_model, intermediate_size=config.ff_width,
        num_hidden_layers=config.n_layers,
        num_attention_heads=config.n_heads, num_key_value_heads=config.kv_heads, rms_norm_eps=config.norm_eps,
        tie_word_embeddings=config.tied, rope_parameters=rope,
    )  # fmt: skip


@pytest.mark.parametrize("kind", ["F16", "BF16", "Q8_0", "Q4_0", "Q4_K", "Q6_K"])
@pytest.mark.parametrize("name", ["gpt2", "llama", "qwen3"])
def test_the_library_reads_the_numbers_that_we_read(name, kind, tmp_path):
    config = CONFIGS[name].replace(n_layers=1, d_model=256, d_ff=256, d_head=None, vocab_size=64)
    again = gguf.load(gguf.save(random_model(config), tmp_path / "model.gguf", kind))
    reader = library.GGUFReader(tmp_path / "model.gguf")
    found = {t.name: library.quants.dequantize(t.data, t.tensor_type) for t in reader.tensors}
    weights = again.weights
    np.testing.assert_array_equal(found["token_embd.weight"], weights.embedding)
    attention, feed_forward = weights.blocks[0].attention, weights.blocks[0].feed_forward
    np.testing.assert_array_equal(found["blk.0.ffn_down.weight"], feed_forward.down.weight.T)
    if name == "gpt2":
        parts = [attention.query.weight.T, attention.key.weight.T, attention.value.weight.T]
        np.testing.assert_array_equal(found["blk.0.attn_qkv.weight"], np.concatenate(parts))
    elif name == "llama":
        np.testing.assert_array_equal(found["blk.0.attn_q.weight"], attention.query.weight.T)
    else:  # the first half of a head's rows are our even ones
        heads = attention.query.weight.T.reshape(4, 32, 2, 256).swapaxes(1, 2).reshape(256, 256)
        np.testing.assert_array_equal(found["blk.0.attn_q.weight"], heads)


@pytest.mark.parametrize("name", ["gpt2", "llama", "qwen3"])
@pytest.mark.parametrize("kind", ["Q8_0", "Q4_K"])
def test_blocks_are_kept_bit_for_bit(name, kind, tmp_path):
    config = CONFIGS[name].replace(n_layers=1, d_model=256, d_ff=256, d_head=None, vocab_size=64)
    first = gguf.load(gguf.save(random_model(config), tmp_path / "first.gguf", kind))
    assert {"embedding", "blocks.0.attention.query.weight"} < first.blocks.keys()
    again = gguf.load(gguf.save(first, tmp_path / "again.gguf"))
    for weight, blocks in first.blocks.items():
        assert again.blocks[weight].kind == blocks.kind
        np.testing.assert_array_equal(again.blocks[weight].data, blocks.data)
    assert (tmp_path / "first.gguf").read_bytes() == (tmp_path / "again.gguf").read_bytes()


def test_a_blocks_rows_are_the_outputs(tmp_path):
    from handgrad.formats.quantization import dequantize

    model = gguf.load(gguf.save(random_model(CONFIGS["qwen2"]), tmp_path / "model.gguf", "Q8_0"))
    for name, weight in tree.named_leaves(model.weights):
        if name in model.blocks:
            rows = weight if name == "embedding" else weight.T
            np.testing.assert_array_equal(dequantize(*model.blocks[name]), rows)


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (PRESETS["paper"], "position='sinusoidal', norm='layer_norm', norm_placement='post'"),
        (PRESETS["nano"], "activation='gelu', so .* gpt2, has activation='gelu_tanh'"),
        (CONFIGS["gpt2"].replace(n_kv_heads=2), "n_kv_heads=2"),
        (LLAMA.replace(qk_norm=True, bias=True), "bias=True, qkv_bias=True"),
        (LLAMA.replace(unturned_every=2), "unturned_every=2, so .* smollm3, has unturned_every=4"),
        (LLAMA.replace(qkv_bias=True, d_head=32), "d_head=32"),
        (LLAMA.replace(qkv_bias=True, rope_scaling=LLAMA3), "rope_scaling='llama3'"),
    ],
)
def test_what_llama_cpp_does_not_compute_is_named(config, words, tmp_path):
    with pytest.raises(UserError, match=words):
        gguf.save(Model(config, init(config)), tmp_path / "model.gguf")
    assert not list(tmp_path.iterdir())


def test_a_bias_under_the_head_is_not_lost_silently(tmp_path):
    config = CONFIGS["gpt2 with a head"]
    weights = init(config)
    weights.head.bias[3] = 1
    with pytest.raises(UserError, match="no bias to the output head"):
        gguf.save(Model(config, weights), tmp_path / "model.gguf")


def test_what_load_would_refuse_is_not_saved(tmp_path):
    weights = init(LLAMA)
    weights.blocks[1].norm1.gamma[5] = np.nan
    with pytest.raises(UserError, match=r"blk\.1\.attn_norm\.weight must be finite"):
        gguf.save(Model(LLAMA, weights), tmp_path / "model.gguf")
    with pytest.raises(UserError, match="another model's"):
        gguf.save(Model(LLAMA.replace(n_layers=3), weights), tmp_path / "model.gguf")
    assert not list(tmp_path.iterdir())


def test_no_file_is_overwritten(tmp_path):
    gguf.save(random_model(LLAMA), tmp_path / "model.gguf")
    with pytest.raises(UserError, match="exists"):
        gguf.save(random_model(LLAMA), tmp_path / "model.gguf")
    with pytest.raises(UserError, match="no kind of GGUF 'Q4_1'"):
        gguf.save(random_model(LLAMA), tmp_path / "other.gguf", "Q4_1")


@pytest.mark.parametrize(
    "tokenizer",
    [
        CharacterTokenizer("\n abcdeßä🙂"),
        ByteTokenizer(),
        BPETokenizer.train(["abcabc abc abcde äöü"], 270, ["<|end|>"]),
    ],
    ids=["characters", "bytes", "bpe"],
)
def test_every_tokenizer_comes_back(tokenizer, tmp_path):
    config = LLAMA.replace(vocab_size=300)
    model = Model(config, init(config), tokenizer, (1,), (), "{{ messages }}")
    again = gguf.load(gguf.save(model, tmp_path / "model.gguf"))
    assert again.tokenizer.vocab_size == tokenizer.vocab_size
    text = "abc ä\n"
    np.testing.assert_array_equal(again.tokenizer.encode(text), tokenizer.encode(text))
    assert again.tokenizer.decode(np.arange(8)) == tokenizer.decode(np.arange(8))
    assert (again.starts, again.ends, again.chat_template) == ((1,), (), "{{ messages }}")


def test_ends_and_padding_come_back(tmp_path):
    tokenizer = BPETokenizer.train(["abcabc abc"], 262, ["<|endoftext|>"])
    config = LLAMA.replace(vocab_size=320)
    end = tokenizer.special_tokens["<|endoftext|>"]
    path = gguf.save(Model(config, init(config), tokenizer, (), (end, 5)), tmp_path / "model.gguf")
    again = gguf.load(path)
    assert (again.starts, again.ends, again.tokenizer.vocab_size) == ((), (end, 5), tokenizer.vocab_size)
    tokens = library.GGUFReader(path).get_field("tokenizer.ggml.tokens").contents()
    assert len(tokens) == 320
