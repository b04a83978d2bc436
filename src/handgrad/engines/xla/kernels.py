"""Kernels for GPUs, in Pallas: where XLA would walk over the same rows several times, one walk is enough.

- A norm's backward sums its weights' gradients over the tokens while it computes dx.
- The loss turns each row of logits into its gradient, in place: after one reading, the row is in the cache.

A program takes some rows; columns are padded to a power of two, as Triton wants them, and masked. `interpret`
runs the same code anywhere, slowly: tests do.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton

from handgrad.shapes import Array, Float, Int, inverse_root

TILE = 4096
"""Numbers that a program holds at a time, in float32: 32 a thread."""
WARPS = 4
ROWS = 16
"""Rows whose contributions to a weight's gradient a program of a norm's backward sums."""
COLUMNS = 4096
"""Logits that a program of the loss holds at a time."""
COLUMN_WARPS = 8


def norm_forward(
    x: Float[Array, "N D"],
    gamma: Float[Array, " D"],
    beta: Float[Array, " D"],
    *,
    eps: float,
    centred: bool,
    interpret: bool,
) -> tuple[Float[Array, "N D"], Float[Array, " N"], Float[Array, " N"]]:
    """Layer norm, or, not `centred`, RMS norm: y, means and reciprocal deviations."""
    n, width = x.shape
    rows, padded = _tile(n, width)

    def kernel(x_ref: Any, gamma_ref: Any, beta_ref: Any, y_ref: Any, mean_ref: Any, rstd_ref: Any) -> None:
        inside = jnp.arange(padded)[None, :] < width
        x = triton.load(x_ref, mask=inside, other=0.0).astype(jnp.float32)
        mean = jnp.sum(x, axis=1) / width if centred else jnp.zeros(rows, jnp.float32)
        x = jnp.where(inside, x - mean[:, None], 0.0)
        rstd = inverse_root(jnp.sum(x * x, axis=1) / width + eps)
        gamma, beta = (triton.load(ref, mask=inside[0], other=0.0) for ref in (gamma_ref, beta_ref))
        y = gamma[None, :] * (x * rstd[:, None]) + beta[None, :]
        triton.store(y_ref, y.astype(y_ref.dtype), mask=inside)
        mean_ref[...], rstd_ref[...] = mean, rstd

    tile, column, row = _specs(rows, padded)
    numbers = jax.ShapeDtypeStruct((n,), jnp.float32)
    return pl.pallas_call(
        kernel,
        grid=(n // rows,),
        in_specs=[tile, column, column],
        out_specs=[tile, row, row],
        out_shape=[jax.ShapeDtypeStruct(x.shape, x.dtype), numbers, numbers],
        compiler_params=triton.CompilerParams(num_warps=WARPS),
        interpret=interpret,
        name="norm_forward",
    )(x, gamma, beta)


def norm_backward(
    dy: Float[Array, "N D"],
    x: Float[Array, "N D"],
    gamma: Float[Array, " D"],
    mean: Float[Array, " N"],
    rstd: Float[Array, " N"],
    *,
    centred: bool,
    interpret: bool,
) -> tuple[Float[Array, "N D"], Float[Array, " D"], Float[Array, " D"]]:
    """dx, dgamma, dbeta."""
    n, width = x.shape
    rows, padded = _tile(n, width)
    n_tiles = next(k for k in range(max(1, ROWS // rows), 0, -1) if n % (k * rows) == 0)
    n_programs = n // (rows * n_tiles)

    def kernel(
        dy_ref: Any,
        x_ref: Any,
        gamma_ref: Any,
        mean_ref: Any,
        rstd_ref: Any,
        dx_ref: Any,
        *dweight_refs: Any,
    ) -> None:
        inside = jnp.arange(padded)[None, :] < width
        gamma = triton.load(gamma_ref, mask=inside[0], other=0.0)

        def run(i: Any, sums: tuple[Array, Array]) -> tuple[Array, Array]:
            part = pl.ds(i * rows, rows)
            dy, x = (
                triton.load(ref.at[part, :], mask=inside, other=0.0).astype(jnp.float32)
                for ref in (dy_ref, x_ref)
            )
            mean, rstd = (triton.load(ref.at[part])[:, None] for ref in (mean_ref, rstd_ref))
            x_hat = jnp.where(inside, (x - mean) * rstd, 0.0)
            g = gamma[None, :] * dy
            dx = g - x_hat * (jnp.sum(g * x_hat, axis=1) / width)[:, None]
            if centred:
                dx = dx - (jnp.sum(g, axis=1) / width)[:, None]
            triton.store(dx_ref.at[part, :], (rstd * dx).astype(dx_ref.dtype), mask=inside)
            return sums[0] + jnp.sum(dy * x_hat, axis=0), sums[1] + jnp.sum(dy, axis=0)

        nothing = jnp.zeros(padded, jnp.float32)
        for ref, sum_ in zip(dweight_refs, lax.fori_loop(0, n_tiles, run, (nothing, nothing)), strict=True):
            triton.store(ref, sum_, mask=inside[0])

    tile, column, row = _specs(rows * n_tiles, padded)
    partial_sums = jax.ShapeDtypeStruct((n_programs, width), jnp.float32)
    sums = pl.BlockSpec((None, padded), lambda i: (i, 0))
    dx, dgamma, dbeta = pl.pallas_call(
        kernel,
        grid=(n_programs,),
        in_specs=[tile, tile, column, row, row],
        out_specs=[tile, sums, sums],
        out_shape=[jax.ShapeDtypeStruct(x.shape, x.dtype), partial_sums, partial_sums],
        compiler_params=triton.CompilerParams(num_warps=WARPS),
        interpret=interpret,
        name="norm_backward",
    )(dy, x, gamma, mean, rstd)
    return dx, jnp.sum(dgamma, axis=0), jnp.sum(dbeta, axis=0)


def cross_entropy(
    logits: Float[Array, "N V"],
    targets: Int[Array, " N"],
    shares: Float[Array, " N"],
    dshares: Float[Array, " N"],
    *,
    interpret: bool,
) -> tuple[Float[Array, " N"], Float[Array, "N V"]]:
    """Each row's loss, times its share; and the gradient of its loss, times its dshare, in the logits' place.

    A row whose share is zero does not count, whatever its target.
    """
    n, width = logits.shape
    block = min(COLUMNS, pl.next_power_of_2(width))
    n_blocks = pl.cdiv(width, block)
    lowest = float(np.finfo(np.float32).min)  # and not minus infinity, which cannot be subtracted from itself

    def kernel(
        logits_ref: Any,
        targets_ref: Any,
        shares_ref: Any,
        dshares_ref: Any,
        losses_ref: Any,
        dlogits_ref: Any,
    ) -> None:
        target, share, dshare = targets_ref[0], shares_ref[0], dshares_ref[0]
        # before anything is written: other threads write where this one reads
        chosen = triton.load(logits_ref.at[jnp.maximum(target, 0)]).astype(jnp.float32)

        def columns(i: Any) -> tuple[Any, Array, Array]:
            place, column = pl.ds(i * block, block), i * block + jnp.arange(block)
            z = triton.load(logits_ref.at[place], mask=column < width, other=-jnp.inf)
            return place, column, z.astype(jnp.float32)

        def read(i: Any, found: tuple[Array, Array]) -> tuple[Array, Array]:
            most, total = found
            z = columns(i)[2]
            smaller = jnp.exp(-jnp.abs(z - most))  # one of the two exponentials is that of zero
            return jnp.maximum(most, z), jnp.where(z > most, total * smaller + 1.0, total + smaller)

        nothing = jnp.zeros(block, jnp.float32)
        most, total = lax.fori_loop(0, n_blocks, read, (nothing + lowest, nothing))
        largest = jnp.max(most)
        log_sum = largest + jnp.log(jnp.sum(total * jnp.exp(most - largest)))
        losses_ref[0] = jnp.where(share == 0.0, 0.0, share * (log_sum - chosen))

        def write(i: Any, _: None) -> None:
            place, column, z = columns(i)
            dz = (jnp.exp(z - log_sum) - jnp.where(column == target, 1.0, 0.0)) * dshare
            dz = jnp.where(share == 0.0, 0.0, dz).astype(dlogits_ref.dtype)
            triton.store(dlogits_ref.at[place], dz, mask=column < width)

        lax.fori_loop(0, n_blocks, write, None)

    row = pl.BlockSpec((None, n_blocks * block), lambda i: (i, 0))
    one = pl.BlockSpec((1,), lambda i: (i,))
    return pl.pallas_call(
        kernel,
        grid=(n,),
        in_specs=[row, one, one, one],
        out_specs=[one, row],
        out_shape=[jax.ShapeDtypeStruct((n,), jnp.float32), jax.ShapeDtypeStruct(logits.shape, logits.dtype)],
        input_output_aliases={0: 1},
        compiler_params=triton.CompilerParams(num_warps=COLUMN_WARPS),
        interpret=interpret,
        name="cross_entropy",
    )(logits, targets, shares, dshares)


def _tile(n: int, width: int) -> tuple[int, int]:
    """Rows that a program holds at a time, a power of two that divides n; and their padded width."""
    padded = pl.next_power_of_2(width)
    rows = max(1, TILE // padded)
    while n % rows:
        rows //= 2
    return rows, padded


def _specs(rows: int, padded: int) -> tuple[pl.BlockSpec, pl.BlockSpec, pl.BlockSpec]:
    """How the arrays of a norm are cut: rows of x, a weight whole, one number a row."""
    tile = pl.BlockSpec((rows, padded), lambda i: (i, 0))
    return tile, pl.BlockSpec((padded,), lambda i: (0,)), pl.BlockSpec((rows,), lambda i: (i,))
