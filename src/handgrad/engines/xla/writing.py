"""Writing on the device: texts in progress, whose keys and values stay there.

The cache has the context's whole length from the beginning, so what is compiled for one token serves for all
of them. A prompt is read in one go, filled up to a power of two, and few lengths are compiled.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from handgrad import parameters as p
from handgrad.engines.xla import device
from handgrad.engines.xla import weights as stacking
from handgrad.engines.xla.twins import Twins
from handgrad.engines.xla.twins.cached_attention import CachedAttention, from_row
from handgrad.model.block import Block
from handgrad.model.config import ModelConfig
from handgrad.model.init import require_weights_of
from handgrad.model.inputs import require_as_many_texts, require_token_ids
from handgrad.ops import sinusoidal_position
from handgrad.shapes import Array, Float, Int


class Cache(NamedTuple):
    """Of all layers, along a first axis: (L, B, G, S, K)."""

    keys: Any
    values: Any


class Decoding:
    """Texts in progress, with the keys and values of their tokens so far: the KV cache."""

    def __init__(
        self,
        config: ModelConfig,
        weights: p.Transformer,
        precision: str = "auto",
        compiling: Callable[[str], object] = lambda function: None,
    ):
        """`compiling` is told what is about to be compiled."""
        require_weights_of(config, weights)
        self.config, self.dtype = config, device.dtype(precision)
        self._compiling = compiling
        self._compiled: set[tuple[int, ...]] = set()
        stacked = stacking.to_device(weights, stacked=True, dtype=np.float32)
        self.weights = jax.jit(lambda weights: stacking.narrowed(weights, self.dtype))(stacked)
        self._read = device.compiled(self._logits, self.dtype, donate_argnums=1)
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
        cache = self._cache or self._empty(len(texts))
        n = texts.shape[1]
        room = self.config.context_length - self.n_tokens
        filled = np.zeros((len(texts), min(room, 1 << (n - 1).bit_length())), np.int32)
        filled[:, :n] = texts
        if filled.shape not in self._compiled:
            self._compiled.add(filled.shape)
            self._compiling(f"reading {filled.shape[1]}")
        logits, self._cache = self._read(self.weights, cache, filled, np.int32(self.n_tokens), np.int32(n))
        self.n_tokens += n
        return np.asarray(logits).reshape(*token_ids.shape[:-1], -1)

    def _empty(self, n_texts: int) -> Cache:
        config = self.config
        shape = config.n_layers, n_texts, config.kv_heads, config.context_length, config.head_width
        return Cache(jnp.zeros(shape, self.dtype), jnp.zeros(shape, self.dtype))

    def _logits(
        self, weights: Any, cache: Cache, token_ids: Int[Array, "B T"], start: Array, n: Array
    ) -> tuple[Float[Array, "B V"], Cache]:
        """What is compiled. Of `token_ids` the first `n` count; what the others write is written over."""
        ops, config = _Twins(start), self.config
        block: Any = Block(config, ops)
        scale = config.d_model**0.5 if config.scale_embedding else 1.0
        x, _ = ops.embedding.forward(weights.embedding, token_ids, scale=scale)
        x = x + self._positions(weights, start, token_ids.shape[1]).astype(x.dtype)

        def run(x: Array, layer: Any) -> tuple[Array, Cache]:
            layer_weights, keys, values = layer
            x, saved = block.forward(x, layer_weights, past=(keys, values))
            return x, Cache(*saved.attention)

        x, cache = lax.scan(run, x, (weights.blocks, *cache))
        x = lax.dynamic_index_in_dim(x, n - 1, axis=1, keepdims=True)
        if weights.norm is not None:
            x, _ = block.norm(x, weights.norm)
        if weights.head is None:
            logits, _ = ops.unembedding.forward(x, weights.embedding)
        else:
            logits, _ = ops.linear.forward(x, *weights.head)
        return logits[:, 0].astype(jnp.float32), cache

    def _positions(self, weights: Any, start: Array, n: int) -> Array:
        """What is added to the embeddings of `n` tokens."""
        if self.config.position == "learned":
            return from_row(weights.positions, start, n)
        if self.config.position == "sinusoidal":
            table = sinusoidal_position.table(self.config.context_length, self.config.d_model)
            return from_row(table, start, n)
        return jnp.zeros((), jnp.float32)


class _Twins(Twins):
    """The ops of training, but for attention."""

    def __init__(self, start: Array):
        super().__init__()
        self.multi_head_attention: Any = CachedAttention(start)
