r"""How GGUF stores numbers: plain floats, and blocks of small integers with a scale.

A block holds $n$ numbers of a row as integers $q$ and what turns them back:

| kind | block | a number is | bits |
|---|---|---|---|
| Q8_0 | 32 | $d\,q$, $q$ in -128..127 | 8.5 |
| Q4_0 | 32 | $d\,(q-8)$, $q$ in 0..15 | 4.5 |
| Q4_1 | 32 | $d\,q+m$, $q$ in 0..15 | 5 |
| Q5_0 | 32 | $d\,(q-16)$, $q$ in 0..31 | 5.5 |
| Q4_K, Q5_K | 256 | $d\,s_j\,q-e\,m_j$ in 8 parts of 32; $s_j$, $m_j$ of 6 bits, $q$ of 4 or 5 | 4.5, 5.5 |
| Q6_K | 256 | $d\,s_j\,(q-32)$ in 16 parts of 16; $s_j$ of 8 bits, $q$ of 6 | 6.5625 |

$d$, $e$ and Q4_1's $m$ are float16. Source of the layouts: ggml-quants.c and the `gguf` package of llama.cpp
(https://github.com/ggml-org/llama.cpp, MIT).
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from handgrad.formats import half, k_quants

CHUNK = 1 << 16
"""Numbers converted at a time: what stays in the cache."""


class Kind(NamedTuple):
    """One way to store numbers."""

    code: int
    """Its number in a GGUF file."""
    numbers: int
    """In a block."""
    n_bytes: int
    """Of a block."""
    read: Callable[[np.ndarray], np.ndarray]
    """From blocks (N, n_bytes) of uint8 to float32 (N, numbers)."""
    write: Callable[[np.ndarray], np.ndarray] | None
    """From float32 (N, numbers) to blocks; None where handgrad only reads the kind."""


def row_bytes(kind: str, n: int) -> int:
    """The bytes of a row of `n` numbers, which fill whole blocks."""
    return n // KINDS[kind].numbers * KINDS[kind].n_bytes


def dequantize(kind: str, data: np.ndarray) -> np.ndarray:
    """The numbers (rows, n) in float32 that `data`, uint8 (rows, bytes a row), holds."""
    _, numbers, n_bytes, read, _ = KINDS[kind]
    with np.errstate(over="ignore", invalid="ignore"):  # not finite then, as the caller may find
        return _by_chunks(read, data, n_bytes, numbers, np.float32)


def quantize(kind: str, rows: np.ndarray) -> np.ndarray:
    """float32 (rows, n) as uint8 (rows, bytes a row); `UserError` where float16 cannot hold the scales."""
    _, numbers, n_bytes, _, write = KINDS[kind]
    assert write is not None, kind
    return _by_chunks(write, rows, numbers, n_bytes, np.uint8)


def _by_chunks(
    convert: Callable[[np.ndarray], np.ndarray], rows: np.ndarray, width: int, out_width: int, dtype: type
) -> np.ndarray:
    """Convert blocks of `width` elements into blocks of `out_width`, some rows at a time."""
    per_row = rows.shape[1] // width
    out = np.empty((len(rows), per_row * out_width), dtype)
    step = max(1, CHUNK // max(1, rows.shape[1]))
    for first in range(0, len(rows), step):
        part = np.ascontiguousarray(rows[first : first + step])
        out[first : first + step] = convert(part.reshape(-1, width)).reshape(len(part), -1)
    return out


def _read_f32(blocks: np.ndarray) -> np.ndarray:
    return blocks.view("<f4")


def _write_f32(x: np.ndarray) -> np.ndarray:
    return x.astype("<f4", copy=False).view(np.uint8)


def _read_bf16(blocks: np.ndarray) -> np.ndarray:
    return (blocks.view("<u2").astype(np.uint32) << 16).view(np.float32)


def _write_bf16(x: np.ndarray) -> np.ndarray:
    """The upper half of each float32, rounded to the nearest, ties to even."""
    bits = x.view(np.uint32)
    rounded = bits + np.uint32(0x7FFF) + ((bits >> 16) & 1)
    return (rounded >> 16).astype("<u2").view(np.uint8)


def _read_q8_0(blocks: np.ndarray) -> np.ndarray:
    return half.read(blocks[:, :2]) * blocks[:, 2:].view(np.int8)


def _write_q8_0(x: np.ndarray) -> np.ndarray:
    """The largest becomes 127; halves are rounded away from zero, as C's roundf does."""
    scale = np.abs(x).max(axis=1, keepdims=True) / np.float32(127)
    scaled = x * _inverse(scale)
    q = np.copysign(np.floor(np.abs(scaled) + np.float32(0.5)), scaled).astype(np.int8)
    return np.hstack([half.write(scale), q.view(np.uint8)])


def _read_q4_0(blocks: np.ndarray) -> np.ndarray:
    return half.read(blocks[:, :2]) * (_nibbles(blocks[:, 2:]).view(np.int8) - np.int8(8))


def _write_q4_0(x: np.ndarray) -> np.ndarray:
    """The number of largest magnitude becomes q = 0, which is -8 times the scale: it keeps its value."""
    largest = np.take_along_axis(x, np.abs(x).argmax(axis=1)[:, None], axis=1)
    scale = largest / np.float32(-8)
    q = np.clip((x * _inverse(scale) + np.float32(8.5)).astype(np.uint8), 0, 15)
    return np.hstack([half.write(scale), q[:, :16] | q[:, 16:] << 4])


def _read_q4_1(blocks: np.ndarray) -> np.ndarray:
    return half.read(blocks[:, :2]) * _nibbles(blocks[:, 4:]) + half.read(blocks[:, 2:4])


def _read_q5_0(blocks: np.ndarray) -> np.ndarray:
    high = np.unpackbits(blocks[:, 2:6], axis=1, bitorder="little")
    q = (_nibbles(blocks[:, 6:]) | high << 4).view(np.int8) - np.int8(16)
    return half.read(blocks[:, :2]) * q


def _nibbles(packed: np.ndarray) -> np.ndarray:
    """The lower four bits of all bytes, then the upper four."""
    return np.hstack([packed & 15, packed >> 4])


def _inverse(scale: np.ndarray) -> np.ndarray:
    """1 / scale, and 0 for 0."""
    return np.divide(np.float32(1), scale, out=np.zeros_like(scale), where=scale != 0)


KINDS = {
    "F32": Kind(0, 1, 4, _read_f32, _write_f32),
    "F16": Kind(1, 1, 2, half.read, half.write),
    "BF16": Kind(30, 1, 2, _read_bf16, _write_bf16),
    "Q8_0": Kind(8, 32, 34, _read_q8_0, _write_q8_0),
    "Q4_0": Kind(2, 32, 18, _read_q4_0, _write_q4_0),
    "Q4_1": Kind(3, 32, 20, _read_q4_1, None),
    "Q5_0": Kind(6, 32, 22, _read_q5_0, None),
    "Q4_K": Kind(12, 256, 144, k_quants.read_q4, k_quants.write_q4),
    "Q5_K": Kind(13, 256, 176, k_quants.read_q5, None),
    "Q6_K": Kind(14, 256, 210, k_quants.read_q6, k_quants.write_q6),
}
"""By the name that llama.cpp gives them."""

PLAIN = ("F32", "F16", "BF16")
"""The kinds that are no blocks."""
WRITTEN = tuple(name for name, kind in KINDS.items() if kind.write)
