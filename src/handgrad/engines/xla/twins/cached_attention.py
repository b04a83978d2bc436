"""Multi-head attention with a KV cache of a fixed length, for compiled functions: shapes do not grow."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from handgrad import ops
from handgrad.engines.xla.twins.multi_head_attention import either, heads, merged
from handgrad.engines.xla.twins.wide import Wide
from handgrad.model.block import Past
from handgrad.ops import linear, rope
from handgrad.ops.rope import RopeScaling
from handgrad.parameters import Linear, RMSNorm
from handgrad.shapes import Array, Float, Int


class CachedAttention:
    """As `ops.multi_head_attention` forward with `past`; instead of `saved` it returns the new past.

    The rows of x go to `positions` (B, T) of the past. What stands at later ones is not looked at, and what
    has no place there is not written. Positions are numbers of the device, known when the function runs and
    not when it is compiled; so is whether this layer turns queries and keys (`turned`).
    """

    def __init__(self, positions: Int[Array, "B T"], turned: Array):
        self.positions, self.turned = positions, turned
        self.attention, self.rms_norm = Wide(ops.attention), Wide(ops.rms_norm)

    def forward(
        self,
        x: Float[Array, "B T D"],
        query: Linear,
        key: Linear,
        value: Linear,
        output: Linear,
        query_norm: RMSNorm | None = None,
        key_norm: RMSNorm | None = None,
        *,
        n_heads: int,
        n_kv_heads: int,
        past: Past,
        rope_base: float | None = None,
        rope_scaling: RopeScaling | None = None,
        norm_eps: float = 1e-5,
        dropout: float = 0.0,
        rng: None = None,
    ) -> tuple[Float[Array, "B T D"], Past]:
        (keys, values), positions = past, self.positions
        projections = (query, n_heads), (key, n_kv_heads), (value, n_kv_heads)
        q, k, v = (jnp.swapaxes(heads(linear.forward(x, *w)[0], n), 1, 2) for w, n in projections)
        if query_norm is not None and key_norm is not None:
            q, _ = self.rms_norm.forward(q, *query_norm, eps=norm_eps)
            k, _ = self.rms_norm.forward(k, *key_norm, eps=norm_eps)
        if rope_base is not None:
            angles = either(self.turned, *_angles(keys.shape[2], q.shape[3], rope_base, rope_scaling))
            turns = [rows_of(table, positions).astype(q.dtype) for table in angles]
            q, k = (jax.vmap(rope.turn)(a, *turns) for a in (q, k))
        keys, values = self._written(keys, k), self._written(values, v)
        seen = jnp.arange(keys.shape[2]) <= positions[:, None, :, None]  # what is later is not written yet
        y, _ = self.attention.forward(q, keys, values, causal=False, mask=seen)
        y, _ = linear.forward(merged(jnp.swapaxes(y, 1, 2)), *output)
        return y, (keys, values)

    def _written(self, whole: Array, new: Array) -> Array:
        """`whole` (B, G, S, K) with `new` (B, G, T, K) at its places."""
        places = whole.at[jnp.arange(len(whole))[:, None], :, self.positions]
        return places.set(jnp.swapaxes(new, 1, 2).astype(whole.dtype), mode="drop")


def rows_of(table: Any, positions: Array) -> Array:
    """The rows of a table at `positions`, or its last where there is none."""
    return jnp.asarray(table).at[positions].get(mode="clip")


def _angles(S: int, K: int, base: float, scaling: RopeScaling | None) -> tuple[np.ndarray, np.ndarray]:
    """Cosines and sines (S, K / 2) of all positions."""
    _, saved = rope.forward(np.zeros((S, K)), base=base, scaling=scaling)
    return np.asarray(saved.cos), np.asarray(saved.sin)
