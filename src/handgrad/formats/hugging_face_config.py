"""What a Hugging Face config.json asks for: GPT-2 and the Llama family as our `ModelConfig`.

Read are the files of transformers 4 (`rope_theta`, `rope_scaling`, `torch_dtype`) and 5 (`rope_parameters`,
`dtype`, `layer_types`). A field is understood, or known to change no logit, or
refused by its name: none is passed over.

Source of names and defaults: the configuration classes of https://github.com/huggingface/transformers.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

from handgrad.errors import UserError, shown
from handgrad.formats.tables import Table
from handgrad.model.config import ModelConfig

ARCHITECTURES = {
    "gpt2": "GPT2LMHeadModel",
    "llama": "LlamaForCausalLM",
    "mistral": "MistralForCausalLM",
    "qwen2": "Qwen2ForCausalLM",
    "qwen3": "Qwen3ForCausalLM",
    "smollm3": "SmolLM3ForCausalLM",
}
"""By model_type."""

ACTIVATIONS = {
    "gelu": "gelu", "gelu_new": "gelu_tanh", "gelu_pytorch_tanh": "gelu_tanh", "gelu_fast": "gelu_tanh",
    "silu": "silu", "swish": "silu", "relu": "relu", "relu2": "relu_squared", "tanh": "tanh",
    "sigmoid": "sigmoid",
}  # fmt: skip
"""Their names for ours; of several the first is written."""

HARMLESS = frozenset(
    """_attn_implementation _attn_implementation_autoset _flash_attn_2_enabled _name_or_path _num_labels
    architectures attention_dropout attn_pdrop bad_words_ids begin_suppress_tokens bos_token_id
    cache_implementation chunk_size_feed_forward decoder_start_token_id diversity_penalty do_sample dtype
    early_stopping embd_pdrop encoder_no_repeat_ngram_size eos_token_id exponential_decay_length_penalty
    finetuning_task forced_bos_token_id forced_eos_token_id gradient_checkpointing id2label
    initializer_range is_decoder is_llama_config keys_to_ignore_at_inference label2id length_penalty
    max_length max_sequence_length max_window_layers min_length model_max_length model_type n_ctx
    name_or_path neftune_noise_alpha no_repeat_ngram_size num_beam_groups num_beams num_labels
    num_return_sequences output_attentions output_hidden_states output_past output_scores pad_token_id
    prefix pretraining_tp problem_type remove_invalid_values reorder_and_upcast_attn repetition_penalty
    resid_pdrop return_dict return_dict_in_generate sep_token_id summary_activation summary_first_dropout
    summary_proj_to_labels summary_type summary_use_proj suppress_tokens task_specific_params temperature
    tokenizer_class top_k top_p torch_dtype torchscript transformers.js_config transformers_version
    typical_p unsloth_fixed unsloth_version use_bfloat16 use_cache""".split()
)
"""Fields that change no logit: names, training, the choice of the next token, how the same is computed."""

ONLY: dict[str, tuple[Any, ...]] = {
    "add_cross_attention": (False,),
    "attention_bias": (False,),
    "is_encoder_decoder": (False,),
    "mlp_bias": (False,),
    "partial_rotary_factor": (1.0,),
    "rope_interleaved": (False,),
    "scale_attn_by_inverse_layer_idx": (False,),
    "scale_attn_weights": (True,),
    "use_mrope": (False,),
    "use_qk_norm": (False,),
}
"""Fields that are computed with these values alone, where a family does not read them itself."""

MISTRALS_WINDOW = 4096
"""Mistral's window where config.json does not say."""


class Described(NamedTuple):
    """What a config.json asks for."""

    config: ModelConfig
    family: str
    """Whose names the weights have: a field of `names.Names`."""
    absent: tuple[str, ...]
    """Ends of the names of our biases that such a file does not have: they are zero."""


