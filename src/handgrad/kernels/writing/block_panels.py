"""Panels of quantized blocks, of what GGUF files hold and of float32 weights.

A file's row is one output's blocks, one after the other (ggml, `ggml-common.h`): Q8_0 is a float16 scale and
32 signed bytes; Q4_0 a float16 scale and 16 bytes of two numbers; Q4_1 has a float16 least number after the
scale. Panels hold the same numbers in another order: nothing is rounded.
"""

import numpy as np

from handgrad.kernels.machine import LANES
from handgrad.kernels.writing.blocks import BLOCK, Q4_0, Q4_1, Q8_0, SCALE, Kind

KINDS = {kind.name: kind for kind in (Q8_0, Q4_0, Q4_1)}
"""The kinds that products read, by the name that files give them."""


def packed(kind: Kind, data: np.ndarray) -> np.ndarray:
    """The panels (N / LANES, n_blocks, kind.size) of rows of blocks (N, bytes).

    Columns are filled up with zeros.
    """
    n_before = (2 if kind.has_least else 1) * 2
    blocks = data.reshape(len(data), -1, n_before + BLOCK * kind.n_bits // 8)
    whole = np.zeros((-(-len(data) // LANES) * LANES, *blocks.shape[1:]), np.uint8)
    whole[: len(data)] = blocks
    if kind is Q8_0:
        whole[:, :, n_before:] ^= 128  # a signed byte, and 128 more
    columns = whole.reshape(-1, LANES, *blocks.shape[1:]).swapaxes(1, 2)  # (panel, block, column, bytes)
    heads: np.ndarray = np.ascontiguousarray(columns[..., :n_before]).view(np.float16).astype(SCALE)
    numbers = columns[..., n_before:]
    fours = numbers.reshape(*numbers.shape[:3], -1, 4).swapaxes(2, 3)  # (panel, block, four, column, 4)
    parts = heads.swapaxes(2, 3).copy().view(np.uint8), fours
    return np.concatenate([part.reshape(*columns.shape[:2], -1) for part in parts], axis=2)


def quantized(weight: np.ndarray) -> np.ndarray:
    """A weight (K, N) as rows of Q8_0 blocks (N, bytes): 8 bits, a float16 scale for 32 numbers of a column.

    A number is off by at most half a unit, the block's largest / 254, and the rounding of its scale.
    """
    columns = np.ascontiguousarray(weight.T, np.float32).reshape(weight.shape[1], -1, BLOCK)
    scales = (np.abs(columns).max(2, keepdims=True) / 127.0).astype(np.float16)
    per_one = np.divide(
        1.0, scales, dtype=np.float32, where=scales > 0, out=np.zeros(scales.shape, np.float32)
    )
    numbers = np.clip(np.rint(columns * per_one), -127, 127).astype(np.int8)
    rows = np.concatenate([scales.view(np.uint8), numbers.view(np.uint8)], axis=2)
    return rows.reshape(len(columns), -1)
