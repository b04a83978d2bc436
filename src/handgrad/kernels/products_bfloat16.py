r"""bfloat16 matrix products: what `products` does, with operands rounded and sums in float32.

$$C = \operatorname{round}(A)\,\operatorname{round}(B),\qquad |C - AB| \le (2u + u^2)|A||B|,\ u = 2^{-8}$$

bfloat16 keeps 8 bits of a number: rounding to the nearest changes it by $u = 2^{-8}$ of itself at most, and
sums in float32 add nothing of that order. Rounded are operands of matrix products, and the derivatives of
activations, which are kept for one product. The residual stream, softmax, loss, gradients of weights and the
weights stay float32; a weight's rounded panels are packed once per update.

An activation is rounded once (see `rounding`). Products read words of two bfloat16 numbers that follow each
other along the summed axis (see `amx`). Edges are filled up with zeros to whole tiles.
"""

from typing import NamedTuple

import numpy as np

from handgrad.kernels.amx import (
    CACHE_LINE,
    LINE,
    NOTHING,
    ROW,
    SIDE,
    WORDS,
    Coming,
    add_block,
    block_at,
    block_before,
    configure,
    finish,
)
from handgrad.kernels.arena import round_up
from handgrad.kernels.jit import inner, kernel
from handgrad.kernels.machine import LANES
from handgrad.kernels.microkernel import Matrix
from handgrad.kernels.panels_bfloat16 import WORD, pack, packed_shape, slice_rows
from handgrad.kernels.products import is_symmetric, mirror
from handgrad.kernels.vector import bits, from_bits, load, prefetch, store
from handgrad.kernels.vector_moves import merge_rows, transpose_pairs

__all__ = ["add_column_sums", "add_gradient", "affine", "operand_shape", "pack", "packed_shape", "slice_rows"]

DTYPE: type = np.uint32
"""Of panels: words of two numbers."""
BYTES = 4
OPERAND: type = np.uint16
TOKENS = 512
"""The most tokens in one part of a batch: each part adds to the whole gradient, so larger ones cost less."""
NUMBER = 2
"""Bytes of a bfloat16 number."""


class Blocks(NamedTuple):
    """How much is rounded at a time, in multiples of `SIDE`: what to tune for another processor."""

    words: int
    """Of the summed axis, in a panel of B."""
    left: int
    """Bytes of A's rows that stay in the second cache while panels of B pass by."""
    sum_rows: int
    """Rows of X and dY that a weight's gradient sums."""
    columns: int
    """Columns of X and of dY whose words are kept for it."""
    sum_words: int
    """Words summed in one go: those of X stay in the first cache while dY's pass by."""
    ahead: int
    """Columns from a block of the gradient to the one to prefetch."""


BLOCKS = Blocks(words=1024, left=768 << 10, sum_rows=512, columns=768, sum_words=128, ahead=2 * SIDE)
BLOCK, CONFIG = SIDE * SIDE, 16
"""32-bit numbers of scratch for one block of C, and for the tiles' configuration."""
SUM_WORDS = BLOCKS.sum_rows // 2
X_AHEAD = 512
"""Bytes from the columns of X that are transposed to those to prefetch."""
SHIFT = np.uint32(16)
ZERO = np.float32(0.0)


def operand_shape(M: int, K: int) -> tuple[int, int]:
    """The shape of an activation (M, K) as products read it."""
    return M, round_up(K, SIDE)