class _Fields:
    """The fields of config.json, taken one by one: what is left at the end nobody has understood."""

    def __init__(self, table: Table):
        self.given = table.fields.keys()
        asked = {name: value for name, value in table.fields.items() if value not in (None, {}, [])}
        self.table = Table(table.where, asked, table.remedy)
        self.left = self.table.fields.keys() - HARMLESS

    def whole(self, name: str, default: int | None = None) -> int | None:
        """A whole number from 1; where there is none, `default`."""
        return self.table.whole(name, least=1) if self._has(name) else default

    def needed(self, name: str) -> int:
        self.left.discard(name)
        return self.table.whole(name, least=1)

    def number(self, name: str, default: float) -> float:
        return self.table.number(name) if self._has(name) else default

    def flag(self, name: str, default: bool) -> bool:
        if not self._has(name):
            return default
        if not isinstance(value := self.table.fields[name], bool):
            raise self.table.error(f"{name} must be true or false; got {shown(value)}.")
        return value

    def text(self, name: str, choices: Sequence[str], default: str) -> str:
        return self.table.text(name, choices) if self._has(name) else default

    def sub(self, name: str) -> "_Fields | None":
        """The fields of the object `name`."""
        return _Fields(self.table.table(name)) if self._has(name) else None

    def activation(self, name: str, default: str) -> Any:
        theirs = self.text(name, (), default)
        if theirs not in ACTIVATIONS:
            raise self.refusal(name)
        return ACTIVATIONS[theirs]

    def require_nothing_left(self) -> None:
        for name in sorted(self.left):
            value = self.table.fields[name]
            if name not in ONLY or not isinstance(value, bool | int | float) or value not in ONLY[name]:
                raise self.refusal(name)

    def refusal(self, name: str, why: str = "") -> UserError:
        value = shown(self.table.fields.get(name))
        return UserError(
            f"{self.table.where} asks for {name} = {value}, which handgrad does not compute{why}. Take a "
            f"model without it: GPT-2, Llama, Mistral, Qwen2, Qwen3 or SmolLM3 with plain attention."
        )

    def _has(self, name: str) -> bool:
        self.left.discard(name)
        return name in self.table.fields


def read(table: Table) -> Described:
    """What config.json asks for; `UserError` for what handgrad does not compute, by the field's name."""
    fields = _Fields(table)
    kind = table.text("model_type")
    if kind not in ARCHITECTURES:
        raise fields.refusal("model_type")
    if table.fields.get("architectures") not in (None, [ARCHITECTURES[kind]]):
        raise fields.refusal("architectures")
    try:
        described = _gpt2(fields) if kind == "gpt2" else _llama(fields, kind)
    except UserError as error:
        raise error if str(error).startswith(table.where) else table.error(str(error)) from error
    fields.require_nothing_left()
    return described


def _gpt2(fields: _Fields) -> Described:
    rates = {fields.number(name, 0.1) for name in ("resid_pdrop", "embd_pdrop", "attn_pdrop")}
    config = ModelConfig(
        vocab_size=fields.needed("vocab_size"),
        context_length=fields.needed("n_positions"),
        n_layers=fields.needed("n_layer"),
        n_heads=fields.needed("n_head"),
        d_model=fields.needed("n_embd"),
        d_ff=fields.whole("n_inner"),
        norm_eps=fields.number("layer_norm_epsilon", 1e-5),
        activation=fields.activation("activation_function", "gelu_new"),
        tied=fields.flag("tie_word_embeddings", True),
        dropout=rates.pop() if len(rates) == 1 else 0.0,  # here one rate holds everywhere
    )
    return Described(config, "gpt2", ("head.bias",))


