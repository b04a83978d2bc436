"""Weights rounded and packed for products on tiles, which read words of two bfloat16 numbers (see `amx`).

The panels of a weight hold words of two rows; those of its transpose, words of two columns. Both are written
block by block, 32 x 32, so that each block of the weight is read once.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from handgrad.kernels.amx import LINE, SIDE, WORDS
from handgrad.kernels.jit import inner, kernel
from handgrad.kernels.machine import LANES
from handgrad.kernels.rounding import to_bfloat16
from handgrad.kernels.vector import I32, at_address, row_address, same
from handgrad.kernels.vector_moves import store_transposed

WORD = 4
"""Bytes."""
SHIFT = np.uint32(16)
ZERO = np.float32(0.0)


def packed_shape(K: int, N: int) -> tuple[int, int, int]:
    """The shape of a (K, N) weight's panels, in words."""
    return -(-N // SIDE), -(-K // SIDE) * WORDS, SIDE


def slice_rows(K: int) -> int:
    """`pack` takes a multiple of so many rows of a (K, N) weight, or what is left of it: whole panels."""
    return 64


def _rounded(builder: ir.IRBuilder, address: ir.Value, n: int) -> ir.Value:
    """n float32 numbers at an address as bfloat16: `to_bfloat16`, of vectors."""
    kind = ir.VectorType(I32, n)
    pattern = builder.load(at_address(builder, address, 0, kind), align=4)
    odd = builder.and_(builder.lshr(pattern, same(kind, 16)), same(kind, 1))
    upper = builder.lshr(builder.add(builder.add(pattern, same(kind, 0x7FFF)), odd), same(kind, 16))
    return builder.trunc(upper, ir.VectorType(ir.IntType(16), n))


@intrinsic
def pair_vectors(typing_context: Any, target: Any, upper: Any, lower: Any) -> Any:
    """LANES words at `target`, of the float32 numbers at `upper` and those at `lower`."""

    def emit(context: Any, builder: ir.IRBuilder, signature: Any, args: Sequence[ir.Value]) -> Any:
        target, *sources = args
        words = ir.VectorType(I32, LANES)
        first, second = (builder.zext(_rounded(builder, source, LANES), words) for source in sources)
        word = builder.or_(first, builder.shl(second, same(words, 16)))
        builder.store(word, at_address(builder, target, 0, words), align=4)
        return context.get_dummy_value()

    return types.void(*[types.int64] * 3), emit


@intrinsic
def transpose_words(typing_context: Any, target: Any, source: Any, source_stride: Any) -> Any:
    """LANES lines of LANES words at `target`: the words of two columns of LANES rows at `source`."""

    def emit(context: Any, builder: ir.IRBuilder, signature: Any, args: Sequence[ir.Value]) -> Any:
        target, source, stride = args
        rows = [
            builder.bitcast(
                _rounded(builder, row_address(builder, source, stride, i), 2 * LANES),
                ir.VectorType(I32, LANES),
            )
            for i in range(LANES)
        ]
        store_transposed(builder, target, ir.Constant(ir.IntType(64), LINE), rows)
        return context.get_dummy_value()

    return types.void(*[types.int64] * 3), emit


@inner
def _word(first, second):
    return np.uint32(to_bfloat16(first)) | np.uint32(np.uint32(to_bfloat16(second)) << SHIFT)


@inner
def _pack_whole(panel, transposed, block, stride):
    """16 lines of a panel and of one of the transpose, from a block of 32 x 32 numbers: all are addresses."""
    for k in range(WORDS):
        upper = block + 2 * k * stride
        for j in range(0, SIDE, LANES):
            pair_vectors(panel + LINE * k + WORD * j, upper + 4 * j, upper + stride + 4 * j)
    for k in range(0, WORDS, LANES):
        for i in range(0, SIDE, LANES):
            transpose_words(transposed + LINE * k + WORD * i, block + i * stride + 8 * k, stride)


@inner
def _pack_part(panel, transposed, block):
    """The same of what is left at an edge, as arrays; what the block has not counts as zero."""
    n_rows, n_columns = block.shape
    for i in range(n_rows):
        for j in range(n_columns):
            if i % 2 == 0:
                panel[i // 2, j] = _word(block[i, j], block[i + 1, j] if i + 1 < n_rows else ZERO)
            if j % 2 == 0:
                transposed[j // 2, i] = _word(block[i, j], block[i, j + 1] if j + 1 < n_columns else ZERO)


@kernel
def pack(panels, transposed, weight, first, last):
    """Rows `first`, a multiple of 64, to `last` of `weight` in its panels and in those of its transpose.

    Words beyond the weight's edges are not written.
    """
    N = weight.shape[1]
    for m in range(first, last, SIDE):
        for n in range(0, N, SIDE):
            row, panel = panels[n // SIDE, m // 2 :], transposed[m // SIDE, n // 2 :]
            if m + SIDE <= last and n + SIDE <= N:
                block = weight.ctypes.data + 4 * (m * N + n)
                _pack_whole(row.ctypes.data + 0 * n, panel.ctypes.data + 0 * n, block, 4 * N)
            else:
                _pack_part(row, panel, weight[m : min(m + SIDE, last), n : min(n + SIDE, N)])
