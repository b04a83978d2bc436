r"""float32 matrix products: $C = AB$ with a packed B, and a weight's gradient, $dW \mathrel{+}= X^\top dY$.

A weight is packed once per update into panels of `TILE_COLUMNS` columns: panel p holds, row after row, the
numbers that one step of a tile reads. Forward takes panels of W, backward panels of its transpose. A panel's
part of `K_BLOCK` rows stays in the first-level cache while all rows of A pass by.
"""

import numpy as np

from handgrad.kernels.jit import inner, kernel
from handgrad.kernels.machine import LANES, TILE_COLUMNS, TILE_ROWS
from handgrad.kernels.tile import tile_of_columns, tile_of_rows
from handgrad.kernels.vector import (
    load,
    move,
    prefetch,
    store,
    transpose_block,
)

FLOAT = 4
"""Bytes of a float32."""
STEP = FLOAT * TILE_COLUMNS
"""Bytes from one row of a panel to the next."""
LINE = 64
"""Bytes of a cache line."""
K_BLOCK = 384
ROW_BLOCK = 384
"""Rows that a weight's gradient sums at a time."""
COLUMN_BLOCK = 384
"""Columns of X whose packed rows stay in the second-level cache."""
EDGE = TILE_ROWS * TILE_COLUMNS
DTYPE: type = np.float32
BYTES = FLOAT