def _llama(fields: _Fields, kind: str) -> Described:
    qkv_bias = output_bias = kind in ("llama", "qwen3", "smollm3") and fields.flag("attention_bias", False)
    if kind == "qwen2":
        qkv_bias = True
    mlp_bias = kind in ("llama", "smollm3") and fields.flag("mlp_bias", False)
    bias = output_bias or mlp_bias
    config = ModelConfig(
        vocab_size=fields.needed("vocab_size"),
        context_length=fields.needed("max_position_embeddings"),
        n_layers=fields.needed("num_hidden_layers"),
        n_heads=fields.needed("num_attention_heads"),
        n_kv_heads=fields.whole("num_key_value_heads"),
        d_model=fields.needed("hidden_size"),
        d_head=fields.whole("head_dim", 128 if kind == "qwen3" else None),
        d_ff=fields.needed("intermediate_size"),
        position="rope",
        norm="rms_norm",
        norm_eps=fields.number("rms_norm_eps", 1e-6),
        activation=fields.activation("hidden_act", "silu"),
        gated=True,
        qk_norm=kind == "qwen3",
        tied=fields.flag("tie_word_embeddings", kind == "smollm3"),
        bias=bias,
        qkv_bias=None if qkv_bias == bias else qkv_bias,
        unturned_every=_unturned_every(fields) if kind == "smollm3" else None,
        **_rope(fields, 2e6 if kind == "smollm3" else 1e4),
    )
    _require_plain_attention(fields, kind, config)
    absent = ["head.bias"] + ["attention.output.bias"] * (not output_bias)
    absent += [f"feed_forward.{part}.bias" for part in ("up", "gate", "down")] * (not mlp_bias)
    return Described(config, "llama", tuple(absent))


def _unturned_every(fields: _Fields) -> int | None:
    """SmolLM3 leaves every n-th layer without positions: its list has a 0 there, and 1 elsewhere."""
    every = fields.whole("no_rope_layer_interval", 4)
    n_layers = fields.needed("num_hidden_layers")
    turned = fields.table.fields.get("no_rope_layers")
    fields.left.discard("no_rope_layers")
    if isinstance(turned, list):
        every = turned.index(0) + 1 if 0 in turned else None
        if turned != [int(every is None or layer % every != 0) for layer in range(1, n_layers + 1)]:
            raise fields.refusal("no_rope_layers")
    return every


def _rope(fields: _Fields, default_base: float) -> dict[str, Any]:
    """`rope_base` and `rope_scaling`, from what either generation of files says."""
    base = fields.number("rope_theta", default_base)
    old, new = fields.sub("rope_scaling"), fields.sub("rope_parameters")
    rope = old if new is None else new
    if rope is None:
        return {"rope_base": base}
    base = rope.number("rope_theta", base)
    old_name = rope.text("type", (), "default")
    kind = rope.text("rope_type", (), old_name)
    if kind not in ("default", "linear", "llama3"):
        raise rope.refusal("rope_type" if "rope_type" in rope.table.fields else "type")
    scaling = {"kind": kind, "factor": rope.number("factor", 1.0)}
    if kind == "llama3":
        scaling |= {
            "low_frequency_factor": rope.number("low_freq_factor", 1.0),
            "high_frequency_factor": rope.number("high_freq_factor", 4.0),
            "original_context_length": rope.needed("original_max_position_embeddings"),
        }
    rope.require_nothing_left()
    return {"rope_base": base, "rope_scaling": None if kind == "default" else scaling}


def _require_plain_attention(fields: _Fields, kind: str, config: ModelConfig) -> None:
    """Raise `UserError` where a layer would not attend to all that came before."""
    types = fields.table.fields.get("layer_types", [])
    fields.left.discard("layer_types")
    if not isinstance(types, list) or any(kind != "full_attention" for kind in types):
        raise fields.refusal("layer_types")
    used = fields.flag("use_sliding_window", kind == "mistral")
    silent = "sliding_window" not in fields.given  # null is an answer: none
    window = fields.whole("sliding_window", MISTRALS_WINDOW if silent and kind == "mistral" else None)
    if used and window is not None and window < config.context_length:
        raise fields.refusal(
            "sliding_window",
            f" beyond that length. Set max_position_embeddings, now {config.context_length}, to {window} in "
            f"a copy of the file: up to there the window changes nothing",
        )
