r"""Causal attention with dropout, for GPUs, in Pallas: no matrix of positions by positions is ever held.

The device's own attention draws masks of its own; here they are those of every engine (`counted`), drawn
anew wherever they are needed. A program takes `BLOCK` queries, or, in backward, keys, and walks over the
others block by block. Forward keeps for each query the largest score so far, and scales what it has summed
whenever a larger one comes; what stays is $\ell = \log\sum_j e^{s_j}$. Backward finds the probabilities again
as $p = e^{s - \ell}$. With the mask $m$, divided by $1-\text{rate}$:

$$y = (p * m)\,V,\qquad dV = (p * m)^\top dy,\qquad
ds = p * \big(m * (dy\,V^\top) - \delta\big),\quad \delta = \langle dy, y\rangle$$

Source: Dao et al., "FlashAttention" (2022), arXiv:2205.14135.
"""

import functools
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton

from handgrad.counted import FIRST, GOLDEN, SECOND, UNIT
from handgrad.shapes import Array, Float, Int

BLOCK = 64
"""Queries or keys that a program holds at a time."""
NARROWEST, WIDEST = 16, 128
"""Head widths that it multiplies: powers of two."""
OPTIONS = triton.CompilerParams(num_warps=4, num_stages=3)
LOWEST = float(np.finfo(np.float32).min)
State = tuple[Array, Array, Array]


class Mask(NamedTuple):
    """What a head's mask follows from."""

    key: Int[Array, " 2"]
    """The draw's."""
    sequences: Int[Array, " B"]
    """Each sequence's number among those that are drawn for."""
    heads: Int[Array, " H"]
    """Each head's number among all."""


class Walk(NamedTuple):
    """What all programs of a call have in common."""

    n_heads: int
    """Of the whole model."""
    n_positions: int
    block: int
    scale: float
    rate: float

    def scores(self, q: Array, k: Array, *, diagonal: bool) -> Array:
        """The scores of a block of queries at earlier keys, or, `diagonal`, at its own."""
        s = triton.dot(q, k.T) * self.scale
        if not diagonal:
            return s
        place = jnp.arange(self.block, dtype=jnp.int32)
        return jnp.where(place[None, :] <= place[:, None], s, LOWEST)

    def kept(self, mask: Any, head: Any, query: Any, key: Any) -> Array:
        """Which probabilities of a block are kept: as `random.Keyed`'s numbers at these places say.

        The last step of the first mixing and the first of the second cancel but for the key.
        """
        n, low, high = np.uint32(self.n_positions), mask[0], mask[1]
        rows, columns = self._places(query), self._places(key)
        row, column = (head * n + rows) * n * np.uint32(GOLDEN) + low, columns * np.uint32(GOLDEN)
        x = row[:, None] + column[None, :]
        x = (x ^ (x >> np.uint32(16))) * np.uint32(FIRST)
        x = (x ^ (x >> np.uint32(15))) * np.uint32(SECOND)
        x = (x ^ (high ^ (high >> np.uint32(16)))) * np.uint32(FIRST)
        x = (x ^ (x >> np.uint32(15))) * np.uint32(SECOND)
        least = math.ceil(float(np.float32(self.rate)) / UNIT)  # of the number's 24 bits
        return (x ^ (x >> np.uint32(16))) >= np.uint32(least << 8)

    def _places(self, block: Any) -> Array:
        return (block * self.block + jnp.arange(self.block, dtype=jnp.int32)).astype(jnp.uint32)


def block_of(n_positions: int, d_head: int) -> int | None:
    """How many positions a program takes; None where lengths or widths are none that it multiplies."""
    block = min(BLOCK, n_positions)
    fits = n_positions % block == 0 and block >= NARROWEST and NARROWEST <= d_head <= WIDEST
    powers = all(n & (n - 1) == 0 for n in (block, d_head))
    return block if fits and powers else None


