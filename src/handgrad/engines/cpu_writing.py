"""Writing on the kernels: texts in progress, one compiled call for what is read at once."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from handgrad import parameters as p
from handgrad.engines import texts as in_progress
from handgrad.kernels import few_rows, writing
from handgrad.kernels.arena import aligned, round_up
from handgrad.kernels.writing_arrays import Affine, Cache, Ends, Layers, Norms, Rows, Scratch, Settings
from handgrad.model.config import ModelConfig
from handgrad.model.init import require_weights_of
from handgrad.ops import rope, sinusoidal_position

MOST_ROWS = 64
"""Tokens read at once: a long prompt takes several calls."""
NONE = np.zeros((0, 0), np.float32)


class Decoding:
    """Texts in progress, with the keys and values of their tokens so far: the KV cache.

    The weights are copied, packed as they are read: float32, or bfloat16, which are half as many bytes and
    rounded to 8 bits.
    """

    def __init__(
        self,
        config: ModelConfig,
        weights: p.Transformer,
        precision: str = "float32",
        n_texts: int = 1,
        capacity: int | None = None,
    ):
        require_weights_of(config, weights)
        n_texts, self.capacity = in_progress.require_room(config, n_texts, capacity)
        self.config = config
        self.lengths = np.zeros(n_texts, np.int64)
        dtype: type = np.uint16 if precision == "bfloat16" else np.float32
        self._layers = _layers(config, weights, dtype)
        self._ends = _ends(config, weights, dtype)
        self._settings = _settings(config)
        self._scratch = _scratch(config)
        self._cache = _empty_cache(config, n_texts, self.capacity)

    def read(
        self, pieces: Sequence[np.ndarray], texts: Sequence[int] | None = None, *, every: bool = False
    ) -> np.ndarray:
        """Read each piece at the end of its text; return the logits (n, V) of what follows, as `Decoding` in
        `engine` has it."""
        pieces, numbers = in_progress.require_pieces(self.config, pieces, texts, self.lengths, self.capacity)
        sizes = np.array([len(piece) for piece in pieces])
        ends = np.cumsum(sizes)
        positions = np.arange(ends[-1]) + np.repeat(self.lengths[numbers] - ends + sizes, sizes)
        asked = np.arange(ends[-1]) if every else ends - 1
        token_ids = np.concatenate(pieces).astype(np.int64)
        logits = self._read_rows(token_ids, np.repeat(numbers, sizes), positions, asked)
        self.lengths[numbers] += sizes
        return logits

    def cut(self, text: int, length: int) -> None:
        """Keep the first `length` tokens of a text."""
        in_progress.require_cut(self.lengths, text, length)
        self.lengths[text] = length

    def _read_rows(
        self, token_ids: np.ndarray, texts: np.ndarray, positions: np.ndarray, asked: np.ndarray
    ) -> np.ndarray:
        """The logits of the rows `asked` for, as many rows at once as there is room for."""
        V = self.config.vocab_size
        logits = np.empty((len(asked), round_up(V, few_rows.WIDTH)), np.float32)
        for first in range(0, len(token_ids), MOST_ROWS):
            part = slice(first, first + MOST_ROWS)
            low, high = np.searchsorted(asked, (part.start, part.stop))
            rows = Rows(token_ids[part], texts[part], positions[part], asked[low:high] - first)
            writing.read(
                logits[low:high], rows, self._cache, self._layers, self._ends, self._scratch, self._settings
            )
        return logits[:, :V]


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
        unturned_every=config.unturned_every or 0,
    )


def _scratch(config: ModelConfig) -> Scratch:
    D, inside = config.d_model, (2 if config.gated else 1) * config.ff_width
    heads, keys = (n * config.head_width for n in (config.n_heads, config.kv_heads))
    widest = max(heads + 2 * keys, inside)
    widths = D, D, heads, round_up(widest, few_rows.WIDTH), round_up(D, few_rows.WIDTH)
    x, h, attended, wide, y = (aligned(MOST_ROWS * width).reshape(MOST_ROWS, width) for width in widths)
    return Scratch(x, h, attended, wide, y, aligned(config.context_length))


def _empty_cache(config: ModelConfig, n_texts: int, capacity: int) -> Cache:
    shape = config.n_layers, n_texts, config.kv_heads, capacity, config.head_width
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
