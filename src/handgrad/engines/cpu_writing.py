"""Writing on the kernels: texts in progress, one compiled call for what is read at once."""

from typing import Any

import numpy as np

from handgrad import parameters as p
from handgrad.kernels import few_rows, writing
from handgrad.kernels.arena import aligned, round_up
from handgrad.kernels.writing_arrays import Affine, Cache, Ends, Layers, Norms, Rows, Scratch, Settings
from handgrad.model.config import ModelConfig
from handgrad.model.init import require_weights_of
from handgrad.model.inputs import require_as_many_texts, require_token_ids
from handgrad.ops import rope, sinusoidal_position

MOST_ROWS = 64
"""Tokens read at once: a long prompt takes several calls."""
NONE = np.zeros((0, 0), np.float32)


class Decoding:
    """Texts in progress, with the keys and values of their tokens so far: the KV cache.

    The weights are copied, packed as they are read: float32, or bfloat16, which are half as many bytes and
    rounded to 8 bits.
    """

    def __init__(self, config: ModelConfig, weights: p.Transformer, precision: str = "float32"):
        require_weights_of(config, weights)
        self.config = config
        dtype: type = np.uint16 if precision == "bfloat16" else np.float32
        self._layers = _layers(config, weights, dtype)
        self._ends = _ends(config, weights, dtype)
        self._settings = _settings(config)
        self._scratch = _scratch(config)
        self.forget()

    def forget(self) -> None:
        """Empty the cache."""
        self.n_tokens = 0
        self._cache: Cache | None = None

    def read(self, token_ids: np.ndarray) -> np.ndarray:
        """Read more tokens (T,), or (B, T) of B texts; return the logits (V,) or (B, V) of what is next."""
        texts = token_ids[None] if token_ids.ndim == 1 else token_ids
        require_token_ids(self.config, texts, self.n_tokens)
        require_as_many_texts(len(texts), self._cache.keys.shape[1] if self._cache else None)
        if self._cache is None:
            self._cache = _empty_cache(self.config, len(texts))
        logits = np.empty((len(texts), round_up(self.config.vocab_size, few_rows.WIDTH)), np.float32)
        for first in range(0, texts.shape[1], MOST_ROWS):
            self._read_columns(logits, self._cache, texts[:, first : first + MOST_ROWS])
        return logits[:, : self.config.vocab_size].reshape(*token_ids.shape[:-1], -1)

    def _read_columns(self, logits: np.ndarray, cache: Cache, token_ids: np.ndarray) -> None:
        """The next tokens of all texts, as many texts at once as there is room for."""
        B, T = token_ids.shape
        at_once = max(1, MOST_ROWS // T)
        positions = np.arange(self.n_tokens, self.n_tokens + T)
        for first in range(0, B, at_once):
            part = token_ids[first : first + at_once]
            n = len(part)
            rows = Rows(
                np.ascontiguousarray(part, np.int64).reshape(-1),
                np.repeat(np.arange(first, first + n), T),
                np.tile(positions, n),
                np.arange(T - 1, n * T, T),
            )
            out = logits[first : first + n]
            writing.read(out, rows, cache, self._layers, self._ends, self._scratch, self._settings)
        self.n_tokens += T


def _layers(config: ModelConfig, weights: p.Transformer, dtype: type) -> Layers:
    blocks = weights.blocks
    attention, feed_forward = [b.attention for b in blocks], [b.feed_forward for b in blocks]
    up = [[each.up] if each.gate is None else [each.gate, each.up] for each in feed_forward]
    alphas = [np.ravel([] if each.alpha is None else each.alpha) for each in feed_forward]
    return Layers(
        norm1=_norms([b.norm1 for b in blocks]),
        attend=_affine([[a.query, a.key, a.value] for a in attention], dtype),
        query_norm=_norms([a.query_norm for a in attention]),
        key_norm=_norms([a.key_norm for a in attention]),
        output=_affine([[a.output] for a in attention], dtype),
        norm2=_norms([b.norm2 for b in blocks]),
        up=_affine(up, dtype),
        alpha=np.stack(alphas).astype(np.float32),
        down=_affine([[each.down] for each in feed_forward], dtype),
    )


def _ends(config: ModelConfig, weights: p.Transformer, dtype: type) -> Ends:
    S, K = config.context_length, config.head_width
    positions, cos, sin = NONE, NONE, NONE
    if config.position == "learned":
        positions = _float32(weights.positions)
    elif config.position == "sinusoidal":
        positions = _float32(sinusoidal_position.table(S, config.d_model))
    else:
        _, turned = rope.forward(np.zeros((S, K)), base=config.rope_base, scaling=config.rope_scaling)
        cos, sin = _float32(turned.cos), _float32(turned.sin)
    head = p.Linear(weights.embedding.T) if weights.head is None else weights.head
    norm = _norms([weights.norm])
    return Ends(_float32(weights.embedding), positions, cos, sin, norm, _affine([[head]], dtype))


def _settings(config: ModelConfig) -> Settings:
    return Settings(
        n_heads=config.n_heads,
        n_kv_heads=config.kv_heads,
        d_head=config.head_width,
        ff_width=config.ff_width,
        scale=np.float32(config.d_model**0.5 if config.scale_embedding else 1.0),
        eps=np.float32(config.norm_eps),
        centred=config.norm == "layer_norm",
        before=config.norm_placement == "pre",
        gated=config.gated,
        activation=writing.ACTIVATIONS.index(config.activation),
    )


def _scratch(config: ModelConfig) -> Scratch:
    D, inside = config.d_model, (2 if config.gated else 1) * config.ff_width
    heads, keys = (n * config.head_width for n in (config.n_heads, config.kv_heads))
    widest = max(heads + 2 * keys, inside)
    widths = D, D, heads, round_up(widest, few_rows.WIDTH), round_up(D, few_rows.WIDTH)
    x, h, attended, wide, y = (aligned(MOST_ROWS * width).reshape(MOST_ROWS, width) for width in widths)
    return Scratch(x, h, attended, wide, y, aligned(config.context_length))


def _empty_cache(config: ModelConfig, n_texts: int) -> Cache:
    shape = config.n_layers, n_texts, config.kv_heads, config.context_length, config.head_width
    return Cache(np.empty(shape, np.float32), np.empty(shape, np.float32))


def _affine(layers: list[list[p.Linear]], dtype: type) -> Affine:
    """Of each layer, the given weights side by side."""
    biases = [[np.empty(0) if w.bias is None else w.bias for w in side_by_side] for side_by_side in layers]
    weights = (np.concatenate([w.weight for w in each], axis=1) for each in layers)
    panels = np.stack([few_rows.packed(weight, dtype) for weight in weights])
    return Affine(panels, _float32(np.stack([np.concatenate(each) for each in biases])))


def _norms(layers: list[Any]) -> Norms:
    """Scales and shifts; of width 0 where there are none."""
    gammas = [[] if norm is None else norm.gamma for norm in layers]
    betas = [[] if getattr(norm, "beta", None) is None else norm.beta for norm in layers]
    return Norms(_float32(np.stack(gammas)), _float32(np.stack(betas)))


def _float32(array: Any) -> np.ndarray:
    return np.ascontiguousarray(array, np.float32)
