"""What a transformer can be, and the presets: every choice by name, checked once, explained in words."""

import dataclasses
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np

from handgrad.errors import UserError, require_count, require_finite, require_known, shown
from handgrad.ops.activation import Elementwise as Activation
from handgrad.ops.rope import RopeScaling

Position = Literal["sinusoidal", "learned", "rope"]
Norm = Literal["layer_norm", "rms_norm"]
NormPlacement = Literal["post", "pre"]
CHOICES: dict[str, tuple[str, ...]] = {
    "position": get_args(Position),
    "norm": get_args(Norm),
    "norm_placement": get_args(NormPlacement),
    "activation": get_args(Activation),
}
OPTIONAL = ("n_kv_heads", "d_ff", "d_head", "unturned_every")
"""Counts that may be None."""


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """The architecture of one transformer. Widths begin with `d_`, counts with `n_`; lengths are in tokens.

    Raises `UserError` where the numbers do not fit together.
    """

    vocab_size: int = 65
    """Tokens the model can tell apart."""
    context_length: int = 64
    """The most tokens attended to."""
    n_layers: int = 4
    """Blocks, one after the other."""
    n_heads: int = 4
    """Attention heads a block."""
    n_kv_heads: int | None = None
    """Key-value heads, shared by groups of query heads; by default as many as `n_heads`."""
    d_model: int = 128
    """Width of the residual stream."""
    d_head: int | None = None
    """Width of one head; by default d_model / n_heads."""
    d_ff: int | None = None
    """Width inside the feed-forward block; by default 4 d_model; gated, 8/3 of it, rounded up to 32."""
    position: Position = "learned"
    """How positions become known: added to the embeddings, or, `rope`, by turning queries and keys."""
    norm: Norm = "layer_norm"
    norm_placement: NormPlacement = "pre"
    """Before each part of a block, or after its residual sum, as in the original transformer."""
    norm_eps: float = 1e-5
    """Added to the variance under a norm's root."""
    activation: Activation = "gelu"
    gated: bool = False
    """Whether the feed-forward block multiplies what it widens by an activated gate."""
    qk_norm: bool = False
    """Whether each head's queries and keys are normalized (RMSNorm, learned scale)."""
    tied: bool = True
    """Whether the output head is the embedding, transposed."""
    bias: bool = True
    """Whether affine layers and layer norms have a bias."""
    qkv_bias: bool | None = None
    """Whether queries, keys and values have a bias; by default as the other layers do."""
    dropout: float = 0.0
    """Share of activations that training sets to zero."""
    scale_embedding: bool = False
    """Whether embeddings are multiplied by sqrt(d_model), as in the original transformer."""
    rope_base: float = 10_000.0
    """The slowest pair of a head turns about once in 2 pi `rope_base` positions."""
    rope_scaling: RopeScaling | None = None
    """How pairs are slowed down for a longer context than was learned; a table of its fields will do."""
    unturned_every: int | None = None
    """With rope: a layer whose number, from 1, is a multiple of this turns nothing and knows no positions."""

    def __post_init__(self) -> None:
        self._require_kinds()
        if self.d_head is None and self.d_model % self.n_heads:
            better = -(-self.d_model // self.n_heads) * self.n_heads
            raise UserError(
                f"d_model must be a multiple of n_heads; got d_model={self.d_model}, "
                f"n_heads={self.n_heads}. Try d_model={better}, or name the width of a head: d_head=64."
            )
        if self.n_heads % self.kv_heads:
            raise UserError(
                f"n_heads must be a multiple of n_kv_heads, so that heads can share evenly; got "
                f"n_heads={self.n_heads}, n_kv_heads={self.n_kv_heads}. Try n_kv_heads=1 or {self.n_heads}."
            )
        if self.position == "rope" and self.head_width % 2:
            wider = self.head_width + 1
            remedy = f"d_model={self.n_heads * wider}" if self.d_head is None else f"d_head={wider}"
            raise UserError(
                f"Rotary positions turn pairs, so the width of a head must be even; got {self.head_width}. "
                f"Try {remedy}."
            )
        for name in ("rope_scaling", "unturned_every"):
            if getattr(self, name) is not None and self.position != "rope":
                raise UserError(
                    f"{name} is about rotary positions; got position={self.position}. Take position=rope, or "
                    f"leave {name} out."
                )
        if not 0.0 <= self.dropout < 1.0:
            raise UserError(f"dropout is a share, at least 0 and below 1; got {self.dropout}. Try 0.1.")
        if not self.norm_eps > 0.0:
            raise UserError(f"norm_eps must be above zero; got {self.norm_eps}. Try 1e-5.")
        if not self.rope_base > 1.0:
            raise UserError(f"rope_base must be above one; got {self.rope_base}. Try 10000.")

    def _require_kinds(self) -> None:
        """Every field becomes what it is annotated as; `UserError` where that cannot be."""
        counts = "vocab_size", "context_length", "n_layers", "n_heads", "d_model", *OPTIONAL
        for name in counts:
            if getattr(self, name) is not None or name not in OPTIONAL:
                object.__setattr__(self, name, require_count(name, getattr(self, name)))
        for name, choices in CHOICES.items():
            require_known(name, getattr(self, name), choices)
        for name in ("gated", "qk_norm", "tied", "bias", "qkv_bias", "scale_embedding"):
            value = getattr(self, name)
            if value is None and name == "qkv_bias":
                continue
            if not isinstance(value, bool | np.bool_):
                raise UserError(f"{name} is either true or false; got {shown(value)}.")
            object.__setattr__(self, name, bool(value))
        for name in ("dropout", "norm_eps", "rope_base"):
            object.__setattr__(self, name, require_finite(name, getattr(self, name)))
        object.__setattr__(self, "rope_scaling", RopeScaling.of(self.rope_scaling))

    @property
    def head_width(self) -> int:
        """Width of one head."""
        return self.d_head or self.d_model // self.n_heads

    @property
    def has_qkv_bias(self) -> bool:
        """Whether queries, keys and values have a bias."""
        return self.bias if self.qkv_bias is None else self.qkv_bias

    def turns(self, layer: int) -> bool:
        """Whether the layer, its number from 0, turns queries and keys by their positions."""
        return self.position == "rope" and not (
            self.unturned_every and (layer + 1) % self.unturned_every == 0
        )

    @property
    def kv_heads(self) -> int:
        """How many key-value heads there are."""
        return self.n_kv_heads or self.n_heads

    @property
    def ff_width(self) -> int:
        """Width inside the feed-forward block."""
        if self.d_ff is not None:
            return self.d_ff
        return -(-8 * self.d_model // (3 * 32)) * 32 if self.gated else 4 * self.d_model

    def replace(self, **changes: Any) -> "ModelConfig":
        """The same configuration with some fields changed, checked anew."""
        for name in changes:
            require_known("model option", name, (field.name for field in dataclasses.fields(self)))
        return dataclasses.replace(self, **changes)


PRESETS: dict[str, ModelConfig] = {
    # the transformer of the formulas, at the size of nano so that the two can be compared
    "paper": ModelConfig(
        position="sinusoidal", norm_placement="post", activation="relu", scale_embedding=True, dropout=0.1
    ),
    # nanoGPT's CPU recipe: README of karpathy/nanoGPT, "I only have a macbook" (first weights: see init.py)
    "nano": ModelConfig(bias=False),
    # nanoGPT's config/train_shakespeare_char.py
    "baby": ModelConfig(context_length=256, n_layers=6, n_heads=6, d_model=384, dropout=0.2, bias=False),
    # what learns most in the least time: see docs/training.md. `training.dial` chooses its size. The shape of
    # Qwen3 (2025), so that other programs run it
    "quick": ModelConfig(
        context_length=128, d_model=256, position="rope", norm="rms_norm", qk_norm=True, activation="silu",
        gated=True, bias=False,
    ),
    # GPT-2 (Radford et al., 2019), 124M parameters
    "gpt2": ModelConfig(
        vocab_size=50_257, context_length=1024, n_layers=12, n_heads=12, d_model=768, activation="gelu_tanh",
        dropout=0.1,
    ),
    # the shape of Llama 2 (Touvron et al., 2023) with grouped heads, at the size of baby
    "llama": ModelConfig(
        context_length=256, n_layers=6, n_heads=6, n_kv_heads=2, d_model=384, position="rope",
        norm="rms_norm", activation="silu", gated=True, bias=False,
    ),
}  # fmt: skip


def preset(name: str) -> ModelConfig:
    """The preset of that name; `UserError` lists them where there is none."""
    require_known("preset", name, PRESETS)
    return PRESETS[name]
