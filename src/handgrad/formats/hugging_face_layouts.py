"""A model's config.json in Hugging Face's layouts: which one it is, or which settings stand in the way.

Written is what transformers 4 and 5 both read.
"""

from typing import Any

from handgrad.errors import UserError
from handgrad.formats.hugging_face_config import ACTIVATIONS, ARCHITECTURES
from handgrad.model.config import ModelConfig

GPT2_ASKS = {"norm": "layer_norm", "gated": False, "qk_norm": False}
LLAMA_ASKS = {"position": "rope", "norm": "rms_norm", "gated": True}


def describe(config: ModelConfig) -> dict[str, Any]:
    """The config.json of such a model, in the layout of GPT-2, Llama, Qwen2, Qwen3 or SmolLM3.

    Raises `UserError` where it is none of these: it names the settings that stand in the way.
    """
    layout = GPT2_ASKS if config.position == "learned" else LLAMA_ASKS
    asked = {**layout, "norm_placement": "pre", "scale_embedding": False}
    way = [
        f"{name}={getattr(config, name)}" for name, value in asked.items() if getattr(config, name) != value
    ]
    if config.activation not in ACTIVATIONS.values():
        way.append(f"activation={config.activation}")
    if layout is GPT2_ASKS and config.kv_heads != config.n_heads:
        way.append(f"n_kv_heads={config.n_kv_heads}")
    if layout is GPT2_ASKS and config.n_heads * config.head_width != config.d_model:
        way.append(f"d_head={config.d_head}")
    if config.unturned_every is not None and config.qk_norm:
        way.append(f"unturned_every={config.unturned_every} with qk_norm")
    if way:
        raise UserError(
            f"Hugging Face has no layout for this model; in the way are {', '.join(way)}. GPT-2's has "
            f"learned positions and layer_norm, Llama's has rope, rms_norm and a gate; both norm "
            f"before each part."
        )
    return _as_gpt2(config) if layout is GPT2_ASKS else _as_llama(config)


def _as_gpt2(config: ModelConfig) -> dict[str, Any]:
    rates = dict.fromkeys(("resid_pdrop", "embd_pdrop", "attn_pdrop"), config.dropout)
    return {
        **_of_kind("gpt2", config),
        "n_positions": config.context_length,
        "n_layer": config.n_layers,
        "n_head": config.n_heads,
        "n_embd": config.d_model,
        "n_inner": config.d_ff,
        "layer_norm_epsilon": config.norm_eps,
        "activation_function": _activation(config),
        **rates,
    }


def _as_llama(config: ModelConfig) -> dict[str, Any]:
    kind = _kind(config)
    biases = {"attention_bias": config.bias or config.has_qkv_bias, "mlp_bias": config.bias}
    read = {"qwen3": ["attention_bias"], "qwen2": []}.get(kind, ["attention_bias", "mlp_bias"])
    own: dict[str, Any] = {name: biases[name] for name in read}
    if kind == "qwen3" or config.d_head is not None:  # Qwen3 has a default of its own
        own["head_dim"] = config.head_width
    if kind == "smollm3":
        own["no_rope_layers"] = [int(config.turns(layer)) for layer in range(config.n_layers)]
    return {
        **_of_kind(kind, config),
        "max_position_embeddings": config.context_length,
        "num_hidden_layers": config.n_layers,
        "num_attention_heads": config.n_heads,
        "num_key_value_heads": config.kv_heads,
        "hidden_size": config.d_model,
        "intermediate_size": config.ff_width,
        "rms_norm_eps": config.norm_eps,
        "hidden_act": _activation(config),
        "rope_theta": config.rope_base,
        "rope_scaling": _as_rope_scaling(config),
        **own,
    }


def _kind(config: ModelConfig) -> str:
    """The member of the family that computes what this model does."""
    if config.qk_norm:
        return "qwen3"
    if config.unturned_every is not None:
        return "smollm3"
    return "qwen2" if config.has_qkv_bias and not config.bias else "llama"


def _of_kind(kind: str, config: ModelConfig) -> dict[str, Any]:
    return {
        "architectures": [ARCHITECTURES[kind]],
        "model_type": kind,
        "vocab_size": config.vocab_size,
        "tie_word_embeddings": config.tied,
    }


def _as_rope_scaling(config: ModelConfig) -> dict[str, Any] | None:
    scaling = config.rope_scaling
    if scaling is None:
        return None
    if scaling.kind == "linear":
        return {"rope_type": "linear", "factor": scaling.factor}
    return {
        "rope_type": "llama3",
        "factor": scaling.factor,
        "low_freq_factor": scaling.low_frequency_factor,
        "high_freq_factor": scaling.high_frequency_factor,
        "original_max_position_embeddings": scaling.original_context_length,
    }


def _activation(config: ModelConfig) -> str:
    return next(theirs for theirs, ours in ACTIVATIONS.items() if ours == config.activation)
