"""Writing on the kernels: texts in progress, one compiled call for what is read at once, on all cores."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from handgrad import parameters as p
from handgrad import tree
from handgrad.engines import cpu_cache, cpu_weights, parallel
from handgrad.engines import texts as in_progress
from handgrad.engines.cpu_weights import Blocks
from handgrad.kernels.arena import aligned, round_up
from handgrad.kernels.writing import (
    activation,
    attention_byte_tiles,
    attention_tiles,
    barrier,
    forward,
    kept,
    tiles,
    vectors,
)
from handgrad.kernels.writing.arrays import BYTE_TILES, Kept, Norms, Room, Rows, Settings, Small
from handgrad.kernels.writing.blocks import BLOCK, NOTES
from handgrad.kernels.writing.products import room_of_products
from handgrad.kernels.writing.vectors import WIDTH
from handgrad.model.config import ModelConfig
from handgrad.model.init import require_weights_of
from handgrad.ops import rope, sinusoidal_position

MOST_ROWS = 128
"""Tokens read at once: a long prompt takes several calls."""
BYTES_A_THREAD = 8 << 20
"""Of weights times tokens, for which a thread pays: another one takes 100 microseconds to wake, and `nano`
writes half as many tokens again alone."""
NONE = np.zeros((0, 0), np.float32)


class Decoding:
    """Texts in progress, with the keys and values of their tokens so far: the KV cache.

    The weights are copied, packed as they are read, in `precision` (see `cpu_weights`). `cache` is what keys
    and values are kept in (see `cpu_cache`).
    """

    def __init__(
        self,
        config: ModelConfig,
        weights: p.Transformer,
        precision: str = "float32",
        n_texts: int = 1,
        capacity: int | None = None,
        *,
        blocks: Blocks = None,
        cache: str = "auto",
        n_threads: int | None = None,
    ):
        require_weights_of(config, weights)
        n_texts, self.capacity = in_progress.require_room(config, n_texts, capacity)
        self.config = config
        self.precision = cpu_weights.chosen(config, precision, tree.size(weights), blocks)
        self.lengths = np.zeros(n_texts, np.int64)
        self.packed = cpu_weights.pack(weights, self.precision, blocks)
        self.n_threads = n_threads or parallel.n_cores()
        self._place = barrier.meeting_place()
        kind = cpu_cache.kind_for(weights, self.precision, cache)
        sizes = cpu_cache.layout(config, n_texts, self.capacity, kind)
        self._keys_and_values, cache_panels = cpu_cache.empty(sizes)
        self._kept = Kept(
            rows=Rows(*np.zeros((len(Rows._fields), MOST_ROWS), np.int64)),
            matrices=self.packed.matrices,
            cache=cache_panels,
            small=_small(config, weights, self.packed.biases),
            room=_room(config, self.n_threads, self.capacity, kind),
            settings=_settings(config),
            place=self._place.ctypes.data,
            arrivals=aligned(8 * self.n_threads, np.int64).reshape(-1, 8),
        )
        self._logits_width = round_up(config.vocab_size, WIDTH)
        self._table = kept.table(self._kept)
        self._at = self._table.ctypes.data

    def read(
        self, pieces: Sequence[np.ndarray], texts: Sequence[int] | None = None, *, every: bool = False
    ) -> np.ndarray:
        """Read each piece at the end of its text; return the logits (n, V) of what follows, as `Decoding` in
        `engine` has it."""
        if len(pieces) == 1 and (logits := self._read_token(pieces[0], texts)) is not None:
            return logits
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

    def _read_token(self, piece: Any, texts: Sequence[int] | None) -> np.ndarray | None:
        """The logits of one token; None for anything else. Looking closely at it would take longer."""
        text = 0 if texts is None else texts[0] if len(texts) == 1 else -1
        token_id = piece.item() if isinstance(piece, np.ndarray) and piece.shape == (1,) else -1
        if type(text) is not int or type(token_id) is not int:
            return None
        if not (0 <= text < len(self.lengths) and 0 <= token_id < self.config.vocab_size):
            return None
        length = self.lengths[text]
        if length >= self.capacity:
            return None
        rows, logits = self._kept.rows, self._room_for_logits(1)
        rows.token_ids[0], rows.texts[0], rows.positions[0], rows.last[0] = token_id, text, length, 0
        self._call(logits, 1, 1)
        self.lengths[text] = length + 1
        return logits[:, : self.config.vocab_size]

    def _room_for_logits(self, n: int) -> np.ndarray:
        return np.empty((n, self._logits_width), np.float32)

    def _read_rows(
        self, token_ids: np.ndarray, texts: np.ndarray, positions: np.ndarray, asked: np.ndarray
    ) -> np.ndarray:
        """The logits of the rows `asked` for, as many rows at once as there is room for."""
        logits, rows = self._room_for_logits(len(asked)), self._kept.rows
        for first in range(0, len(token_ids), MOST_ROWS):
            part = slice(first, first + MOST_ROWS)
            low, high = np.searchsorted(asked, (part.start, part.stop))
            n, n_last = len(token_ids[part]), high - low
            rows.token_ids[:n], rows.texts[:n], rows.positions[:n] = (
                token_ids[part],
                texts[part],
                positions[part],
            )
            rows.last[:n_last] = asked[low:high] - first
            self._call(logits[low:high], n, n_last)
        return logits[:, : self.config.vocab_size]

    def _call(self, logits: np.ndarray, n_rows: int, n_last: int) -> None:
        """The compiled call, by as many threads as pay; this one is the first of them."""
        n = min(self.n_threads, self.packed.n_bytes * n_rows // BYTES_A_THREAD)
        if n <= 1:
            forward.read(logits, self._at, n_rows, n_last, 0, 1)
            return

        def work(worker: int, n_workers: int) -> None:
            forward.read(logits, self._at, n_rows, n_last, worker, n_workers)

        barrier.open_place(self._place)
        parallel.as_team(work, n, lambda: barrier.give_up(self._place))


def _small(config: ModelConfig, weights: p.Transformer, biases: np.ndarray) -> Small:
    blocks = weights.blocks
    alphas = [np.ravel([] if b.feed_forward.alpha is None else b.feed_forward.alpha) for b in blocks]
    S, K = config.context_length, config.head_width
    positions, cos, sin = NONE, NONE, NONE
    if config.position == "learned":
        positions = _float32(weights.positions)
    elif config.position == "sinusoidal":
        positions = _float32(sinusoidal_position.table(S, config.d_model))
    else:
        _, turned = rope.forward(np.zeros((S, K)), base=config.rope_base, scaling=config.rope_scaling)
        cos, sin = _float32(turned.cos), _float32(turned.sin)
    return Small(
        norm1=_norms([b.norm1 for b in blocks]),
        query_norm=_norms([b.attention.query_norm for b in blocks]),
        key_norm=_norms([b.attention.key_norm for b in blocks]),
        norm2=_norms([b.norm2 for b in blocks]),
        last_norm=_norms([weights.norm]),
        alpha=_float32(np.stack(alphas)),
        biases=biases,
        embedding=_float32(weights.embedding),
        positions=positions,
        cos=cos,
        sin=sin,
    )


def _settings(config: ModelConfig) -> Settings:
    key_column = round_up(config.n_heads * config.head_width, WIDTH)
    return Settings(
        n_layers=config.n_layers,
        n_heads=config.n_heads,
        n_kv_heads=config.kv_heads,
        d_head=config.head_width,
        d_model=config.d_model,
        ff_width=config.ff_width,
        key_column=key_column,
        value_column=key_column + round_up(config.kv_heads * config.head_width, WIDTH),
        up_column=round_up(config.ff_width, WIDTH) if config.gated else 0,
        scale=np.float32(config.d_model**0.5 if config.scale_embedding else 1.0),
        eps=np.float32(config.norm_eps),
        centred=config.norm == "layer_norm",
        before=config.norm_placement == "pre",
        gated=config.gated,
        activation=activation.ACTIVATIONS.index(config.activation),
        unturned_every=config.unturned_every or 0,
    )


def _room(config: ModelConfig, n_workers: int, capacity: int, kind: int) -> Room:
    R, W, D, K, width = (
        MOST_ROWS,
        n_workers,
        config.d_model,
        config.head_width,
        config.n_heads * config.head_width,
    )
    settings = _settings(config)
    inside = settings.up_column + config.ff_width
    wide = round_up(max(settings.value_column + config.kv_heads * K, inside), WIDTH)
    operand = round_up(max(D, width, config.ff_width), tiles.SIDE)

    on_tiles = attention_tiles.MOST_ROWS if cpu_cache.is_on_tiles(kind) else 0
    Q, unit = on_tiles or vectors.MOST_ROWS, cpu_cache.unit(kind)

    def new(*shape: int, dtype: type = np.float32) -> np.ndarray:
        return aligned(int(np.prod(shape)), dtype).reshape(shape)

    halves = new(W, R, operand, dtype=np.uint16)
    halves[:] = 0  # rows that are multiplied with others and not looked at are numbers, not NaN
    return Room(
        x=new(R, D),
        y=new(R, round_up(D, WIDTH)),
        wide=new(R, wide),
        mixed=new(R, width),
        normed=new(W, R, D),
        whole=new(W, R * (operand // BLOCK) * (BLOCK + NOTES), dtype=np.uint8),
        halves=halves,
        tile=new(W, room_of_products(operand)),
        queries=new(W, Q, K),
        heads=new(W, Q, round_up(K, unit)),
        scores=new(W, Q, round_up(capacity, unit)),
        rounded_queries=new(W, on_tiles, round_up(K, unit), dtype=np.uint16),
        numerators=new(W, on_tiles, round_up(capacity, unit), dtype=np.uint16),
        widened=new(
            W, attention_byte_tiles.room(round_up(K, unit)) if kind == BYTE_TILES else 0, dtype=np.uint16
        ),
        weights=new(W, Q),
        queue=new(W, Q, 2, dtype=np.int64),
    )


def _norms(layers: list[Any]) -> Norms:
    """Scales and shifts; of width 0 where there are none."""
    gammas = [[] if norm is None else norm.gamma for norm in layers]
    betas = [[] if getattr(norm, "beta", None) is None else norm.beta for norm in layers]
    return Norms(_float32(np.stack(gammas)), _float32(np.stack(betas)))


def _float32(array: Any) -> np.ndarray:
    return np.ascontiguousarray(array, np.float32)
