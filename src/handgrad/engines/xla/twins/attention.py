"""Attention on heads where products leave them, (B, T, H, K): the formula's, the device's own, and, with
dropout, our kernels'."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec as P

from handgrad import ops
from handgrad.engines.xla import attention_kernels
from handgrad.engines.xla.placement import ALONE, Placement
from handgrad.engines.xla.random import Keyed
from handgrad.engines.xla.sharding import BATCH, WHOLE
from handgrad.engines.xla.twins.wide import Wide
from handgrad.shapes import Array, Float, Int, UniformSource

HEADS = P(*BATCH, None, "model", None)
NUMBERS = P(*BATCH, "model", None)
MASK = WHOLE, BATCH, P("model")
"""How devices divide heads, numbers of each query, and what a mask follows from."""


class FormulaAttention:
    """`ops.attention` on heads where products leave them: (B, T, H, K)."""

    class Saved(NamedTuple):
        inner: Wide.Saved

    def __init__(self) -> None:
        self.op = Wide(ops.attention)

    def forward(
        self,
        q: Float[Array, "B T H K"],
        k: Float[Array, "B S G K"],
        v: Float[Array, "B S G K"],
        *,
        dropout: float = 0.0,
        rng: UniformSource | None = None,
    ) -> tuple[Float[Array, "B T H K"], Saved]:
        y, saved = self.op.forward(*map(swapped, (q, k, v)), dropout=dropout, rng=rng)
        return swapped(y), self.Saved(saved)

    def backward(self, dy: Float[Array, "B T H K"], saved: Saved) -> tuple[Array, ...]:
        dq, dk, dv = self.op.backward(swapped(dy), saved.inner)
        return swapped(dq), swapped(dk), swapped(dv)


class FusedAttention:
    """Causal attention that never holds (T, T): by `jax.nn.dot_product_attention`, cuDNN's, with its own
    backward. With dropout by kernels of our own, or, for lengths and widths that they do not take, the
    formula.
    """

    class Saved(NamedTuple):
        pull: Any
        """cuDNN's backward and what it needs."""

    def __init__(
        self, implementation: str = "cudnn", *, interpret: bool = False, placement: Placement = ALONE
    ):
        self.implementation, self.formula = implementation, FormulaAttention()
        self.dropping = DroppingAttention(interpret=interpret, placement=placement)

    def forward(
        self,
        q: Float[Array, "B T H K"],
        k: Float[Array, "B S G K"],
        v: Float[Array, "B S G K"],
        *,
        dropout: float = 0.0,
        rng: UniformSource | None = None,
    ) -> tuple[Float[Array, "B T H K"], Any]:
        if dropout and rng is not None:
            op: Any = self.dropping if self.dropping.takes(q, k) else self.formula
            return op.forward(q, k, v, dropout=dropout, rng=rng)

        def attend(q: Array, k: Array, v: Array) -> Array:
            implementation: Any = self.implementation
            return jax.nn.dot_product_attention(q, k, v, is_causal=True, implementation=implementation)

        y, pull = jax.vjp(attend, q, k, v)
        return y, self.Saved(pull)

    def backward(self, dy: Float[Array, "B T H K"], saved: Any) -> Any:
        if isinstance(saved, FormulaAttention.Saved):
            return self.formula.backward(dy, saved)
        if isinstance(saved, DroppingAttention.Saved):
            return self.dropping.backward(dy, saved)
        return saved.pull(dy)


class DroppingAttention:
    """Causal attention with dropout by `attention_kernels`: each device computes its sequences' heads."""

    class Saved(NamedTuple):
        q: Float[Array, "B T H K"]
        k: Float[Array, "B T G K"]
        v: Float[Array, "B T G K"]
        y: Float[Array, "B T H K"]
        log_sums: Float[Array, "B H T"]
        key: Int[Array, " 2"]
        rate: float

    def __init__(self, *, interpret: bool = False, placement: Placement = ALONE):
        self.interpret, self.placement = interpret, placement

    def takes(self, q: Float[Array, "B T H K"], k: Float[Array, "B T G K"]) -> bool:
        """Whether the kernels take arrays of these shapes, and the devices divide them evenly."""
        n_batch = self.placement.size("data") * self.placement.size("fsdp")
        even = q.shape[0] % n_batch == 0 and k.shape[2] % self.placement.size("model") == 0
        return even and attention_kernels.block_of(q.shape[1], q.shape[3]) is not None

    def forward(
        self,
        q: Float[Array, "B T H K"],
        k: Float[Array, "B T G K"],
        v: Float[Array, "B T G K"],
        *,
        dropout: float,
        rng: Keyed,
    ) -> tuple[Float[Array, "B T H K"], Saved]:
        key, walk = rng.key(), self._walk(q, dropout)

        def run(q: Array, k: Array, v: Array, *mask: Array) -> tuple[Array, Array]:
            drawn = attention_kernels.Mask(*mask)
            return attention_kernels.forward(q, k, v, drawn, walk=walk, interpret=self.interpret)

        each = self.placement.on_each(run, takes=(*3 * [HEADS], *MASK), gives=(HEADS, NUMBERS))
        y, log_sums = each(q, k, v, *_mask(q, key))
        return y, self.Saved(q, k, v, y, log_sums, key, dropout)

    def backward(self, dy: Float[Array, "B T H K"], saved: Saved) -> tuple[Array, Array, Array]:
        q, k, v, y, log_sums, key, rate = saved
        walk = self._walk(q, rate)
        delta = jnp.einsum("bthk,bthk->bht", dy, y, preferred_element_type=jnp.float32)

        def run(dy: Array, q: Array, k: Array, v: Array, *numbers: Array) -> tuple[Array, Array, Array]:
            log_sums, delta, *mask = numbers
            drawn = attention_kernels.Mask(*mask)
            return attention_kernels.backward(
                dy, q, k, v, log_sums, delta, drawn, walk=walk, interpret=self.interpret
            )

        takes = *4 * [HEADS], NUMBERS, NUMBERS, *MASK
        each = self.placement.on_each(run, takes=takes, gives=(HEADS, HEADS, HEADS))
        dq, dk, dv = each(dy, q, k, v, log_sums, delta, *_mask(q, key))
        return dq, _summed(dk, k), _summed(dv, v)

    def _walk(self, q: Float[Array, "B T H K"], rate: float) -> attention_kernels.Walk:
        _, T, H, K = q.shape
        block = attention_kernels.block_of(T, K)
        assert block is not None, "see `takes`"
        return attention_kernels.Walk(H, T, block, K**-0.5, rate)


def _mask(q: Float[Array, "B T H K"], key: Int[Array, " 2"]) -> attention_kernels.Mask:
    sequences, heads = (jnp.arange(q.shape[axis], dtype=jnp.uint32) for axis in (0, 2))
    return attention_kernels.Mask(key, sequences, heads)


def _summed(dk: Float[Array, "B T H K"], k: Float[Array, "B T G K"]) -> Float[Array, "B T G K"]:
    """The sum over the query heads that share a head of keys."""
    B, T, G, K = k.shape
    if dk.shape == k.shape:
        return dk
    return jnp.sum(jnp.reshape(dk, (B, T, G, -1, K)), axis=3, dtype=jnp.float32).astype(k.dtype)


def swapped(x: Float[Array, "B T H K"]) -> Float[Array, "B H T K"]:
    return jnp.swapaxes(x, 1, 2)
