"""A Hugging Face folder is read whole or refused by name: fields, files, shapes, paths elsewhere."""

import json

import numpy as np
import pytest

import handgrad
from handgrad import tree
from handgrad.errors import UserError
from handgrad.formats import hugging_face, hugging_face_config, hugging_face_layouts, names, tensors
from handgrad.formats.model_folder import Model
from handgrad.formats.tables import Table
from handgrad.model.config import PRESETS, ModelConfig
from handgrad.model.init import init
from handgrad.ops.rope import RopeScaling
from handgrad.tokenizer import BPETokenizer

LLAMA = PRESETS["llama"].replace(
    vocab_size=260, context_length=16, n_layers=2, n_heads=4, n_kv_heads=2, d_model=8, d_ff=12
)
GPT2 = PRESETS["gpt2"].replace(vocab_size=260, context_length=16, n_layers=2, n_heads=2, d_model=8)
CONFIGS = {
    "gpt2": GPT2,
    "llama": LLAMA,
    "llama, scaled": LLAMA.replace(rope_scaling=RopeScaling("llama3", 8.0, original_context_length=8)),
    "llama, wide heads": LLAMA.replace(d_head=6, rope_scaling=RopeScaling("linear", 2.0), tied=False),
    "qwen2": LLAMA.replace(qkv_bias=True),
    "qwen3": LLAMA.replace(qk_norm=True, d_head=4),
    "smollm3": LLAMA.replace(unturned_every=2),
}


@pytest.fixture
def folder(tmp_path):
    tokenizer = BPETokenizer.train(["ab"], 257, ["<|end|>"])
    return hugging_face.save(Model(LLAMA, init(LLAMA), tokenizer, ends=(256,)), tmp_path / "model")


def edit(path, **changes):
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def config_of(**changes):
    return Table("config.json", {**hugging_face_layouts.describe(LLAMA), **changes})


@pytest.mark.parametrize("name", CONFIGS)
def test_a_model_comes_back_bit_for_bit(name, tmp_path, rng):
    config = CONFIGS[name]
    weights = tree.map(lambda w: rng.normal(size=w.shape).astype(np.float32), init(config))
    again = handgrad.load(hugging_face.save(Model(config, weights), tmp_path / "model"))
    assert again.config == config
    for one, other in zip(tree.leaves(weights), tree.leaves(again.weights), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("model_type", "mixtral"),
        ("architectures", ["LlamaForSequenceClassification"]),
        ("auto_map", {"AutoModel": "modeling.Own"}),
        ("quantization_config", {"quant_method": "fp8"}),
        ("sliding_window", 8),
        ("layer_types", ["full_attention", "sliding_attention"]),
        ("attn_logit_softcapping", 50.0),
        ("num_local_experts", 8),
        ("partial_rotary_factor", 0.5),
        ("hidden_act", "xielu"),
        ("rope_interleaved", True),
        ("a_field_of_next_year", 1),
    ],
)
def test_what_is_not_computed_is_refused_by_name(field, value):
    window = {"use_sliding_window": True} if field == "sliding_window" else {}
    with pytest.raises(UserError, match=f"asks for {field} = .* does not compute"):
        hugging_face_config.read(config_of(**{field: value}, **window))


@pytest.mark.parametrize("kind", ["yarn", "dynamic", "longrope"])
@pytest.mark.parametrize("field", ["rope_scaling", "rope_parameters"])
def test_other_ropes_are_refused_by_name(field, kind):
    with pytest.raises(UserError, match=f"{field}.* asks for rope_type = '{kind}'"):
        hugging_face_config.read(config_of(**{field: {"rope_type": kind, "factor": 2.0}}))
    with pytest.raises(UserError, match=f"{field}.* asks for beta_fast"):
        hugging_face_config.read(config_of(**{field: {"rope_type": "default", "beta_fast": 32}}))


def test_what_changes_no_logit_and_what_is_empty_asks_for_nothing():
    described = hugging_face_config.read(config_of())
    harmless = {"_num_labels": 1, "use_cache": False, "pruned_heads": {}, "a_field_of_next_year": None}
    assert hugging_face_config.read(config_of(**harmless, task_specific_params={"a": 1})) == described


def test_both_generations_say_the_same():
    scaling = {
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192,
    }
    old = config_of(rope_theta=5e5, rope_scaling={"rope_type": "llama3", **scaling}, torch_dtype="bfloat16")
    new = config_of(
        rope_theta=None,
        rope_parameters={"rope_type": "llama3", "rope_theta": 5e5, **scaling},
        dtype="bfloat16",
        layer_types=["full_attention"] * 2,
    )
    first = config_of(rope_theta=5e5, rope_scaling={"type": "linear", "factor": 8.0})
    assert hugging_face_config.read(old) == hugging_face_config.read(new)
    assert hugging_face_config.read(old).config.rope_scaling == RopeScaling("llama3", 8.0)
    assert hugging_face_config.read(first).config.rope_scaling == RopeScaling("linear", 8.0)


def test_smollm3_has_layers_without_positions():
    smol = config_of(model_type="smollm3", architectures=["SmolLM3ForCausalLM"], num_hidden_layers=5)
    assert hugging_face_config.read(smol).config.unturned_every == 4
    for turned, every in (([1, 1, 0, 1, 1], 3), ([1] * 5, None), ([0] * 5, 1)):
        smol.fields["no_rope_layers"] = turned
        assert hugging_face_config.read(smol).config.unturned_every == every
    smol.fields["no_rope_layers"] = [1, 0, 1, 1, 1]
    with pytest.raises(UserError, match="no_rope_layers = "):
        hugging_face_config.read(smol)


