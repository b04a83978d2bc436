r"""bfloat16 matrix products: what `products` does, with operands rounded and sums in float32.

$$C = \operatorname{round}(A)\,\operatorname{round}(B),\qquad |C - AB| \le (2u + u^2)|A||B|,\ u = 2^{-8}$$

bfloat16 keeps 8 bits of a number: rounding to the nearest changes it by $u = 2^{-8}$ of itself at most, and
sums in float32 add nothing of that order. Only operands of matrix products are rounded. Activations, norms,
softmax, loss, gradients and weights stay float32; a weight's rounded panels are packed once per update.

Operands are words of two bfloat16 numbers that follow each other along the summed axis (see `amx`). Edges
are filled up with zeros to whole tiles.
"""

from typing import NamedTuple

import numpy as np

from handgrad.kernels.amx import SIDE, WORDS, configure, finish, multiply_block
from handgrad.kernels.jit import inner, kernel
from handgrad.kernels.machine import LANES
from handgrad.kernels.vector import bits, transpose_block

DTYPE: type = np.uint32
BYTES = 4


class Blocks(NamedTuple):
    """How much is rounded at a time, in multiples of `SIDE`: what to tune for another processor."""

    a_rows: int
    """Rows of A."""
    sum_rows: int
    """Rows of X and dY that a weight's gradient sums."""
    columns: int
    """Columns of dY."""


BLOCKS = Blocks(a_rows=128, sum_rows=512, columns=512)
BLOCK, CONFIG = SIDE * SIDE, 16
"""Numbers of scratch for one block of C, and for the tiles' configuration."""
SUM_WORDS = BLOCKS.sum_rows // 2
HALF, ONE_BIT, HIGH = np.uint32(0x7FFF), np.uint32(1), np.uint32(0xFFFF0000)
SHIFT = np.uint32(16)
ZERO = np.float32(0.0)


