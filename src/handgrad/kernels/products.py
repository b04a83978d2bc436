r"""float32 matrix products: $C = AB$ with a packed B, and a weight's gradient, $dW \mathrel{+}= X^\top dY$.

A weight is packed once per update into panels of `MICRO_COLUMNS` columns: panel p holds, row after row, the
numbers that one step of a microkernel reads. Forward takes panels of W, backward panels of its transpose.
Three loops lie around the microkernel (Goto & van de Geijn, "Anatomy of high-performance matrix
multiplication", 2008): a panel's part of `BLOCKS.steps` rows stays in the first-level cache while all rows of
A pass by.
"""

from typing import NamedTuple

import numpy as np

from handgrad.kernels.arena import round_up
from handgrad.kernels.jit import inner, kernel
from handgrad.kernels.machine import LANES, MICRO_COLUMNS, MICRO_ROWS
from handgrad.kernels.microkernel import Matrix, microkernel_of_columns, microkernel_of_rows
from handgrad.kernels.vector import load, move, prefetch, store, transpose_block


class Blocks(NamedTuple):
    """How much of a product is computed at a time: what to tune for another processor."""

    steps: int
    """Rows of B's panels, which the first-level cache holds."""
    rows: int
    """Rows of X and dY that a weight's gradient sums at a time."""
    columns: int
    """Columns of X whose packed rows stay in the second-level cache."""


BLOCKS = Blocks(steps=384, rows=384, columns=384)
FLOAT = 4
"""Bytes of a float32."""
STEP = FLOAT * MICRO_COLUMNS
"""Bytes from one row of a panel to the next."""
LINE = 64
"""Bytes of a cache line."""
EDGE = MICRO_ROWS * MICRO_COLUMNS
ROOM = 2 * EDGE
"""float32 numbers at the beginning of scratch that `room` lays out."""
DTYPE: type = np.float32
BYTES = FLOAT
OPERAND: type = np.float32
TOKENS = 384
"""The most tokens in one part of a batch, if one sequence has no more."""


class Panels(NamedTuple):
    """An operand cut into panels: B's of MICRO_COLUMNS columns, A's of MICRO_ROWS rows."""

    at: int
    panel: int
    """Bytes from panel to panel."""
    step: int
    """Bytes from one step of K to the next."""


class Start(NamedTuple):
    """What a product is added to: a matrix, zeros, or a bias, which is the same for all rows."""

    at: int
    stride: int
    """Bytes from row to row: zero where all rows are the same."""
    panel: int
    """Bytes from one panel's columns to the next."""


class Room(NamedTuple):
    """Addresses in scratch."""

    zeros: int
    """A row of zeros."""
    edge: int
    """A whole block of C, for those that stand over C's edge."""


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


@inner
def room(scratch):
    scratch[:MICRO_COLUMNS] = np.float32(0.0)
    return Room(scratch.ctypes.data, scratch.ctypes.data + FLOAT * EDGE)


@inner
def copy(target, source, n_rows, n_columns):
    for i in range(n_rows):
        for j in range(n_columns):
            number = load(source.at + i * source.stride + FLOAT * j)
            store(target.at + i * target.stride + FLOAT * j, number)