def scratch_size(K: int) -> int:
    """32-bit numbers that `affine` and `add_gradient` work in."""
    return CONFIG + BLOCK + max(SIDE * round_up(K, SIDE) // 2, SUM_WORDS * 2 * BLOCKS.columns)


class Edge(NamedTuple):
    """Addresses in scratch."""

    block: int
    """A whole block of C, for those that stand over C's edge."""
    rows: int
    """The last rows of A, filled up to `SIDE`."""


@inner
def edges(scratch):
    block = scratch.ctypes.data + WORD * CONFIG
    return Edge(block, block + WORD * BLOCK)


@inner
def copy(target, source, n_rows, n_columns):
    for i in range(n_rows):
        for j in range(n_columns):
            store(target.at + i * target.stride + 4 * j, load(source.at + i * source.stride + 4 * j))


@inner
def block_over_edge(c, start, a, b, n_words, n_rows, n_columns, spare):
    """A block of which C has `n_rows` and `n_columns` only."""
    block = Matrix(spare, LINE)
    begin = NOTHING
    if start.at:
        copy(block, start, n_rows, n_columns)
        begin = block
    block_at(block, begin, a, b, n_words)
    copy(c, block, n_rows, n_columns)


@kernel
def affine(out, a, panels, bias, add, scratch):
    """out (M, N) = A @ W + bias for the operand A of an activation (M, K); with `add`, out += A @ W.

    No bias has length 0.
    """
    M, N = out.shape
    n_words, stride = panels.shape[1], NUMBER * a.shape[1]
    configure(scratch[:CONFIG].view(np.uint8))
    edge = edges(scratch)
    n_last = M % SIDE
    if n_last:
        copy(
            Matrix(edge.rows, stride), Matrix(a.ctypes.data + (M - n_last) * stride, stride), n_last, n_words
        )
    for k in range(0, n_words, BLOCKS.words):
        n_steps = min(BLOCKS.words, n_words - k)
        # Rows of A stay in the second cache, and a panel in the first, while the next panel is asked for.
        height = max(1, BLOCKS.left // (WORD * n_steps * SIDE)) * SIDE
        for first in range(0, M, height):
            last = min(M, first + height)
            n_lines = -(-LINE * n_steps // CACHE_LINE * SIDE // (last - first))  # equal parts of a panel
            for panel in range(panels.shape[0]):
                n = panel * SIDE
                n_columns = min(SIDE, N - n)
                b = panels.ctypes.data + LINE * (panel * n_words + k)
                following = b + LINE * n_words
                for m in range(first, last, SIDE):
                    n_rows = min(SIDE, M - m)
                    left = a.ctypes.data + m * stride if n_rows == SIDE else edge.rows
                    rows = Matrix(left + WORD * k, stride)
                    c = Matrix(out.ctypes.data + 4 * (m * N + n), 4 * N)
                    start = NOTHING
                    if add or k > 0:
                        start = c
                    elif bias.size:
                        start = Matrix(bias.ctypes.data + 4 * n, 0)
                    if n_rows == SIDE and n_columns == SIDE:
                        coming = Coming(c.at + SIDE * c.stride, following, n_lines)
                        block_before(c, start, rows, b, n_steps, coming)
                    else:
                        block_over_edge(c, start, rows, b, n_steps, n_rows, n_columns, edge.block)
                    following += CACHE_LINE * n_lines
    finish()


@inner
def merge(target, source, first, last, n_words):
    """Words of rows 2i and 2i + 1, `SIDE` wide, of rows `first` to `last`; then zeros up to `n_words`."""
    n_pairs = (last - first) // 2
    for i in range(n_pairs):
        for half in range(0, SIDE, 2 * LANES):
            upper = source.at + (first + 2 * i) * source.stride + NUMBER * half
            merge_rows(target + LINE * i + WORD * half, upper, upper + source.stride)
    if (last - first) % 2:
        row = source.at + (last - 1) * source.stride
        for j in range(SIDE // 2):
            both = bits(load(row + WORD * j))
            store(target + LINE * n_pairs + WORD * 2 * j, from_bits(both & np.uint32(0xFFFF)))
            store(target + LINE * n_pairs + WORD * (2 * j + 1), from_bits(both >> SHIFT))
        n_pairs += 1
    for i in range(n_pairs, n_words):
        for j in range(SIDE):
            store(target + LINE * i + WORD * j, ZERO)


@inner
def turn(target, source, n_rows, spare):
    """32 x 16 words of X^T, of 32 columns and `n_rows` rows of X; further rows count as zero."""
    if n_rows < SIDE:
        for i in range(SIDE):
            for j in range(0, ROW, WORD):
                store(spare + ROW * i + j, load(source.at + source.stride * i + j) if i < n_rows else ZERO)
        source = Matrix(spare, ROW)
    for i in range(0, WORDS, LANES):
        for j in range(0, SIDE, LANES):
            numbers = source.at + 2 * i * source.stride + NUMBER * j
            transpose_pairs(target + ROW * j + WORD * i, ROW, numbers, source.stride)


@inner
def add_over_edge(c, start, a, b, n_words, n_rows, n_columns, spare):
    """`add_block` for a block of which C has `n_rows` and `n_columns` only."""
    block = Matrix(spare, LINE)
    begin = NOTHING
    if start.at:
        copy(block, start, n_rows, n_columns)
        begin = block
    add_block(block, begin, a, b, n_words, spare)
    copy(c, block, n_rows, n_columns)


@kernel
def add_gradient(dweight, x, dy, add, scratch):
    """dweight (K, N) += X^T @ dY for the operands of x (M, K) and dy (M, N); without `add`, from zero."""
    M, (K, N) = x.shape[0], dweight.shape
    symmetric = is_symmetric(x, dy, add)
    configure(scratch[:CONFIG].view(np.uint8))
    spare = edges(scratch).block
    down = spare + WORD * BLOCK
    right = down + WORD * SUM_WORDS * BLOCKS.columns
    x_stride, dy_stride = NUMBER * x.shape[1], NUMBER * dy.shape[1]
    for m_first in range(0, M, BLOCKS.sum_rows):
        m_last = min(M, m_first + BLOCKS.sum_rows)
        n_words = (m_last - m_first + SIDE - 1) // SIDE * WORDS
        panel = WORD * n_words  # bytes for a column
        for k_first in range(0, K, BLOCKS.columns):
            k_last = min(K, k_first + BLOCKS.columns)
            for m in range(m_first, m_last, SIDE):
                for k in range(k_first, k_last, SIDE):
                    rows = Matrix(x.ctypes.data + m * x_stride + NUMBER * k, x_stride)
                    for i in range(SIDE):
                        prefetch(rows.at + i * x_stride + X_AHEAD)
                    to = down + panel * (k - k_first) + ROW * (m - m_first)
                    turn(to, rows, min(SIDE, m_last - m), spare)
            for n_first in range(0, N, BLOCKS.columns):
                n_last = min(N, n_first + BLOCKS.columns)
                for m in range(m_first, m_last, SIDE):
                    for n in range(n_first, n_last, SIDE):
                        rows = Matrix(dy.ctypes.data + NUMBER * n, dy_stride)
                        to = right + panel * (n - n_first) + ROW * (m - m_first)
                        merge(to, rows, m, min(m_last, m + SIDE), WORDS)
                for k in range(k_first, k_last, SIDE):
                    n_rows = min(SIDE, K - k)
                    for first in range(0, n_words, BLOCKS.sum_words):
                        n_steps = min(BLOCKS.sum_words, n_words - first)
                        a = down + panel * (k - k_first) + LINE * first
                        for n in range(max(n_first, k) if symmetric else n_first, n_last, SIDE):
                            b = right + panel * (n - n_first) + LINE * first
                            c = Matrix(dweight.ctypes.data + 4 * (k * N + n), 4 * N)
                            start = c if add or m_first + first > 0 else NOTHING
                            if n_rows == SIDE and n + SIDE <= N:
                                add_block(c, start, a, b, n_steps, c.at + 4 * BLOCKS.ahead)
                            else:
                                n_columns = min(SIDE, N - n)
                                add_over_edge(c, start, a, b, n_steps, n_rows, n_columns, spare)
    finish()
    if symmetric:
        mirror(dweight)


@kernel
def add_column_sums(dbias, dy):
    """dbias (N,) += the sums of dY's columns."""
    for m in range(dy.shape[0]):
        row = dy[m]
        for n in range(dbias.size):
            dbias[n] += from_bits(np.uint32(np.uint32(row[n]) << SHIFT))