def forward(
    q: Float[Array, "B T H K"],
    k: Float[Array, "B T G K"],
    v: Float[Array, "B T G K"],
    mask: Mask,
    *,
    walk: Walk,
    interpret: bool,
) -> tuple[Float[Array, "B T H K"], Float[Array, "B H T"]]:
    """y, and the logarithm of each query's sum of exponentials."""

    def kernel(
        key_ref: Any, sequence_ref: Any, head_ref: Any, q_ref: Any, k_ref: Any, v_ref: Any,
        y_ref: Any, log_ref: Any,
    ) -> None:  # fmt: skip
        query, head, q = pl.program_id(2), _head(sequence_ref, head_ref, walk), q_ref[...]

        def run(key: Any, state: State, diagonal: bool = False) -> State:
            y, most, total = state
            keys = pl.ds(key * walk.block, walk.block)
            k, v = triton.load(k_ref.at[keys, :]), triton.load(v_ref.at[keys, :])
            s = walk.scores(q, k, diagonal=diagonal)
            larger = jnp.maximum(most, jnp.max(s, axis=1))
            p, shrunk = jnp.exp(s - larger[:, None]), jnp.exp(most - larger)
            total = total * shrunk + jnp.sum(p, axis=1)
            p = jnp.where(walk.kept(key_ref, head, query, key), p, 0.0)
            return y * shrunk[:, None] + triton.dot(p.astype(v.dtype), v), larger, total

        nothing = jnp.zeros(walk.block, jnp.float32)
        start = jnp.zeros(q.shape, jnp.float32), nothing + LOWEST, nothing
        y, most, total = run(query, lax.fori_loop(0, query, run, start), diagonal=True)
        y_ref[...] = (y / (total * (1.0 - walk.rate))[:, None]).astype(y_ref.dtype)
        log_ref[...] = most + jnp.log(total)

    specs = _Specs(q, k, walk.block)
    return pl.pallas_call(
        kernel,
        grid=specs.grid,
        in_specs=[*specs.mask, specs.block, specs.shared, specs.shared],
        out_specs=[specs.block, specs.numbers],
        out_shape=[jax.ShapeDtypeStruct(q.shape, q.dtype), specs.of_numbers],
        compiler_params=OPTIONS,
        interpret=interpret,
        name="attention_with_dropout",
    )(*mask, q, k, v)


def backward(
    dy: Float[Array, "B T H K"],
    q: Float[Array, "B T H K"],
    k: Float[Array, "B T G K"],
    v: Float[Array, "B T G K"],
    log_sums: Float[Array, "B H T"],
    delta: Float[Array, "B H T"],
    mask: Mask,
    *,
    walk: Walk,
    interpret: bool,
) -> tuple[Float[Array, "B T H K"], Float[Array, "B T H K"], Float[Array, "B T H K"]]:
    """dq; and of each query head the gradients of the keys and values that it read."""
    specs, like = _Specs(q, k, walk.block), jax.ShapeDtypeStruct(q.shape, q.dtype)
    settings: dict[str, Any] = {"grid": specs.grid, "compiler_params": OPTIONS, "interpret": interpret}
    arrays = *mask, dy, q, k, v, log_sums, delta
    dk, dv = pl.pallas_call(
        functools.partial(_of_keys, walk),
        in_specs=[*specs.mask, specs.whole, specs.whole, *2 * [specs.shared_block], *2 * [specs.all_numbers]],
        out_specs=[specs.block, specs.block],
        out_shape=[like, like],
        name="attention_with_dropout_keys",
        **settings,
    )(*arrays)
    dq = pl.pallas_call(
        functools.partial(_of_queries, walk),
        in_specs=[*specs.mask, specs.block, specs.block, *2 * [specs.shared], *2 * [specs.numbers]],
        out_specs=specs.block,
        out_shape=like,
        name="attention_with_dropout_queries",
        **settings,
    )(*arrays)
    return dq, dk, dv