def _multiplying(microkernel):
    """The loops around `microkernel`."""

    @inner
    def multiply(c, start, a, b, size, edge):
        """C (M, N) = A (M, K) @ B (K, N) + start. Blocks that stand over C's edge are computed in `edge`."""
        M, N, K = size
        for k in range(0, K, BLOCKS.steps):
            n_steps = min(BLOCKS.steps, K - k)
            n_lines = n_steps * STEP // LINE * MICRO_ROWS // M + 1
            for panel in range((N + MICRO_COLUMNS - 1) // MICRO_COLUMNS):
                n_columns = min(MICRO_COLUMNS, N - panel * MICRO_COLUMNS)
                b_from = b.at + panel * b.panel + k * STEP
                next_line = b_from + b.panel
                for m in range(0, M, MICRO_ROWS):
                    for _ in range(n_lines):  # of the next panel, while this one is in the cache
                        prefetch(next_line)
                        next_line += LINE
                    n_rows = min(MICRO_ROWS, M - m)
                    target = Matrix(c.at + m * c.stride + panel * STEP, c.stride)
                    origin = target  # what earlier steps of K have summed
                    if k == 0:
                        origin = Matrix(start.at + m * start.stride + panel * start.panel, start.stride)
                    whole = n_rows == MICRO_ROWS and n_columns == MICRO_COLUMNS
                    to, begin = target, origin
                    if not whole:
                        to = begin = Matrix(edge, STEP)
                        copy(to, origin, n_rows, n_columns)
                    a_from = a.at + (m // MICRO_ROWS) * a.panel + k * a.step
                    microkernel(to, begin, Matrix(a_from, a.stride), n_rows - 1, b_from, n_steps)
                    if not whole:
                        copy(target, to, n_rows, n_columns)

    return multiply


class Operand(NamedTuple):
    """A: MICRO_ROWS rows at a time."""

    at: int
    panel: int
    """Bytes to the next MICRO_ROWS rows."""
    step: int
    """Bytes to the next step of K."""
    stride: int
    """What the microkernel takes for its stride: from row to row, or from step to step."""


_multiply_rows = _multiplying(microkernel_of_rows)
_multiply_columns = _multiplying(microkernel_of_columns)


@inner
def multiply_from(c, start, a, b, size, edge):
    """C = A @ B + start for a row-major A."""
    _multiply_rows(c, start, Operand(a.at, MICRO_ROWS * a.stride, FLOAT, a.stride), b, size, edge)


@inner
def multiply(c, a, b, size, spare):
    """C = A @ B for a row-major A."""
    multiply_from(c, Start(spare.zeros, 0, 0), a, b, size, spare.edge)


@inner
def add_product(c, a, b, size, spare):
    """C += A @ B for an A whose columns lie side by side."""
    rows = Operand(a.at, a.panel, a.step, a.step)
    _multiply_columns(c, Start(c.at, c.stride, STEP), rows, b, size, spare.edge)


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
    c = Matrix(out.ctypes.data, FLOAT * N)
    start = Start(spare.zeros, 0, 0)
    if add:
        start = Start(c.at, c.stride, STEP)
    elif bias.size:
        start = Start(bias.ctypes.data, 0, STEP)
    b = Panels(panels.ctypes.data, K * STEP, STEP)
    multiply_from(c, start, Matrix(a.ctypes.data, FLOAT * K), b, (M, N, K), spare.edge)


@kernel
def add_gradient(dweight, x, dy, scratch):
    """dweight (K, N) += x (M, K)^T @ dy (M, N)."""
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
            a = Panels(packed_x, n_rows * MICRO_ROWS * FLOAT, MICRO_ROWS * FLOAT)
            pack_rows(a.at, a.panel, Matrix(x.ctypes.data + FLOAT * (m * K + k), FLOAT * K), n_rows, width)
            for n in range(0, N, MICRO_COLUMNS):
                n_columns = min(MICRO_COLUMNS, N - n)
                b = Panels(packed_dy, 0, STEP)
                dy_block = Matrix(dy.ctypes.data + FLOAT * (m * N + n), FLOAT * N)
                pack_panels(b.at, n_rows * STEP, dy_block, n_rows, n_columns)
                c = Matrix(dweight.ctypes.data + FLOAT * (k * N + n), FLOAT * N)
                add_product(c, a, b, (width, n_columns, n_rows), spare)


@kernel
def add_column_sums(dbias, dy):
    """dbias (N,) += the sum of dy (M, N) over its rows."""
    M, N = dy.shape
    for m in range(M):
        for n in range(N):
            dbias[n] += dy[m, n]
