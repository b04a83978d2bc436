"""What a transformer can be, and the presets: every choice by name, checked once, explained in words."""

import dataclasses
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np

from handgrad.errors import UserError, as_whole, require_known, require_number, shown
from handgrad.ops.activation import Elementwise as Activation

Position = Literal["sinusoidal", "learned", "rope"]
Norm = Literal["layer_norm", "rms_norm"]
NormPlacement = Literal["post", "pre"]
CHOICES: dict[str, tuple[str, ...]] = {
    "position": get_args(Position),
    "norm": get_args(Norm),
    "norm_placement": get_args(NormPlacement),
    "activation": get_args(Activation),
}


MOST = (1 << 31) - 1
"""The largest number accepted; anything larger is taken for a mistake."""


def _count(name: str, value: Any) -> int:
    """`value`, of any integer type, as a whole number from 1."""
    whole = as_whole(value)
    if whole is None or not 1 <= whole <= MOST:
        raise UserError(
            f"{name} counts something, so it must be a whole number from 1 to {MOST}; got {shown(value)}."
        )
    return whole


def _number(name: str, value: Any) -> float:
    """`value`, of any number's type, as a finite float."""
    number = require_number(name, value)
    if not abs(number) < MOST:  # False for NaN
        raise UserError(f"{name} must be finite, and below {MOST}; got {shown(value)}.")
    return float(number)


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
    dropout: float = 0.0
    """Share of activations that training sets to zero."""
    scale_embedding: bool = False
    """Whether embeddings are multiplied by sqrt(d_model), as in the original transformer."""
    rope_base: float = 10_000.0
    """The slowest pair of a head turns about once in 2 pi `rope_base` positions."""

    def __post_init__(self) -> None:
        for name in ("vocab_size", "context_length", "n_layers", "n_heads", "d_model", "n_kv_heads", "d_ff"):
            if getattr(self, name) is not None or name not in ("n_kv_heads", "d_ff"):
                object.__setattr__(self, name, _count(name, getattr(self, name)))
        for name, choices in CHOICES.items():
            require_known(name, getattr(self, name), choices)
        for name in ("gated", "qk_norm", "tied", "bias", "scale_embedding"):
            if not isinstance(getattr(self, name), bool | np.bool_):
                raise UserError(f"{name} is either true or false; got {shown(getattr(self, name))}.")
            object.__setattr__(self, name, bool(getattr(self, name)))
        for name in ("dropout", "norm_eps", "rope_base"):
            object.__setattr__(self, name, _number(name, getattr(self, name)))
        if self.d_model % self.n_heads:
            better = -(-self.d_model // self.n_heads) * self.n_heads
            raise UserError(
                f"d_model must be a multiple of n_heads; got d_model={self.d_model}, "
                f"n_heads={self.n_heads}. Try d_model={better}."
            )
        if self.n_heads % self.kv_heads:
            raise UserError(
                f"n_heads must be a multiple of n_kv_heads, so that heads can share evenly; got "
                f"n_heads={self.n_heads}, n_kv_heads={self.n_kv_heads}. Try n_kv_heads=1 or {self.n_heads}."
            )
        if self.position == "rope" and self.d_head % 2:
            raise UserError(
                f"Rotary positions turn pairs, so d_model / n_heads must be even; got {self.d_head}. "
                f"Try d_model={self.n_heads * (self.d_head + 1)}."
            )
        if not 0.0 <= self.dropout < 1.0:
            raise UserError(f"dropout is a share, at least 0 and below 1; got {self.dropout}. Try 0.1.")
        if not self.norm_eps > 0.0:
            raise UserError(f"norm_eps must be above zero; got {self.norm_eps}. Try 1e-5.")
        if not self.rope_base > 1.0:
            raise UserError(f"rope_base must be above one; got {self.rope_base}. Try 10000.")

    @property
    def d_head(self) -> int:
        """Width of one head."""
        return self.d_model // self.n_heads

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
