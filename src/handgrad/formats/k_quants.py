"""The bytes of Q4_K, Q5_K and Q6_K: blocks of 256 numbers in parts, each with a small scale of its own.

The layouts are those of ggml-quants.c (https://github.com/ggml-org/llama.cpp, MIT); `k_search` finds what to
write.
"""

import numpy as np

from handgrad.formats import half, k_search

BLOCK = 256


def read_q4(blocks: np.ndarray) -> np.ndarray:
    """Q4_K: d, e (float16), 12 bytes of scales, 128 of integers."""
    return _scaled(blocks, _fields(blocks[:, 16:], 4, 32))


def read_q5(blocks: np.ndarray) -> np.ndarray:
    """Q5_K: as Q4_K, with 32 bytes before the integers that hold the fifth bit of each."""
    return _scaled(blocks, _fields(blocks[:, 48:], 4, 32) | _fields(blocks[:, 16:48], 1, 32) << 4)


def read_q6(blocks: np.ndarray) -> np.ndarray:
    """Q6_K: 128 bytes of lower bits, 64 of upper ones, 16 scales, d (float16)."""
    q = _fields(blocks[:, :128], 4, 64) | _fields(blocks[:, 128:192], 2, 32) << 4
    scales = half.read(blocks[:, 208:]) * np.ascontiguousarray(blocks[:, 192:208]).view(np.int8)
    numbers = scales[:, :, None] * (q.reshape(-1, 16, 16).view(np.int8) - np.int8(32))
    return numbers.reshape(-1, BLOCK)


def write_q4(x: np.ndarray) -> np.ndarray:
    """Q4_K blocks (N, 144) for x (N, 256)."""
    half.require(x)
    fit = k_search.lines(x.reshape(-1, 8, 32))
    shared = half.write(np.hstack([fit.d, fit.e]))
    return np.hstack([shared, _packed_scales(fit), _packed(fit.q.reshape(-1, BLOCK), 4, 32)])


def write_q6(x: np.ndarray) -> np.ndarray:
    """Q6_K blocks (N, 210) for x (N, 256)."""
    half.require(x)
    fit = k_search.multiples(x.reshape(-1, 16, 16))
    q = (fit.q.reshape(-1, BLOCK) + 32).astype(np.uint8)
    scales = fit.scales.astype(np.int8).view(np.uint8)
    return np.hstack([_packed(q & 15, 4, 64), _packed(q >> 4, 2, 32), scales, half.write(fit.d)])


def _fields(packed: np.ndarray, bits: int, run: int) -> np.ndarray:
    """Integers (N, n) in bytes: of each `run` bytes first all their lowest `bits`, then all the next."""
    shifts = np.arange(0, 8, bits, dtype=np.uint8)[:, None]
    fields = (packed.reshape(len(packed), -1, 1, run) >> shifts) & np.uint8((1 << bits) - 1)
    return fields.reshape(len(packed), -1)


def _packed(q: np.ndarray, bits: int, run: int) -> np.ndarray:
    """The bytes that `_fields` reads `q` from."""
    fields = q.astype(np.uint8).reshape(len(q), -1, 8 // bits, run)
    shifts = np.arange(0, 8, bits, dtype=np.uint8)[:, None]
    return np.bitwise_or.reduce(fields << shifts, axis=2).reshape(len(q), -1)


def _scaled(blocks: np.ndarray, q: np.ndarray) -> np.ndarray:
    """d s q - e m in each part, for the integers q (N, 256)."""
    d, e = half.read(blocks[:, :2]), half.read(blocks[:, 2:4])
    low, middle, high = blocks[:, 4:16].reshape(-1, 3, 4).swapaxes(0, 1)
    scales = np.hstack([low & 63, (high & 15) | (low >> 6) << 4])
    minima = np.hstack([middle & 63, high >> 4 | (middle >> 6) << 4])
    numbers = (d * scales)[:, :, None] * q.reshape(-1, 8, 32) - (e * minima)[:, :, None]
    return numbers.reshape(-1, BLOCK)


def _packed_scales(fit: k_search.Lines) -> np.ndarray:
    """Eight scales and eight minima of 6 bits in 12 bytes: upper bits of the last four fill the first's."""
    s, m = fit.scales.astype(np.uint8), fit.minima.astype(np.uint8)
    low = s[:, :4] | s[:, 4:] >> 4 << 6
    middle = m[:, :4] | m[:, 4:] >> 4 << 6
    return np.hstack([low, middle, s[:, 4:] & 15 | (m[:, 4:] & 15) << 4])
