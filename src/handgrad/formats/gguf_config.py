"""Which model a GGUF file describes, and which of ours a GGUF file can describe.

Of an architecture's metadata every key is understood or refused by name: what llama.cpp would compute and
handgrad does not is never left out silently.
"""

import contextlib
import dataclasses
from typing import Any

import numpy as np

from handgrad.errors import UserError, shown
from handgrad.formats.gguf_header import Header
from handgrad.formats.tables import Table
from handgrad.model.config import ModelConfig
from handgrad.ops import rope
from handgrad.ops.rope import RopeScaling

ARCHITECTURES = ("gpt2", "llama", "qwen2", "qwen3", "smollm3")
NAME, PARTS = "general.architecture", "split.count"
SMOLLM3_UNTURNED = 4
"""Every fourth layer of SmolLM3 turns nothing: llama.cpp knows that by the architecture's name."""
ROPE_FACTORS = "rope_freqs.weight"
"""A tensor: what Llama 3's scaling divides each pair's frequency by."""

GPT2: dict[str, Any] = {
    "position": "learned", "norm": "layer_norm", "norm_placement": "pre", "activation": "gelu_tanh",
    "gated": False, "qk_norm": False, "scale_embedding": False,
}  # fmt: skip
LLAMA: dict[str, Any] = {
    "position": "rope", "norm": "rms_norm", "norm_placement": "pre", "activation": "silu",
    "gated": True, "scale_embedding": False,
}  # fmt: skip
"""What llama.cpp's architectures have in common with one another, and handgrad's models must have."""

KEYS = {
    "n_layers": "block_count",
    "context_length": "context_length",
    "d_model": "embedding_length",
    "d_ff": "feed_forward_length",
    "n_heads": "attention.head_count",
}
OTHER_KEYS = (
    "attention.head_count_kv", "attention.key_length", "attention.value_length", "rope.dimension_count",
    "rope.freq_base", "rope.scaling.type", "rope.scaling.factor", "attention.layer_norm_epsilon",
    "attention.layer_norm_rms_epsilon",
)  # fmt: skip
SAYING_NOTHING = ("vocab_size", "rope.scaling.original_context_length", "rope.scaling.finetuned")
"""Keys that change nothing about what is computed here: the vocabulary is counted where the embedding is."""
ABSENT = {
    "expert_count": 0, "expert_used_count": 0, "attention.sliding_window": 0, "rope.scale_linear": 1.0,
    "logit_scale": 1.0, "attention.causal": True, "attention.clamp_kqv": 0.0,
}  # fmt: skip
"""Keys that may stand there with the value that leaves their feature out."""


def read(header: Header) -> tuple[str, ModelConfig]:
    """The architecture's name and its configuration; `UserError` where handgrad does not compute it."""
    metadata, tensors = header.metadata, header.tensors
    architecture = metadata.text(NAME)
    if architecture not in ARCHITECTURES:
        raise metadata.error(
            f"handgrad knows {', '.join(ARCHITECTURES)}; this file is of architecture {shown(architecture)}."
        )
    if metadata.fields.get(PARTS, 1) != 1:
        raise metadata.error("It is a part of a model in several files: llama.cpp's gguf-split joins them.")
    about = _own(metadata, architecture)
    if "token_embd.weight" not in tensors:
        raise metadata.error("There is no tensor token_embd.weight.")
    fields: dict[str, Any] = {name: about.whole(key, least=1) for name, key in KEYS.items()}
    fields |= GPT2 if architecture == "gpt2" else LLAMA | _rotary(about, fields)
    kind = "" if architecture == "gpt2" else "rms_"
    fields["norm_eps"] = about.number(f"attention.layer_norm_{kind}epsilon")
    fields["vocab_size"] = tensors["token_embd.weight"].rows
    fields["tied"] = "output.weight" not in tensors
    fields["bias"] = architecture == "gpt2" or "blk.0.attn_output.bias" in tensors
    fields["qkv_bias"] = architecture == "gpt2" or "blk.0.attn_q.bias" in tensors
    fields["unturned_every"] = SMOLLM3_UNTURNED if architecture == "smollm3" else None
    fields["qk_norm"] = "blk.0.attn_q_norm.weight" in tensors
    try:
        return architecture, ModelConfig(**fields)
    except UserError as error:
        raise metadata.error(str(error)) from error


def _own(metadata: Table, architecture: str) -> Table:
    """The keys of the architecture itself, without its name before them; `UserError` for unknown ones."""
    prefix = f"{architecture}."
    fields = {key.removeprefix(prefix): v for key, v in metadata.fields.items() if key.startswith(prefix)}
    for key, value in fields.items():
        known = key in (*KEYS.values(), *OTHER_KEYS, *SAYING_NOTHING)
        if not known and not (key in ABSENT and _is(value, ABSENT[key])):
            raise metadata.error(
                f"{prefix + key!r} is {shown(value)}: that is nothing that handgrad computes."
            )
    return Table(f"{metadata.where}: {architecture}", fields, metadata.remedy)


def _is(value: Any, wanted: float) -> bool:
    return isinstance(value, bool | int | float) and value == wanted


