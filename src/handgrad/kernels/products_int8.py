r"""Matrix products in scaled 8-bit integers: those with a weight; a weight's gradient stays in 16 bits.

An operand is that of `products_int16`. `affine` narrows its integers from `TOP` = 2047 to 127, some rows at a
time, just before they are multiplied; a weight's panels hold 8 bits. With $u = 2^{15}/2033$ (see `quantize`),

$$q'_{mk} = \operatorname{round}(q_{mk}/u),\qquad
C_{mn} = \sum_b u\,s_{mb}\,t_{bn}\Big(\sum_{k\in b} (q'_{mk} + 128)\,r_{kn} - 128\sum_{k\in b} r_{kn}\Big),$$

since the instruction multiplies numbers without a sign by numbers with one. A block has at most 512 steps:
neither sum exceeds $512\cdot255\cdot127 < 2^{31}$ in size. The error is that of the operands,

$$|C - AB| \le \sum_b u\,s_{mb}\,t_{bn}\sum_{k\in b}\big(\tfrac12|q'_{mk}| + h|r_{kn}| + \tfrac12h\big),\qquad
h = \tfrac12 + \tfrac1{2u},$$

and float32's roundings. What is infinite or NaN becomes NaN, as in 16 bits.
"""

import numpy as np

from handgrad.kernels import microkernel, products_int16, scaled_panels
from handgrad.kernels.jit import inner, kernel
from handgrad.kernels.machine import LANES, MICRO_ROWS
from handgrad.kernels.microkernel import Matrix
from handgrad.kernels.products_int16 import add_column_sums, add_gradient
from handgrad.kernels.quantize import INT8, narrow_words
from handgrad.kernels.scaled import BLOCK, HALF_WORD, head, operand_shape, slice_rows
from handgrad.kernels.walk import ROOM, STEP, WORD, Left, Right, Size, Start, beginning, onto, room, walking

__all__ = ["add_column_sums", "add_gradient", "affine", "operand_shape", "pack", "packed_shape", "slice_rows"]

DTYPE: type = np.uint32
"""Of panels: words of four integers, offsets, and the bits of scales."""
BYTES = 4
OPERAND: type = np.int16
TOKENS = 512
"""The most tokens in one part of a batch: as in 16 bits."""
ROWS = 512
"""Rows of A that are narrowed at a time."""
PER_WORD = INT8.per_word

_pack = scaled_panels.packing(INT8)
_walk = walking(microkernel.INT8, by_columns=False)


def packed_shape(K: int, N: int) -> tuple[int, int, int]:
    """The shape of a (K, N) weight's panels."""
    return scaled_panels.packed_shape(K, N, INT8)


def depth(n_rows: int) -> int:
    """How many numbers, zeros that fill them up included, panels of so many rows are summed over."""
    return scaled_panels.depth(n_rows, INT8)


def scratch_size(K: int) -> int:
    """32-bit numbers that `affine` and `add_gradient` work in."""
    return max(ROOM + ROWS * BLOCK // PER_WORD, products_int16.scratch_size(K))


@kernel
def pack(panels, transposed, weight, first, last):
    """Rows `first` to `last` of `weight` (K, N) in its panels and in those of its transpose; `first` is a
    multiple of `slice_rows(K)`, and `last` is one, or K."""
    _pack(panels, transposed, weight, first, last)


@inner
def _narrow(target, source, stride, n_rows, n_words):
    """Words of 8-bit integers, row after row, of rows of 16-bit ones."""
    for row in range(n_rows):
        for word in range(0, n_words, LANES):
            to = target + WORD * (row * n_words + word)
            narrow_words(to, source + row * stride + HALF_WORD * PER_WORD * word)


@kernel
def affine(out, a, panels, bias, add, scratch):
    """out (M, N) = A (M, K) @ W + bias; with `add`, out += A @ W. No bias has length 0."""
    M, N = out.shape
    n_heads = scaled_panels.n_heads(panels.shape[1], INT8)
    n_words = panels.shape[1] - n_heads
    block = slice_rows(PER_WORD * n_words) // PER_WORD
    stride, numbers = HALF_WORD * a.shape[1], a[0, head(PER_WORD * n_words) :].ctypes.data
    spare = room(scratch)
    narrowed, at = scratch.ctypes.data + WORD * ROOM, panels.ctypes.data
    c = Matrix(out.ctypes.data, WORD * N)
    start = beginning(c, bias, add, spare)
    for m in range(0, M, ROWS):
        n_rows = min(ROWS, M - m)
        for b in range(n_heads // INT8.heads):
            first = b * block
            n = min(block, n_words - first)
            _narrow(narrowed, numbers + m * stride + HALF_WORD * PER_WORD * first, stride, n_rows, n)
            scales = Matrix(a.ctypes.data + m * stride + WORD * b, stride)
            left = Left(narrowed, MICRO_ROWS * WORD * n, WORD * n, scales)
            right = Right(at + STEP * (n_heads + first), STEP * panels.shape[1], at + STEP * INT8.heads * b)
            target = Matrix(c.at + m * c.stride, c.stride)
            begin = onto(target)
            if b == 0:
                begin = Start(start.at + m * start.stride, start.stride, start.panel)
            _walk(target, begin, left, right, Size(n_rows, N, n, n), spare.edge)