def test_mistral_has_a_window_unless_it_says_that_it_has_none():
    long = config_of(model_type="mistral", architectures=["MistralForCausalLM"], max_position_embeddings=8192)
    del long.fields["attention_bias"], long.fields["mlp_bias"]
    with pytest.raises(UserError, match=r"max_position_embeddings, now 8192, to 4096"):
        hugging_face_config.read(long)
    long.fields["sliding_window"] = None
    assert hugging_face_config.read(long).config.context_length == 8192
    long.fields.update(sliding_window=4096, max_position_embeddings=4096)
    assert hugging_face_config.read(long).config.context_length == 4096


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (PRESETS["paper"], "position=sinusoidal"),
        (GPT2.replace(gated=True), "gated=True"),
        (LLAMA.replace(norm="layer_norm"), "norm=layer_norm"),
        (LLAMA.replace(norm_placement="post", scale_embedding=True), "norm_placement=post, scale_embedding"),
        (GPT2.replace(activation="prelu"), "activation=prelu"),
        (GPT2.replace(n_kv_heads=1), "n_kv_heads=1"),
        (GPT2.replace(d_head=6), "d_head=6"),
    ],
)
def test_a_model_of_no_layout_says_what_stands_in_the_way(config, words, tmp_path):
    with pytest.raises(UserError, match=words):
        hugging_face.save(Model(config, init(config)), tmp_path / "model")
    assert not (tmp_path / "model").exists()


def test_a_bias_without_a_place_is_not_lost(tmp_path):
    config = LLAMA.replace(bias=True, tied=False)
    weights = init(config)
    weights.head.bias[3] = 1.0
    with pytest.raises(UserError, match=r"no place for head\.bias"):
        hugging_face.save(Model(config, weights), tmp_path / "model")


@pytest.mark.parametrize(
    "elsewhere", ["../model.safetensors", "/etc/passwd", "a/b.safetensors", ".safetensors"]
)
def test_an_index_names_files_beside_it_alone(folder, elsewhere):
    (folder / hugging_face.INDEX).write_text(json.dumps({"weight_map": {"model.norm.weight": elsewhere}}))
    with pytest.raises(UserError, match="stand beside it"):
        handgrad.load(folder)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda arrays: arrays.pop("model.norm.weight"), "lack model.norm.weight"),
        (lambda arrays: arrays.update({"model.norm.bias": np.ones(8)}), "hold 'model.norm.bias'"),
        (lambda arrays: arrays.update({"model.norm.weight": np.ones(9)}), r"is \(9,\), not \(8,\)"),
        (lambda arrays: arrays.update({"model.norm.weight": np.full(8, np.nan)}), "must be finite"),
    ],
)
def test_weights_must_be_those_of_the_configuration(folder, change, words):
    path = folder / hugging_face.WEIGHTS
    entries = tensors.read_header(path).entries
    arrays = dict(tensors.read_arrays(path, entries))
    change(arrays)
    tensors.write(path, arrays)
    with pytest.raises(UserError, match=words):
        handgrad.load(folder)


def test_what_old_files_hold_besides_is_passed_over(folder):
    path = folder / hugging_face.WEIGHTS
    arrays = dict(tensors.read_arrays(path, tensors.read_header(path).entries))
    arrays["model.layers.0.self_attn.rotary_emb.inv_freq"] = np.ones(1)
    arrays["lm_head.weight"] = arrays["model.embed_tokens.weight"]  # tied
    tensors.write(path, arrays)
    handgrad.load(folder)


def test_weights_in_pickle_are_not_read(folder):
    (folder / hugging_face.WEIGHTS).rename(folder / "pytorch_model.bin")
    with pytest.raises(UserError, match="copy in safetensors"):
        handgrad.load(folder)
    (folder / "pytorch_model.bin").write_bytes(b"PK\x03\x04")
    with pytest.raises(UserError, match="pickle"):
        handgrad.load(folder / "pytorch_model.bin")


def test_all_ids_that_end_a_text_are_known_the_tokenizers_own_first(folder):
    (folder / "generation_config.json").write_text('{"eos_token_id": [7, 256, 4000]}')
    assert handgrad.load(folder).ends == (256, 7)
    (folder / "generation_config.json").write_text('{"eos_token_id": "7"}')
    with pytest.raises(UserError, match="eos_token_id must be a token's id"):
        handgrad.load(folder)


def test_the_chat_template_has_a_file_of_its_own_or_is_one_of_several(folder):
    several = [{"name": "tool_use", "template": "t"}, {"name": "default", "template": "d"}]
    edit(folder / "tokenizer_config.json", chat_template=several)
    assert handgrad.load(folder).chat_template == "d"
    (folder / "chat_template.jinja").write_text("j")
    assert handgrad.load(folder).chat_template == "j"


def test_a_damaged_tokenizer_is_named(folder):
    (folder / "tokenizer.json").write_text("{}")
    with pytest.raises(UserError, match=r"tokenizer\.json is no tokenizer"):
        handgrad.load(folder)


def test_each_weight_has_one_name_in_each_format():
    full = ModelConfig(n_layers=1, gated=True, qk_norm=True, tied=False)
    ours = {name for name, _ in tree.named_leaves(init(full))}
    known = {*names.OUTSIDE, *(f"blocks.0.{name}" for name in names.LAYER)}
    assert ours == known
    for family in names.Names._fields:
        shared = [found for found in names.by_theirs(iter(sorted(ours)), family).values() if len(found) > 1]
        assert len(shared) == (2 if family == "gpt2" else 0)
