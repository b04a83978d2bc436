r"""float32 matrix products: $C = AB$ with a packed B, and a weight's gradient, $dW \mathrel{+}= X^\top dY$.

A weight is packed once per update into panels of `MICRO_COLUMNS` columns: panel p holds, row after row, the
numbers that one step of a microkernel reads. Forward takes panels of W, backward panels of its transpose.
`walk` says in which order they meet the rows of A.
"""

from typing import NamedTuple

import numpy as np

from handgrad.kernels.arena import round_up
from handgrad.kernels.jit import inner, kernel
from handgrad.kernels.machine import LANES, MICRO_COLUMNS, MICRO_ROWS
from handgrad.kernels.microkernel import FLOAT32, Matrix
from handgrad.kernels.vector import load, store
from handgrad.kernels.vector_moves import move, transpose_block
from handgrad.kernels.walk import (
    ROOM,
    STEP,
    WORD,
    Left,
    Right,
    Size,
    beginning,
    onto,
    onto_nothing,
    room,
    walking,
)


class Blocks(NamedTuple):
    """How much of a product is computed at a time: what to tune for another processor."""

    steps: int
    """Rows of B's panels, which the first-level cache holds."""
    rows: int
    """Rows of X and dY that a weight's gradient sums at a time."""
    columns: int
    """Columns of X whose packed rows stay in the second-level cache."""


BLOCKS = Blocks(steps=384, rows=384, columns=384)
FLOAT = WORD
"""Bytes of a float32."""
DTYPE: type = np.float32
BYTES = FLOAT
OPERAND: type = np.float32
TOKENS = 384
"""The most tokens in one part of a batch, if one sequence has no more."""


