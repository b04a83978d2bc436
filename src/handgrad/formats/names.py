"""What each weight is called: here, in Hugging Face's two families, and in GGUF. One table, read both ways.

Only names: in which order and which rows the numbers stand there is said where they are read and written.
"""

from collections.abc import Iterator
from typing import NamedTuple


class Names(NamedTuple):
    """One weight's name in each format; None where the family has no such weight."""

    gpt2: str | None
    """GPT-2 keeps queries, keys and values in one matrix: their names are the same."""
    llama: str | None
    """Llama, Mistral, Qwen."""
    gguf: str


LAYER = {
    "norm1.gamma": Names("ln_1.weight", "input_layernorm.weight", "attn_norm.weight"),
    "norm1.beta": Names("ln_1.bias", None, "attn_norm.bias"),
    "attention.query.weight": Names("attn.c_attn.weight", "self_attn.q_proj.weight", "attn_q.weight"),
    "attention.query.bias": Names("attn.c_attn.bias", "self_attn.q_proj.bias", "attn_q.bias"),
    "attention.key.weight": Names("attn.c_attn.weight", "self_attn.k_proj.weight", "attn_k.weight"),
    "attention.key.bias": Names("attn.c_attn.bias", "self_attn.k_proj.bias", "attn_k.bias"),
    "attention.value.weight": Names("attn.c_attn.weight", "self_attn.v_proj.weight", "attn_v.weight"),
    "attention.value.bias": Names("attn.c_attn.bias", "self_attn.v_proj.bias", "attn_v.bias"),
    "attention.output.weight": Names("attn.c_proj.weight", "self_attn.o_proj.weight", "attn_output.weight"),
    "attention.output.bias": Names("attn.c_proj.bias", "self_attn.o_proj.bias", "attn_output.bias"),
    "attention.query_norm.gamma": Names(None, "self_attn.q_norm.weight", "attn_q_norm.weight"),
    "attention.key_norm.gamma": Names(None, "self_attn.k_norm.weight", "attn_k_norm.weight"),
    "norm2.gamma": Names("ln_2.weight", "post_attention_layernorm.weight", "ffn_norm.weight"),
    "norm2.beta": Names("ln_2.bias", None, "ffn_norm.bias"),
    "feed_forward.up.weight": Names("mlp.c_fc.weight", "mlp.up_proj.weight", "ffn_up.weight"),
    "feed_forward.up.bias": Names("mlp.c_fc.bias", "mlp.up_proj.bias", "ffn_up.bias"),
    "feed_forward.gate.weight": Names(None, "mlp.gate_proj.weight", "ffn_gate.weight"),
    "feed_forward.gate.bias": Names(None, "mlp.gate_proj.bias", "ffn_gate.bias"),
    "feed_forward.down.weight": Names("mlp.c_proj.weight", "mlp.down_proj.weight", "ffn_down.weight"),
    "feed_forward.down.bias": Names("mlp.c_proj.bias", "mlp.down_proj.bias", "ffn_down.bias"),
}
"""Of layer i, after the prefix: ours is `blocks.i.`."""

OUTSIDE = {
    "embedding": Names("transformer.wte.weight", "model.embed_tokens.weight", "token_embd.weight"),
    "positions": Names("transformer.wpe.weight", None, "position_embd.weight"),
    "norm.gamma": Names("transformer.ln_f.weight", "model.norm.weight", "output_norm.weight"),
    "norm.beta": Names("transformer.ln_f.bias", None, "output_norm.bias"),
    "head.weight": Names("lm_head.weight", "lm_head.weight", "output.weight"),
    "head.bias": Names(None, None, "output.bias"),
}

PREFIX = Names("transformer.h.", "model.layers.", "blk.")
"""Before a layer's number and a dot."""


def theirs(ours: str, family: str) -> str | None:
    """The name in `family`, a field of `Names`, of the weight that we call `ours`; None where it has none."""
    if ours in OUTSIDE:
        return getattr(OUTSIDE[ours], family)
    if not ours.startswith("blocks."):
        return None
    _, layer, part = ours.split(".", 2)
    name = getattr(LAYER[part], family) if part in LAYER else None
    return None if name is None else f"{getattr(PREFIX, family)}{layer}.{name}"


def by_theirs(ours: Iterator[str], family: str) -> dict[str, list[str]]:
    """Our names for each of theirs, in our order: GPT-2's one matrix holds three of ours."""
    table: dict[str, list[str]] = {}
    for name in ours:
        if (their_name := theirs(name, family)) is not None:
            table.setdefault(their_name, []).append(name)
    return table