def _words(n: int) -> int:
    """Words for n numbers, whole tiles of them."""
    return -(-n // SIDE) * WORDS


def packed_shape(K: int, N: int) -> tuple[int, int, int]:
    """The shape of a (K, N) weight's panels, in words."""
    return -(-N // SIDE), _words(K), SIDE


def scratch_size(K: int) -> int:
    """32-bit numbers that `affine` and `add_gradient` work in."""
    return CONFIG + BLOCK + max(BLOCKS.a_rows * _words(K), SUM_WORDS * (BLOCKS.columns + 2 * SIDE))


@inner
def word(first, second):
    """Two numbers, rounded to the nearest bfloat16 (ties to even), as one word.

    A bfloat16 is the upper half of a float32. Adding just under half of its last place carries where it must,
    and the one bit more that an odd last place adds sends ties to even.
    """
    low, high = bits(first), bits(second)
    low = np.uint32(low + HALF + np.uint32(np.uint32(low >> SHIFT) & ONE_BIT))
    high = np.uint32(high + HALF + np.uint32(np.uint32(high >> SHIFT) & ONE_BIT))
    return np.uint32(np.uint32(low >> SHIFT) | np.uint32(high & HIGH))


@inner
def pair_columns(target, source):
    """target[k] = columns 2k and 2k + 1 of one row; the rest of target is zero."""
    n = source.size
    for k in range(n // 2):
        target[k] = word(source[2 * k], source[2 * k + 1])
    if n % 2:
        target[n // 2] = word(source[n - 1], ZERO)
    target[(n + 1) // 2 :] = np.uint32(0)


@inner
def pair_rows(target, source, first, width):
    """target[k, j] = rows 2k and 2k + 1 of column first + j; what is beyond the source's edges is zero."""
    M, N = source.shape
    n = max(0, min(width, N - first))
    for k in range(target.shape[0]):
        to = target[k]
        if 2 * k + 1 < M:
            upper, lower = source[2 * k, first : first + n], source[2 * k + 1, first : first + n]
            for j in range(n):
                to[j] = word(upper[j], lower[j])
        elif 2 * k < M:
            upper = source[2 * k, first : first + n]
            for j in range(n):
                to[j] = word(upper[j], ZERO)
        else:
            to[:n] = np.uint32(0)
        to[n:width] = np.uint32(0)


@inner
def transpose_words(target, source):
    """target (N, M) = source (M, N) transposed; both sizes are multiples of 16."""
    M, N = source.shape
    for i in range(0, M, LANES):
        for j in range(0, N, LANES):
            transpose_block(
                target.ctypes.data + 4 * (j * M + i), 4 * M, source.ctypes.data + 4 * (i * N + j), 4 * N
            )


@kernel
def pack(panels, transposed, weight, first, last):
    """Rows `first`, a multiple of 32, to `last` of `weight` in its panels and in those of its transpose."""
    N = weight.shape[1]
    rows = weight[first:last]
    n_words = (last - first + 1) // 2
    for panel in range(panels.shape[0]):
        pair_rows(panels[panel, first // 2 : first // 2 + n_words], rows, panel * SIDE, SIDE)
    for row in range(first, last):
        to = transposed[row // SIDE, :, row % SIDE]
        for k in range(N // 2):
            to[k] = word(weight[row, 2 * k], weight[row, 2 * k + 1])
        if N % 2:
            to[N // 2] = word(weight[row, N - 1], ZERO)


@kernel
def affine(out, x, panels, bias, add, scratch):
    """out (M, N) = x (M, K) @ W + bias; with `add`, out += x @ W. No bias has length 0."""
    M = x.shape[0]
    N = out.shape[1]
    n_words = panels.shape[1]
    configure(scratch[:CONFIG].view(np.uint8))
    block = scratch[CONFIG : CONFIG + BLOCK].reshape(SIDE, SIDE)
    start = CONFIG + BLOCK
    a = scratch[start : start + BLOCKS.a_rows * n_words].view(np.uint32).reshape(BLOCKS.a_rows, n_words)
    for m in range(0, M, BLOCKS.a_rows):
        n_rows = min(BLOCKS.a_rows, M - m)
        for i in range(n_rows):
            pair_columns(a[i], x[m + i])
        for i in range(n_rows, min(BLOCKS.a_rows, (n_rows + SIDE - 1) // SIDE * SIDE)):
            a[i, :] = np.uint32(0)
        for panel in range(panels.shape[0]):
            n = panel * SIDE
            width = min(SIDE, N - n)
            for i in range(0, n_rows, SIDE):
                multiply_block(block, a[i : i + SIDE], panels[panel], False)
                for r in range(min(SIDE, n_rows - i)):
                    to, row = out[m + i + r, n : n + width], block[r]
                    if add:
                        for j in range(width):
                            to[j] += row[j]
                    elif bias.size:
                        for j in range(width):
                            to[j] = row[j] + bias[n + j]
                    else:
                        for j in range(width):
                            to[j] = row[j]
    finish()


@kernel
def add_gradient(dweight, x, dy, scratch):
    """dweight (K, N) += x (M, K)^T @ dy (M, N)."""
    M, K = x.shape
    N = dy.shape[1]
    configure(scratch[:CONFIG].view(np.uint8))
    block = scratch[CONFIG : CONFIG + BLOCK].reshape(SIDE, SIDE)
    at = CONFIG + BLOCK
    across = scratch[at : at + SUM_WORDS * SIDE].view(np.uint32)
    at += SUM_WORDS * SIDE
    down = scratch[at : at + SUM_WORDS * SIDE].view(np.uint32)
    at += SUM_WORDS * SIDE
    right = scratch[at : at + SUM_WORDS * BLOCKS.columns].view(np.uint32)
    for m in range(0, M, BLOCKS.sum_rows):
        n_rows = min(BLOCKS.sum_rows, M - m)
        n_words = (n_rows + SIDE - 1) // SIDE * WORDS
        for n in range(0, N, BLOCKS.columns):
            n_panels = (min(BLOCKS.columns, N - n) + SIDE - 1) // SIDE
            panels = right[: n_panels * n_words * SIDE].reshape(n_panels, n_words, SIDE)
            for panel in range(n_panels):
                pair_rows(panels[panel], dy[m : m + n_rows], n + panel * SIDE, SIDE)
            for k in range(0, K, SIDE):
                pairs = across[: n_words * SIDE].reshape(n_words, SIDE)
                pair_rows(pairs, x[m : m + n_rows], k, SIDE)
                a = down[: SIDE * n_words].reshape(SIDE, n_words)
                transpose_words(a, pairs)
                for panel in range(n_panels):
                    first = n + panel * SIDE
                    width = min(SIDE, N - first)
                    multiply_block(block, a, panels[panel], False)
                    for r in range(min(SIDE, K - k)):
                        to, row = dweight[k + r, first : first + width], block[r]
                        for j in range(width):
                            to[j] += row[j]
    finish()