def packed_shape(K: int, N: int) -> tuple[int, int, int]:
    """The shape of a (K, N) weight's panels."""
    return -(-N // MICRO_COLUMNS), K, MICRO_COLUMNS


def operand_shape(M: int, K: int) -> tuple[int, int]:
    """The shape of an activation (M, K) as products read it: as it is."""
    return M, K


def slice_rows(K: int) -> int:
    """`pack` takes a multiple of so many rows of a (K, N) weight, or what is left of it: whole panels."""
    return 64


def scratch_size(K: int) -> int:
    """float32 numbers that `affine` and `add_gradient` work in: room, packed dY, packed X."""
    return ROOM + BLOCKS.rows * (MICRO_COLUMNS + round_up(BLOCKS.columns, MICRO_ROWS)) + LANES


_walk_rows = walking(FLOAT32, by_columns=False)
_walk_columns = walking(FLOAT32, by_columns=True)
NO_SCALES = Matrix(0, 0)


@inner
def panels_at(at, n_rows):
    """B, packed in panels of so many rows."""
    return Right(at, n_rows * STEP, 0)


@inner
def turned(a):
    """The transpose of a row-major matrix: its columns, which lie side by side, are A's rows."""
    return Left(a.at, MICRO_ROWS * FLOAT, a.stride, NO_SCALES)


@inner
def multiply_from(c, start, a, b, size, edge):
    """C = A @ B + start for a row-major A."""
    M, N, K = size
    rows = Left(a.at, MICRO_ROWS * a.stride, a.stride, NO_SCALES)
    _walk_rows(c, start, rows, b, Size(M, N, K, BLOCKS.steps), edge)


@inner
def multiply(c, a, b, size, spare):
    """C = A @ B for a row-major A."""
    multiply_from(c, onto_nothing(spare), a, b, size, spare.edge)


@inner
def add_product(c, a, b, size, spare):
    """C += A @ B for an A whose columns lie side by side."""
    M, N, K = size
    _walk_columns(c, onto(c), a, b, Size(M, N, K, BLOCKS.steps), spare.edge)


def _packing(width):
    """A function that packs panels of `width` columns, vector by vector: a constant, for speed.

    Where vectors do not fill a row they run over into the next one, which is written after it; only where
    there is no next row to read from are numbers copied one by one.
    """
    n_vectors = -(-width // LANES)

    @inner
    def pack_columns(target, panel_stride, source, n_rows, n_columns):
        for panel in range((n_columns + width - 1) // width):
            n = min(width, n_columns - panel * width)
            to, step = target + panel * panel_stride, width * FLOAT
            origin = source.at + panel * step
            over = panel * width + n_vectors * LANES > n_columns
            n_whole = n_rows - 1 if over else n_rows
            for row in range(n_whole if n == width else 0):
                for vector in range(n_vectors):
                    offset = vector * LANES * FLOAT
                    move(to + row * step + offset, origin + row * source.stride + offset)
            for row in range(n_whole if n == width else 0, n_rows):
                for j in range(n):
                    store(to + row * step + j * FLOAT, load(origin + row * source.stride + j * FLOAT))
                for j in range(n, width):
                    store(to + row * step + j * FLOAT, np.float32(0.0))

    return pack_columns


pack_panels, pack_rows = _packing(MICRO_COLUMNS), _packing(MICRO_ROWS)
"""Columns of B, MICRO_COLUMNS at a time; or columns of X, the rows of its transpose, MICRO_ROWS at a time."""


@inner
def pack_transposed(target, source, n_rows, n_columns):
    """Panels of the transpose: column j of panel p is row MICRO_COLUMNS p + j of the source."""
    for panel in range((n_rows + MICRO_COLUMNS - 1) // MICRO_COLUMNS):
        to = target + panel * n_columns * STEP
        for half in range(0, MICRO_COLUMNS, LANES):
            first = panel * MICRO_COLUMNS + half
            n = max(0, min(LANES, n_rows - first))
            whole = n_columns // LANES * LANES if n == LANES else 0
            for column in range(0, whole, LANES):
                transpose_block(
                    to + column * STEP + half * FLOAT,
                    STEP,
                    source.at + first * source.stride + column * FLOAT,
                    source.stride,
                )
            for column in range(whole, n_columns):
                for j in range(n):
                    number = load(source.at + (first + j) * source.stride + column * FLOAT)
                    store(to + column * STEP + (half + j) * FLOAT, number)
                for j in range(n, LANES):
                    store(to + column * STEP + (half + j) * FLOAT, np.float32(0.0))


@kernel
def pack(panels, transposed, weight, first, last):
    """Rows `first` to `last` of `weight` (K, N) in its panels and in those of its transpose; `first` is a
    multiple of MICRO_COLUMNS."""
    K, N = weight.shape
    source = Matrix(weight.ctypes.data + FLOAT * first * N, FLOAT * N)
    pack_panels(panels.ctypes.data + first * STEP, K * STEP, source, last - first, N)
    to = transposed.ctypes.data + first // MICRO_COLUMNS * N * STEP
    pack_transposed(to, source, last - first, N)


@kernel
def affine(out, a, panels, bias, add, scratch):
    """out (M, N) = A (M, K) @ W + bias; with `add`, out += A @ W. No bias has length 0."""
    M, K = a.shape
    N = out.shape[1]
    spare = room(scratch)
    c, rows = Matrix(out.ctypes.data, FLOAT * N), Matrix(a.ctypes.data, FLOAT * K)
    b = panels_at(panels.ctypes.data, K)
    multiply_from(c, beginning(c, bias, add, spare), rows, b, (M, N, K), spare.edge)


@inner
def is_symmetric(x, dy, add):
    """Whether x^T dy is: x is dy. Then only what is on the diagonal and above it is computed."""
    return not add and x.ctypes.data == dy.ctypes.data


@inner
def mirror(square):
    """What is below the diagonal becomes what is above it, in strips as wide as a vector."""
    for first in range(0, square.shape[0], LANES):
        for i in range(first + 1, square.shape[0]):
            for j in range(first, min(first + LANES, i)):
                square[i, j] = square[j, i]


@kernel
def add_gradient(dweight, x, dy, add, scratch):
    """dweight (K, N) += x (M, K)^T @ dy (M, N); without `add`, from zero."""
    symmetric = is_symmetric(x, dy, add)
    if not add:
        dweight[:] = 0
    M, K = x.shape
    N = dy.shape[1]
    spare = room(scratch)
    packed_dy = scratch.ctypes.data + FLOAT * ROOM
    packed_x = packed_dy + BLOCKS.rows * STEP
    n_blocks = (M + BLOCKS.rows - 1) // BLOCKS.rows
    block = (M + n_blocks - 1) // n_blocks
    for m in range(0, M, block):
        n_rows = min(block, M - m)
        for k in range(0, K, BLOCKS.columns):
            width = min(BLOCKS.columns, K - k)
            a = Left(packed_x, n_rows * MICRO_ROWS * FLOAT, MICRO_ROWS * FLOAT, NO_SCALES)
            pack_rows(a.at, a.panel, Matrix(x.ctypes.data + FLOAT * (m * K + k), FLOAT * K), n_rows, width)
            for n in range(0, N, MICRO_COLUMNS):
                n_columns = min(MICRO_COLUMNS, N - n)
                n_sums = min(width, n + n_columns - k) if symmetric else width
                if n_sums > 0:
                    b = Right(packed_dy, 0, 0)  # one panel: none follows
                    dy_block = Matrix(dy.ctypes.data + FLOAT * (m * N + n), FLOAT * N)
                    pack_panels(b.at, n_rows * STEP, dy_block, n_rows, n_columns)
                    c = Matrix(dweight.ctypes.data + FLOAT * (k * N + n), FLOAT * N)
                    add_product(c, a, b, (n_sums, n_columns, n_rows), spare)
    if symmetric:
        mirror(dweight)


@kernel
def add_column_sums(dbias, dy):
    """dbias (N,) += the sum of dy (M, N) over its rows."""
    M, N = dy.shape
    for m in range(M):
        for n in range(N):
            dbias[n] += dy[m, n]