def _rotary(about: Table, fields: dict[str, Any]) -> dict[str, Any]:
    """Heads and rotary positions of the Llama family."""
    n_heads, d_model = fields["n_heads"], fields["d_model"]
    n_kv_heads = _optional(about, "attention.head_count_kv", n_heads)
    d_head = _optional(about, "attention.key_length", d_model // n_heads)
    for key in ("attention.value_length", "rope.dimension_count"):
        if (width := _optional(about, key, d_head)) != d_head:
            raise about.error(f"{key} must be the width of a head, {d_head}; it is {width}.")
    return {
        "n_kv_heads": None if n_kv_heads == n_heads else n_kv_heads,
        "d_head": None if d_head * n_heads == d_model else d_head,
        "rope_base": about.number("rope.freq_base") if "rope.freq_base" in about.fields else 10_000.0,
        "rope_scaling": _scaling(about),
    }


def _optional(about: Table, key: str, default: int) -> int:
    return about.whole(key, least=1) if key in about.fields else default


def _scaling(about: Table) -> RopeScaling | None:
    kind = about.text("rope.scaling.type") if "rope.scaling.type" in about.fields else "none"
    if kind not in ("none", "linear"):
        raise about.error(
            f"handgrad knows no rope.scaling.type {shown(kind)}: only none, linear and Llama 3's."
        )
    factor = about.number("rope.scaling.factor", least=1.0) if kind == "linear" else 1.0
    return RopeScaling("linear", factor) if factor > 1 else None


def llama3_scaling(config: ModelConfig, factors: np.ndarray) -> RopeScaling | None:
    """The scaling that divides the frequencies of `config` by `factors`; None where Llama 3's is another."""
    with contextlib.suppress(UserError):
        scaling = RopeScaling("llama3", float(f"{factors.max():.6g}"))
        wanted = rope_factors(config.replace(rope_scaling=scaling))
        if factors.shape == wanted.shape and np.allclose(factors, wanted, rtol=1e-4):
            return scaling
    return None


def rope_factors(config: ModelConfig) -> np.ndarray:
    """What the frequencies of a model's pairs are divided by."""
    K, base = config.head_width, config.rope_base
    return rope.frequencies(K, base) / rope.frequencies(K, base, config.rope_scaling)


def describe(config: ModelConfig) -> tuple[str, dict[str, Any]]:
    """The architecture that llama.cpp computes `config` with, and its metadata; the exact types are the
    writer's. `UserError` names the settings that none has.
    """
    architecture = _architecture(config)
    _require_known(config, architecture)
    about: dict[str, Any] = {key: getattr(config, name) for name, key in KEYS.items()}
    about["feed_forward_length"] = config.ff_width
    kind = "" if architecture == "gpt2" else "rms_"
    about[f"attention.layer_norm_{kind}epsilon"] = config.norm_eps
    about["vocab_size"] = config.vocab_size
    if architecture != "gpt2":
        about |= _rotary_keys(config)
    return architecture, {NAME: architecture} | {f"{architecture}.{k}": v for k, v in about.items()}


def _architecture(config: ModelConfig) -> str:
    if config.position == "learned":
        return "gpt2"
    if config.qk_norm:
        return "qwen3"
    if config.unturned_every is not None:
        return "smollm3"
    return "qwen2" if config.has_qkv_bias and not config.bias else "llama"


def _require_known(config: ModelConfig, architecture: str) -> None:
    facts = {
        **dataclasses.asdict(config),
        "n_kv_heads": config.kv_heads,
        "d_head": config.head_width,
        "qkv_bias": config.has_qkv_bias,
        "rope_scaling": config.rope_scaling and config.rope_scaling.kind,
    }
    wrong = {name: value for name, value in _demands(config, architecture).items() if facts[name] != value}
    if wrong:
        has = ", ".join(f"{name}={facts[name]!r}" for name in wrong)
        needs = ", ".join(f"{name}={value!r}" for name, value in wrong.items())
        raise UserError(
            f"llama.cpp computes no model with {has}, so a GGUF file cannot hold this one: the nearest "
            f"architecture, {architecture}, has {needs}. Train a model with these, such as --preset llama."
        )


def _demands(config: ModelConfig, architecture: str) -> dict[str, Any]:
    """The settings that llama.cpp's architecture has no choice of."""
    demands = dict(GPT2 if architecture == "gpt2" else LLAMA)
    if architecture == "gpt2":
        demands["n_kv_heads"] = config.n_heads
    if architecture == "gpt2" or config.has_qkv_bias:  # its vectors have d_model numbers there
        demands["d_head"] = config.d_model / config.n_heads
    if architecture in ("qwen3", "smollm3"):
        demands |= {"bias": False, "qkv_bias": False}
    demands["unturned_every"] = SMOLLM3_UNTURNED if architecture == "smollm3" else None
    if architecture != "llama" and config.rope_scaling and config.rope_scaling.kind == "llama3":
        demands["rope_scaling"] = None
    return demands


def _rotary_keys(config: ModelConfig) -> dict[str, Any]:
    about: dict[str, Any] = {
        "attention.head_count_kv": config.kv_heads,
        "attention.key_length": config.head_width,
        "attention.value_length": config.head_width,
        "rope.dimension_count": config.head_width,
        "rope.freq_base": config.rope_base,
    }
    if config.rope_scaling is not None and config.rope_scaling.kind == "linear":
        about |= {"rope.scaling.type": "linear", "rope.scaling.factor": config.rope_scaling.factor}
    return about
