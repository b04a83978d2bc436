"""Multi-head attention with a KV cache of a fixed length, for compiled functions: shapes do not grow."""

from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import lax

from handgrad import ops
from handgrad.engines.xla.twins.multi_head_attention import heads, merged
from handgrad.engines.xla.twins.wide import Wide
from handgrad.model.block import Past
from handgrad.ops import linear, rope
from handgrad.ops.rope import RopeScaling
from handgrad.parameters import Linear, RMSNorm
from handgrad.shapes import Array, Float


class CachedAttention:
    """As `ops.multi_head_attention` forward with `past`; instead of `saved` it returns the new past.

    Of the past's positions, those from `start` on are still to be written. `start` is a number of the device,
    known when the function runs and not when it is compiled.
    """

    def __init__(self, start: Array):
        self.start = start
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
        (keys, values), start = past, self.start
        projections = (query, n_heads), (key, n_kv_heads), (value, n_kv_heads)
        q, k, v = (jnp.swapaxes(heads(linear.forward(x, *w)[0], n), 1, 2) for w, n in projections)
        if query_norm is not None and key_norm is not None:
            q, _ = self.rms_norm.forward(q, *query_norm, eps=norm_eps)
            k, _ = self.rms_norm.forward(k, *key_norm, eps=norm_eps)
        T, S = q.shape[2], keys.shape[2]
        if rope_base is not None:
            turns = [from_row(a, start, T) for a in _angles(S, q.shape[3], rope_base, rope_scaling)]
            q, k = (rope.turn(a, *(turn.astype(a.dtype) for turn in turns)) for a in (q, k))
        keys, values = (
            lax.dynamic_update_slice_in_dim(whole, new.astype(whole.dtype), start, axis=2)
            for whole, new in ((keys, k), (values, v))
        )
        seen = jnp.arange(S)[None, :] <= start + jnp.arange(T)[:, None]  # what is later is not written yet
        y, _ = self.attention.forward(q, keys, values, causal=False, mask=seen)
        y, _ = linear.forward(merged(jnp.swapaxes(y, 1, 2)), *output)
        return y, (keys, values)


def from_row(table: Any, start: Array, n: int) -> Array:
    """`n` rows of a table from `start` on."""
    return lax.dynamic_slice_in_dim(jnp.asarray(table), start, n, axis=0)


def _angles(S: int, K: int, base: float, scaling: RopeScaling | None) -> tuple[np.ndarray, np.ndarray]:
    """Cosines and sines (S, K / 2) of all positions."""
    _, saved = rope.forward(np.zeros((S, K)), base=base, scaling=scaling)
    return np.asarray(saved.cos), np.asarray(saved.sin)
