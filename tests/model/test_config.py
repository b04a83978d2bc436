"""What a transformer can be is checked once, and what cannot be is said in words."""

import dataclasses
import json

import numpy as np
import pytest

from handgrad import tree
from handgrad.errors import UserError
from handgrad.model.config import CHOICES, PRESETS, ModelConfig, preset
from handgrad.model.count import count
from handgrad.model.init import init
from handgrad.ops.rope import RopeScaling


def test_nano_and_gpt2_have_the_parameters_their_papers_count():
    assert round(count(PRESETS["nano"]).parameters / 1e6, 2) == 0.80  # nanoGPT prints 0.80M
    assert round(count(PRESETS["baby"]).parameters / 1e6, 2) == 10.75  # nanoGPT: 10.65M without positions
    assert count(PRESETS["gpt2"]).parameters == 124_439_808  # transformers' GPT2LMHeadModel("gpt2")


SMALL = {"vocab_size": 11, "context_length": 6, "n_layers": 2, "n_heads": 4, "d_model": 8}
VARIANTS = [
    {field: choice} for field, choices in CHOICES.items() for choice in choices
] + [
    {"gated": True}, {"bias": False}, {"tied": False}, {"n_kv_heads": 2}, {"qk_norm": True}, {"d_ff": 5},
    {"tied": False, "bias": False, "norm": "rms_norm", "norm_placement": "post", "gated": True},
    {"d_head": 5, "n_kv_heads": 2, "qk_norm": True}, {"d_head": 1, "qkv_bias": False},
    {"qkv_bias": True, "bias": False, "n_kv_heads": 1},
]  # fmt: skip


@pytest.mark.parametrize("changes", VARIANTS, ids=str)
def test_counting_agrees_with_what_is_allocated(changes):
    config = ModelConfig(**SMALL, **changes)
    assert count(config).parameters == tree.size(init(config))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"d_model": 10, "n_heads": 4}, "Try d_model=12"),
        ({"n_heads": 4, "n_kv_heads": 3}, "Try n_kv_heads=1 or 4"),
        ({"position": "rope", "d_model": 12, "n_heads": 4}, "must be even; got 3. Try d_model=16"),
        ({"position": "rope", "d_head": 7}, "must be even; got 7. Try d_head=8"),
        ({"d_head": 0}, "d_head counts something"),
        ({"qkv_bias": 1}, "qkv_bias is either true or false"),
        ({"rope_scaling": {"kind": "linear", "factor": 2}}, "got position=learned. Take position=rope"),
        ({"unturned_every": 4}, "unturned_every is about rotary positions; got position=learned"),
        ({"unturned_every": 0, "position": "rope"}, "unturned_every counts something"),
        ({"rope_scaling": "llama3"}, "rope_scaling is a table such as"),
        ({"rope_scaling": {"factor": 2}}, "needs a kind and a factor"),
        ({"rope_scaling": {"kind": "yarn", "factor": 2}}, "no kind of rope_scaling 'yarn'.* linear, llama3"),
        ({"rope_scaling": {"kind": ["linear"], "factor": 2}}, "no kind of rope_scaling"),
        ({"rope_scaling": {"kind": "linear", "faktor": 2}}, "Did you mean factor"),
        ({"rope_scaling": {"kind": "linear", "factor": 0.5}}, "at least 1; got 0.5"),
        ({"rope_scaling": {"kind": "linear", "factor": float("nan")}}, "factor must be finite"),
        ({"rope_scaling": {"kind": "linear", "factor": "2"}}, "factor must be a number"),
        ({"rope_scaling": {"kind": "llama3", "factor": 2, "low_frequency_factor": 4}}, "got 4.0 and 4.0"),
        ({"rope_scaling": {"kind": "llama3", "factor": 2, "low_frequency_factor": 0}}, "above zero"),
        (
            {"rope_scaling": {"kind": "llama3", "factor": 2, "original_context_length": 2.5}},
            "original_context_length counts something",
        ),
        ({"n_layers": 0}, "n_layers counts something"),
        ({"context_length": True}, "context_length counts something"),
        ({"d_ff": 2.5}, "d_ff counts something"),
        ({"dropout": 1.0}, "below 1"),
        ({"dropout": float("nan")}, "finite"),
        ({"norm_eps": 0.0}, "norm_eps"),
        ({"norm_eps": float("inf")}, "norm_eps must be finite"),
        ({"rope_base": float("inf")}, "rope_base must be finite"),
        ({"rope_base": 10**400}, "rope_base must be finite"),
        ({"d_model": 1 << 31}, "d_model counts something"),
        ({"n_layers": 10**400}, "n_layers counts something"),
        ({"n_layers": "4"}, "n_layers counts something"),
        ({"n_layers": np.array([2, 4])}, "n_layers counts something"),
        ({"n_layers": np.array([2])}, "n_layers counts something"),
        ({"dropout": np.array([0.1])}, "dropout must be a number"),
        ({"gated": 1}, "gated is either true or false"),
        ({"rope_base": 1.0}, "rope_base"),
        ({"activation": "gelo"}, "Did you mean gelu"),
        ({"norm": "batch_norm"}, "choose one of layer_norm, rms_norm"),
    ],
)
def test_numbers_that_do_not_fit_are_explained(changes, words):
    with pytest.raises(UserError, match=words):
        ModelConfig(**changes)