def _of_keys(
    walk: Walk, key_ref: Any, sequence_ref: Any, head_ref: Any, dy_ref: Any, q_ref: Any, k_ref: Any,
    v_ref: Any, log_ref: Any, delta_ref: Any, dk_ref: Any, dv_ref: Any,
) -> None:  # fmt: skip
    """A program of backward that has a block of keys: their gradients and their values'."""
    key, head = pl.program_id(2), _head(sequence_ref, head_ref, walk)
    k, v = k_ref[...], v_ref[...]

    def run(query: Any, sums: tuple[Array, Array], diagonal: bool = False) -> tuple[Array, Array]:
        rows = pl.ds(query * walk.block, walk.block)
        q, dy = triton.load(q_ref.at[rows, :]), triton.load(dy_ref.at[rows, :])
        numbers = triton.load(log_ref.at[rows]), triton.load(delta_ref.at[rows])
        kept, s = walk.kept(key_ref, head, query, key), walk.scores(q, k, diagonal=diagonal)
        p, ds = _block_gradients(walk, v, dy, numbers, kept, s)
        return sums[0] + triton.dot(ds.T, q), sums[1] + triton.dot(p.T, dy)

    nothing = jnp.zeros(k.shape, jnp.float32)
    own = run(key, (nothing, nothing), diagonal=True)
    dk, dv = lax.fori_loop(key + 1, walk.n_positions // walk.block, run, own)
    dk_ref[...] = (dk * walk.scale).astype(dk_ref.dtype)
    dv_ref[...] = (dv / (1.0 - walk.rate)).astype(dv_ref.dtype)


def _of_queries(
    walk: Walk, key_ref: Any, sequence_ref: Any, head_ref: Any, dy_ref: Any, q_ref: Any, k_ref: Any,
    v_ref: Any, log_ref: Any, delta_ref: Any, dq_ref: Any,
) -> None:  # fmt: skip
    """A program of backward that has a block of queries: their gradients."""
    query, head = pl.program_id(2), _head(sequence_ref, head_ref, walk)
    q, dy, numbers = q_ref[...], dy_ref[...], (log_ref[...], delta_ref[...])

    def run(key: Any, dq: Array, diagonal: bool = False) -> Array:
        keys = pl.ds(key * walk.block, walk.block)
        k, v = triton.load(k_ref.at[keys, :]), triton.load(v_ref.at[keys, :])
        kept, s = walk.kept(key_ref, head, query, key), walk.scores(q, k, diagonal=diagonal)
        return dq + triton.dot(_block_gradients(walk, v, dy, numbers, kept, s)[1], k)

    earlier = lax.fori_loop(0, query, run, jnp.zeros(q.shape, jnp.float32))
    dq = run(query, earlier, diagonal=True)
    dq_ref[...] = (dq * walk.scale).astype(dq_ref.dtype)


def _block_gradients(
    walk: Walk, v: Array, dy: Array, numbers: tuple[Array, Array], kept: Array, s: Array
) -> tuple[Array, Array]:
    """Of one block p where it is kept, and ds."""
    log_sum, delta = numbers
    p = jnp.exp(s - log_sum[:, None])
    dp = jnp.where(kept, triton.dot(dy, v.T) / (1.0 - walk.rate), 0.0)
    ds = p * (dp - delta[:, None])
    return jnp.where(kept, p, 0.0).astype(dy.dtype), ds.astype(dy.dtype)


def _head(sequence_ref: Any, head_ref: Any, walk: Walk) -> Any:
    """This program's head's number in the draw."""
    return sequence_ref[0] * np.uint32(walk.n_heads) + head_ref[0]


class _Specs:
    """How the arrays are cut: a program has a sequence, a head, and a block of positions."""

    def __init__(self, q: Array, k: Array, block: int):
        B, T, H, K = q.shape
        group = H // k.shape[2]
        self.grid = B, H, T // block
        self.block = pl.BlockSpec((None, block, None, K), lambda b, h, i: (b, i, h, 0))
        self.whole = pl.BlockSpec((None, T, None, K), lambda b, h, i: (b, 0, h, 0))
        self.shared_block = pl.BlockSpec((None, block, None, K), lambda b, h, i: (b, i, h // group, 0))
        self.shared = pl.BlockSpec((None, T, None, K), lambda b, h, i: (b, 0, h // group, 0))
        self.numbers = pl.BlockSpec((None, None, block), lambda b, h, i: (b, h, i))
        self.all_numbers = pl.BlockSpec((None, None, T), lambda b, h, i: (b, h, 0))
        self.of_numbers = jax.ShapeDtypeStruct((B, H, T), jnp.float32)
        self.mask = (
            pl.BlockSpec((2,), lambda b, h, i: (0,)),
            pl.BlockSpec((1,), lambda b, h, i: (b,)),
            pl.BlockSpec((1,), lambda b, h, i: (h,)),
        )
