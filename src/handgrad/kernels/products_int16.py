r"""Matrix products in scaled 16-bit integers: what `products` does, with exact sums, at twice the speed.

$$a_{mk} \approx q_{mk}\,s_{m\,b(k)},\quad b_{kn} \approx r_{kn}\,t_{b(k)\,n},\qquad
C_{mn} = \sum_b s_{mb}\,t_{bn}\sum_{k\in b} q_{mk}\,r_{kn}$$

Rows of A and columns of B are scaled, in blocks along the summed axis, so that a block's largest number is
`TOP` = 2047, and rounded to the nearest whole number: $|a - qs| \le (\tfrac12 + 2^{-10})\,s$, where the
$2^{-10}$ allows for the roundings of s itself. A block has at most `BLOCK` = 512 steps, so its sum is at most
$512\cdot2047^2 < 2^{31}$: it cannot overflow, and is exact. Once a block it is converted to float32,
multiplied by both scales and added to C, in registers. The error of a product is that of its operands,

$$|C - AB| \le \sum_b s_{mb}\,t_{bn}\sum_{k\in b}\big(\tfrac12|q_{mk}| + \tfrac12|r_{kn}| + \tfrac14\big),$$

and float32's roundings. A block whose largest number is below $2^{-100}$ becomes zero. One that holds an
infinity or a NaN has NaN for its scale, and so NaN is everything that it takes part in.

The gradient of a weight sums over tokens: $dW_{kn} = \sum_m q_{mk}\,(s_{m\,b(k)}\,dy_{mn})$. X's integers are
used as they are; what is in brackets is scaled anew, by columns, for each block b of K and of tokens.
"""

import numpy as np

from handgrad.kernels import microkernel, quantize_columns
from handgrad.kernels.arena import round_up
from handgrad.kernels.jit import inner, kernel
from handgrad.kernels.machine import LANES, MICRO_COLUMNS, MICRO_ROWS
from handgrad.kernels.microkernel import Matrix
from handgrad.kernels.products import FLOAT, is_symmetric, mirror
from handgrad.kernels.quantize_columns import SCALED
from handgrad.kernels.scaled import BLOCK, HALF_WORD, head, n_blocks, operand_shape, slice_rows
from handgrad.kernels.scaled_panels import depth, n_scales, pack_block, pack_transposed, packed_shape
from handgrad.kernels.vector import load
from handgrad.kernels.vector_moves import pairing
from handgrad.kernels.walk import ROOM, STEP, WORD, Left, Right, Size, beginning, onto, room, walking

__all__ = [
    "add_column_sums", "add_gradient", "affine", "depth", "operand_shape", "pack", "packed_shape",
    "slice_rows",
]  # fmt: skip

DTYPE: type = np.uint32
"""Of panels: words of two integers, and the bits of scales."""
BYTES = 4
OPERAND: type = np.int16
TOKENS = 512
"""The most tokens in one part of a batch: one block of a weight's gradient."""
ONE = np.float32(1.0)
UNIT = ROOM
"""Where in scratch, after room, a one lies; then what each token is multiplied by, the scales of dY's
columns, the words of a panel of dY, and those of X."""
FACTORS = UNIT + LANES
COLUMN_SCALES = FACTORS + BLOCK
PACKED_DY = COLUMN_SCALES + MICRO_COLUMNS
PACKED_X = PACKED_DY + BLOCK // 2 * MICRO_COLUMNS


def scratch_size(K: int) -> int:
    """32-bit numbers that `affine` and `add_gradient` work in."""
    return PACKED_X + BLOCK // 2 * round_up(BLOCK, MICRO_ROWS)