def test_numbers_of_numpy_are_taken_as_what_they_are():
    config = ModelConfig(
        d_model=np.int64(64),
        n_kv_heads=np.uint8(2),
        dropout=np.float32(0.5),
        rope_base=100,
        gated=np.bool_(True),
    )
    assert config == ModelConfig(d_model=64, n_kv_heads=2, dropout=0.5, rope_base=100.0, gated=True)
    assert {type(config.d_model), type(config.n_kv_heads), type(config.dropout)} == {int, float}
    assert json.loads(json.dumps(dataclasses.asdict(config))) == dataclasses.asdict(config)


def test_heads_biases_and_rope_are_as_they_are_asked_for():
    config = ModelConfig(d_model=10, n_heads=4, d_head=6, position="rope", qkv_bias=True, bias=False)
    assert config.head_width == 6  # and 4 need not divide 10
    block = init(config).blocks[0].attention
    assert block.query.weight.shape == (10, 24)
    assert block.output.weight.shape == (24, 10)
    assert [p.bias is not None for p in block[:4]] == [True, True, True, False]
    plain = ModelConfig(bias=True)
    assert (plain.head_width, plain.has_qkv_bias) == (32, True)
    assert not plain.replace(qkv_bias=False).has_qkv_bias


def test_a_table_of_rope_scaling_is_taken_as_what_it_says():
    table = {"kind": "llama3", "factor": np.float32(8), "original_context_length": np.int64(64)}
    config = ModelConfig(position="rope", rope_scaling=table)
    assert config.rope_scaling == RopeScaling("llama3", 8.0, original_context_length=64)
    again = json.loads(json.dumps(dataclasses.asdict(config)))
    assert ModelConfig(**again) == config
    assert hash(ModelConfig(**again)) == hash(config)


def test_an_unknown_preset_or_option_is_answered_with_the_nearest():
    with pytest.raises(UserError, match="Did you mean nano"):
        preset("nanoo")
    with pytest.raises(UserError, match="Did you mean d_model"):
        ModelConfig().replace(dmodel=3)


def test_gated_widths_keep_the_parameters_of_plain_ones_about_equal():
    plain, gated = ModelConfig(d_model=384, n_heads=6), ModelConfig(d_model=384, n_heads=6, gated=True)
    ratio = 3 * gated.ff_width / (2 * plain.ff_width)
    assert abs(ratio - 1) < 0.01
    assert gated.ff_width % 32 == 0


def test_the_same_seed_gives_the_same_weights_and_another_does_not():
    one, same, other = (init(PRESETS["nano"], seed) for seed in (1, 1, 2))
    assert all((a == b).all() for a, b in zip(tree.leaves(one), tree.leaves(same), strict=True))
    assert (one.embedding != other.embedding).any()


def test_first_weights_keep_the_size_of_sums_at_every_width_and_are_gpt2s_at_its_own():
    def size(d_model):
        query = init(ModelConfig(d_model=d_model, n_heads=4, n_layers=1)).blocks[0].attention.query.weight
        return query.std() * d_model**0.5

    # the standard deviation of 128 * 128 normal numbers is known to 0.6%; five times that
    assert size(128) == pytest.approx(size(512), rel=0.03)
    assert size(768) == pytest.approx(0.02 * 768**0.5, rel=0.01)