def packed_shape(K: int, N: int) -> tuple[int, int, int]:
    """The shape of a (K, N) weight's panels."""
    return -(-N // TILE_COLUMNS), K, TILE_COLUMNS


def scratch_size(K: int) -> int:
    """float32 numbers that `affine` and `add_gradient` work in: zeros, an edge tile, packed X, packed dY."""
    panels = -(-COLUMN_BLOCK // TILE_ROWS)
    return 2 * EDGE + ROW_BLOCK * (panels * TILE_ROWS + TILE_COLUMNS) + LANES


@inner
def copy(target, target_stride, source, source_stride, n_rows, n_columns):
    for i in range(n_rows):
        for j in range(n_columns):
            store(target + i * target_stride + FLOAT * j, load(source + i * source_stride + FLOAT * j))


@inner
def multiply(
    c, c_stride, start, start_stride, start_step, by_columns, a, a_panel, a_step, b, b_panel, M, N, K, edge
):
    """C (M, N) = A (M, K) @ B (K, N) + start. A's panels of TILE_ROWS rows, and B's of TILE_COLUMNS columns,
    lie `a_panel` and `b_panel` bytes apart; `start_step` is from one panel's start to the next: zero where it
    is the same for all. Tiles that stand over the edge of C are computed in `edge`."""
    for k in range(0, K, K_BLOCK):
        n_steps = min(K_BLOCK, K - k)
        a_from = a + (k * a_step if by_columns else k * FLOAT)
        n_lines = n_steps * STEP // LINE * TILE_ROWS // M + 1
        for panel in range((N + TILE_COLUMNS - 1) // TILE_COLUMNS):
            n_columns = min(TILE_COLUMNS, N - panel * TILE_COLUMNS)
            b_from = b + panel * b_panel + k * STEP
            next_line = b_from + b_panel
            for m in range(0, M, TILE_ROWS):
                for _ in range(n_lines):  # of the next panel, while this one is in the cache
                    prefetch(next_line)
                    next_line += LINE
                n_rows = min(TILE_ROWS, M - m)
                target, target_stride = c + m * c_stride + panel * STEP, c_stride
                if k == 0:
                    origin, origin_stride = start + m * start_stride + panel * start_step, start_stride
                else:
                    origin, origin_stride = target, target_stride
                inside = n_rows == TILE_ROWS and n_columns == TILE_COLUMNS
                if not inside:
                    copy(edge, STEP, origin, origin_stride, n_rows, n_columns)
                    origin, origin_stride = edge, STEP
                    target, target_stride = edge, STEP
                a_tile = a_from + (m // TILE_ROWS) * a_panel
                if by_columns:
                    tile_of_columns(
                        target,
                        target_stride,
                        origin,
                        origin_stride,
                        a_tile,
                        a_step,
                        n_rows - 1,
                        b_from,
                        n_steps,
                    )
                else:
                    tile_of_rows(
                        target,
                        target_stride,
                        origin,
                        origin_stride,
                        a_tile,
                        a_step,
                        n_rows - 1,
                        b_from,
                        n_steps,
                    )
                if not inside:
                    copy(c + m * c_stride + panel * STEP, c_stride, edge, STEP, n_rows, n_columns)


@inner
def multiply_rows(c, c_stride, a, a_stride, b, b_panel, M, N, K, zeros, edge):
    """C = A @ B for a row-major A; `zeros` is a row of TILE_COLUMNS of them."""
    multiply(c, c_stride, zeros, 0, 0, False, a, TILE_ROWS * a_stride, a_stride, b, b_panel, M, N, K, edge)


@inner
def add_product(c, c_stride, a, a_panel, a_step, b, b_panel, M, N, K, edge):
    """C += A @ B for an A whose columns are contiguous."""
    multiply(c, c_stride, c, c_stride, STEP, True, a, a_panel, a_step, b, b_panel, M, N, K, edge)


def _packing(width):
    """A function that packs panels of `width` columns, vector by vector: a constant, for speed.

    Where vectors do not fill a row they run over into the next one, which is written after it; only where
    there is no next row to read from are numbers copied one by one.
    """
    n_vectors = -(-width // LANES)

    @inner
    def pack_columns(target, panel_stride, source, source_stride, n_rows, n_columns):
        for panel in range((n_columns + width - 1) // width):
            n = min(width, n_columns - panel * width)
            to, step = target + panel * panel_stride, width * FLOAT
            origin = source + panel * step
            over = panel * width + n_vectors * LANES > n_columns
            n_whole = n_rows - 1 if over else n_rows
            for row in range(n_whole if n == width else 0):
                for vector in range(n_vectors):
                    at = vector * LANES * FLOAT
                    move(to + row * step + at, origin + row * source_stride + at)
            for row in range(n_whole if n == width else 0, n_rows):
                for j in range(n):
                    store(to + row * step + j * FLOAT, load(origin + row * source_stride + j * FLOAT))
                for j in range(n, width):
                    store(to + row * step + j * FLOAT, np.float32(0.0))

    return pack_columns


pack_panels, pack_rows = _packing(TILE_COLUMNS), _packing(TILE_ROWS)
"""Columns of B, TILE_COLUMNS at a time; or columns of X, the rows of its transpose, TILE_ROWS at a time."""


@inner
def pack_transposed(target, source, source_stride, n_rows, n_columns):
    """Panels of the transpose: column j of panel p is row TILE_COLUMNS p + j of the source."""
    for panel in range((n_rows + TILE_COLUMNS - 1) // TILE_COLUMNS):
        to = target + panel * n_columns * STEP
        for half in range(0, TILE_COLUMNS, LANES):
            first = panel * TILE_COLUMNS + half
            n = max(0, min(LANES, n_rows - first))
            whole = n_columns // LANES * LANES if n == LANES else 0
            for column in range(0, whole, LANES):
                transpose_block(
                    to + column * STEP + half * FLOAT,
                    STEP,
                    source + first * source_stride + column * FLOAT,
                    source_stride,
                )
            for column in range(whole, n_columns):
                for j in range(n):
                    number = load(source + (first + j) * source_stride + column * FLOAT)
                    store(to + column * STEP + (half + j) * FLOAT, number)
                for j in range(n, LANES):
                    store(to + column * STEP + (half + j) * FLOAT, np.float32(0.0))


@kernel
def pack(panels, transposed, weight, first, last):
    """Rows `first` to `last` of `weight` (K, N) in its panels and in those of its transpose; `first` is a
    multiple of TILE_COLUMNS."""
    K, N = weight.shape
    source = weight.ctypes.data + FLOAT * first * N
    pack_panels(panels.ctypes.data + first * STEP, K * STEP, source, FLOAT * N, last - first, N)
    to = transposed.ctypes.data + first // TILE_COLUMNS * N * STEP
    pack_transposed(to, source, FLOAT * N, last - first, N)


@kernel
def affine(out, x, panels, bias, add, scratch):
    """out (M, N) = x (M, K) @ W + bias, or, with `add`, that much more; no bias has length 0."""
    M, K = x.shape
    N = out.shape[1]
    scratch[:TILE_COLUMNS] = 0.0
    edge = scratch.ctypes.data + FLOAT * EDGE
    start, start_stride, start_step = scratch.ctypes.data, 0, 0
    if add:
        start, start_stride, start_step = out.ctypes.data, FLOAT * N, STEP
    elif bias.size:
        start, start_step = bias.ctypes.data, STEP
    c, c_stride = out.ctypes.data, FLOAT * N
    rows, stride, panel = x.ctypes.data, FLOAT * K, TILE_ROWS * FLOAT * K
    b = panels.ctypes.data
    multiply(
        c, c_stride, start, start_stride, start_step, False, rows, panel, stride, b, K * STEP, M, N, K, edge
    )


@kernel
def add_gradient(dweight, x, dy, scratch):
    """dweight (K, N) += x (M, K)^T @ dy (M, N)."""
    M, K = x.shape
    N = dy.shape[1]
    edge = scratch.ctypes.data + FLOAT * EDGE
    packed_dy = edge + FLOAT * EDGE
    packed_x = packed_dy + ROW_BLOCK * STEP
    n_blocks = (M + ROW_BLOCK - 1) // ROW_BLOCK
    block = (M + n_blocks - 1) // n_blocks
    for m in range(0, M, block):
        n_rows = min(block, M - m)
        for k in range(0, K, COLUMN_BLOCK):
            width = min(COLUMN_BLOCK, K - k)
            x_block, panel = x.ctypes.data + FLOAT * (m * K + k), n_rows * TILE_ROWS * FLOAT
            pack_rows(packed_x, panel, x_block, FLOAT * K, n_rows, width)
            for n in range(0, N, TILE_COLUMNS):
                n_columns = min(TILE_COLUMNS, N - n)
                dy_block = dy.ctypes.data + FLOAT * (m * N + n)
                pack_panels(packed_dy, n_rows * STEP, dy_block, FLOAT * N, n_rows, n_columns)
                c, step = dweight.ctypes.data + FLOAT * (k * N + n), TILE_ROWS * FLOAT
                add_product(c, FLOAT * N, packed_x, panel, step, packed_dy, 0, width, n_columns, n_rows, edge)


@kernel
def add_column_sums(dbias, dy):
    """dbias (N,) += the sum of dy (M, N) over its rows."""
    M, N = dy.shape
    for m in range(M):
        for n in range(N):
            dbias[n] += dy[m, n]