@kernel
def pack(panels, transposed, weight, first, last):
    """Rows `first` to `last` of `weight` (K, N) in its panels and in those of its transpose; `first` is a
    multiple of `slice_rows(K)`, and `last` is one, or K."""
    block = slice_rows(weight.shape[0])
    for row in range(first, last, block):
        pack_block(panels, weight, row // block, row, min(block, last - row))
    pack_transposed(transposed, weight, first, last)


_walk_rows = walking(microkernel.INT16, by_columns=False)
_walk_columns = walking(microkernel.INT16, by_columns=True)
_per_one_of_columns = quantize_columns.per_one_of_columns(SCALED)
_round_columns = quantize_columns.round_columns(SCALED)
_pair_rows, _pair = pairing(MICRO_ROWS), pairing(1)


@kernel
def affine(out, a, panels, bias, add, scratch):
    """out (M, N) = A (M, K) @ W + bias; with `add`, out += A @ W. No bias has length 0."""
    M, N = out.shape
    first = n_scales(panels.shape[1])
    n_words = panels.shape[1] - first
    stride, numbers = HALF_WORD * a.shape[1], a[0, head(2 * n_words) :].ctypes.data
    spare = room(scratch)
    c, scales, at = Matrix(out.ctypes.data, FLOAT * N), Matrix(a.ctypes.data, stride), panels.ctypes.data
    left = Left(numbers, MICRO_ROWS * stride, stride, scales)
    right = Right(at + STEP * first, STEP * panels.shape[1], at)
    size = Size(M, N, n_words, slice_rows(2 * n_words) // 2)
    _walk_rows(c, beginning(c, bias, add, spare), left, right, size, spare.edge)


@inner
def _pair_columns(target, at, stride, n_tokens, n_columns, zeros):
    """Columns of X as rows of its transpose, MICRO_ROWS at a time: words of two tokens, step after step."""
    n_pairs = (n_tokens + 1) // 2
    for first in range(0, n_columns, MICRO_ROWS):
        for pair in range(n_pairs):
            to = target + WORD * (first * n_pairs + pair * MICRO_ROWS)
            one = at + 2 * pair * stride + HALF_WORD * first
            other = one + stride if 2 * pair + 1 < n_tokens else zeros
            if first + MICRO_ROWS <= n_columns:
                _pair_rows(to, one, other)
            else:
                for j in range(n_columns - first):
                    _pair(to + WORD * j, one + HALF_WORD * j, other + HALF_WORD * j)


@kernel
def add_gradient(dweight, x, dy, add, scratch):
    """dweight (K, N) += X^T @ dY for the operands of X (M, K) and dY (M, N); without `add`, from zero."""
    symmetric = is_symmetric(x, dy, add)
    if not add:
        dweight[:] = 0
    K, N = dweight.shape
    M = x.shape[0]
    spare = room(scratch)
    scratch[UNIT] = ONE
    unit = Matrix(scratch.ctypes.data + FLOAT * UNIT, 0)
    packed_dy, packed_x = scratch.ctypes.data + FLOAT * PACKED_DY, scratch.ctypes.data + FLOAT * PACKED_X
    factors = scratch[FACTORS : FACTORS + BLOCK]
    scales = scratch.ctypes.data + FLOAT * COLUMN_SCALES
    x_stride, dy_stride = HALF_WORD * x.shape[1], HALF_WORD * dy.shape[1]
    x_numbers, dy_numbers = x[0, head(K) :].ctypes.data, dy[0, head(N) :].ctypes.data
    n_parts = (M + BLOCK - 1) // BLOCK
    n_most = round_up((M + n_parts - 1) // n_parts, 2)
    x_block, dy_block = slice_rows(K), slice_rows(N)
    for m in range(0, M, n_most):
        n_tokens = min(n_most, M - m)
        n_pairs = (n_tokens + 1) // 2
        for k in range(0, K, x_block):
            n_rows = min(x_block, K - k)
            x_at = x_numbers + m * x_stride + HALF_WORD * k
            _pair_columns(packed_x, x_at, x_stride, n_tokens, n_rows, spare.zeros)
            step = WORD * MICRO_ROWS
            left = Left(packed_x, n_pairs * step, step, unit)
            for n in range(0, N, MICRO_COLUMNS):
                if n % dy_block == 0:
                    for i in range(n_tokens):
                        x_scale = load(x[m + i].ctypes.data + WORD * (k // x_block))
                        factors[i] = x_scale * load(dy[m + i].ctypes.data + WORD * (n // dy_block))
                n_columns = min(MICRO_COLUMNS, N - n)
                n_sums = min(n_rows, n + n_columns - k) if symmetric else n_rows
                if n_sums > 0:
                    dy_at = dy_numbers + m * dy_stride + HALF_WORD * n
                    _per_one_of_columns(scales, dy_at, dy_stride, n_tokens, factors.ctypes.data)
                    _round_columns(packed_dy, scales, dy_at, dy_stride, n_tokens, factors.ctypes.data)
                    c = Matrix(dweight.ctypes.data + FLOAT * (k * N + n), FLOAT * N)
                    size = Size(n_sums, n_columns, n_pairs, n_pairs)
                    _walk_columns(c, onto(c), left, Right(packed_dy, 0, scales), size, spare.edge)
    if symmetric:
        mirror(dweight)


@kernel
def add_column_sums(dbias, dy):
    """dbias (N,) += the sum of dY (M, N) over its rows."""
    N = dbias.size
    block = slice_rows(N)
    for m in range(dy.shape[0]):
        numbers = dy[m, head(N) :]
        for b in range(n_blocks(N)):
            scale = load(dy[m].ctypes.data + WORD * b)
            for n in range(b * block, min(N, (b + 1) * block)):
                dbias[n] += scale * np.float32(numbers[n])
