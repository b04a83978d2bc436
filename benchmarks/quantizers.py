"""How much Q4_K and Q6_K lose, beside llama.cpp's search on the same blocks.

    python benchmarks/quantizers.py [libggml-base.so]

Prints a table for docs/how-to/gguf.md: the squared error of handgrad's search over that of llama.cpp's, for
three kinds of weights. llama.cpp's search is restated here from quantize_row_q4_K_ref and
quantize_row_q6_K_ref of ggml-quants.c: `make_qkx2_quants` for the lines of Q4_K, `make_qx_quants` for the
multiples of Q6_K. Each has its own weights of the error; the better of those and of equal weights counts.
With the library of a llama.cpp, handgrad's search is compared with that code itself, too.
"""

import argparse
import ctypes
from collections.abc import Iterator

import numpy as np

from handgrad.formats import half, quantization

ROWS = 512


def their_lines(x: np.ndarray, weighted: bool) -> np.ndarray:
    """What llama.cpp's Q4_K makes of the parts x (N, 8, 32), in float32."""
    w = np.sqrt(np.square(x).mean(axis=2, keepdims=True)) + np.abs(x) if weighted else np.ones_like(x)
    low, high = np.minimum(x.min(axis=2, keepdims=True), 0), x.max(axis=2, keepdims=True)
    span = np.where(high > low, high - low, 1)
    scale, minimum = span / 15, low
    error = _weighted(w, x, scale * _steps(15 / span * (x - low)) + low)
    for step in range(21):
        q = _steps((15 - 1 + 0.1 * step) / span * (x - low))
        s, m = _their_line(w, x, q)
        trial = _weighted(w, x, s * q + m)
        scale, minimum = np.where(trial < error, s, scale), np.where(trial < error, m, minimum)
        error = np.minimum(trial, error)
    scale, minimum = np.where(high > low, scale, 0), -minimum
    d, e = (half.rounded(v.max(axis=1, keepdims=True) / 63) for v in (scale, minimum))
    s = d * np.clip(np.rint(_over(scale, scale.max(axis=1, keepdims=True) / 63)), 0, 63)
    m = e * np.clip(np.rint(_over(minimum, minimum.max(axis=1, keepdims=True) / 63)), 0, 63)
    return s * _steps(_over(x + m, s)) - m


def _their_line(w: np.ndarray, x: np.ndarray, q: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The weighted least-squares scale and offset; an offset above 0 becomes 0."""
    sw, sx, sq, sqq, sxq = (v.sum(axis=2, keepdims=True) for v in (w, w * x, w * q, w * q * q, w * x * q))
    determinant = sw * sqq - sq * sq
    scale, offset = _over(sw * sxq - sx * sq, determinant), _over(sqq * sx - sq * sxq, determinant)
    return np.where(offset > 0, _over(sxq, sqq), scale), np.minimum(offset, 0)


def their_multiples(x: np.ndarray, weighted: bool) -> np.ndarray:
    """What llama.cpp's Q6_K makes of the parts x (N, 16, 16), in float32."""
    w = np.square(x) if weighted else np.ones_like(x)
    largest = np.take_along_axis(x, np.abs(x).argmax(axis=2)[..., None], axis=2)
    scale, gain = np.zeros_like(largest), np.zeros_like(largest)
    for step in (0, *range(-9, 0), *range(1, 10)):
        q = np.clip(np.rint(_over(x, largest / -(32 + 0.1 * step))), -32, 31)
        xq, qq = ((w * v).sum(axis=2, keepdims=True) for v in (x * q, q * q))
        better = xq * _over(xq, qq) > gain
        scale, gain = np.where(better, _over(xq, qq), scale), np.where(better, xq * _over(xq, qq), gain)
    top = np.take_along_axis(scale, np.abs(scale).argmax(axis=1)[:, None], axis=1)
    s = half.rounded(top / -128) * np.clip(np.rint(_over(scale, top / -128)), -128, 127)
    return s * np.clip(np.rint(_over(x, s)), -32, 31)


SEARCHES = {"Q4_K": (their_lines, 32), "Q6_K": (their_multiples, 16)}


def errors(kind: str, rows: np.ndarray) -> tuple[float, float]:
    """The squared errors of handgrad's search and of llama.cpp's."""
    search, part = SEARCHES[kind]
    x = rows.astype(np.float32).reshape(-1, 256 // part, part)
    ours = quantization.dequantize(kind, quantization.quantize(kind, rows)).reshape(x.shape)
    theirs = min(np.square(search(x, weighted) - x).sum(dtype=float) for weighted in (True, False))
    return float(np.square(ours - x).sum(dtype=float)), float(theirs)


def library_error(path: str, kind: str, rows: np.ndarray) -> float:
    """The squared error of llama.cpp's own code, in its library ggml-base."""
    library = ctypes.CDLL(path)
    number, pointer = ctypes.c_int64, ctypes.c_void_p
    library.ggml_quantize_chunk.argtypes = [ctypes.c_int, pointer, pointer, number, number, number, pointer]
    x = np.ascontiguousarray(rows, np.float32)
    data = np.zeros((len(x), quantization.row_bytes(kind, x.shape[1])), np.uint8)
    code = quantization.KINDS[kind].code
    library.ggml_quantize_chunk(code, x.ctypes.data, data.ctypes.data, 0, *x.shape, None)
    return float(np.square(quantization.dequantize(kind, data) - x).sum(dtype=float))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("library", nargs="?", help="libggml-base.so of a llama.cpp, to compare with itself")
    path = parser.parse_args().library
    print("| kind | weights | relative error | squared, of the restated search's | of llama.cpp's |")
    print("|---|---|---|---|---|")
    for name, rows in kinds_of_weights():
        for kind in SEARCHES:
            ours, theirs = errors(kind, rows)
            lost = (ours / np.square(rows, dtype=float).sum()) ** 0.5
            own = f"{ours / library_error(path, kind, rows):.3f}" if path else ""
            print(f"| {kind} | {name} | {lost:.2%} | {ours / theirs:.3f} | {own} |")


def kinds_of_weights() -> Iterator[tuple[str, np.ndarray]]:
    rng = np.random.default_rng(0)
    shape = (ROWS, 2048)
    yield "normal", rng.normal(size=shape).astype(np.float32)
    yield "heavy-tailed (Student's t, 4)", rng.standard_t(4, size=shape).astype(np.float32)
    yield "uniform", rng.uniform(-1, 1, size=shape).astype(np.float32)


def _steps(v: np.ndarray) -> np.ndarray:
    return np.clip(np.rint(v), 0, 15)


def _over(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.divide(a, b, out=np.zeros(np.broadcast_shapes(a.shape, b.shape), np.float32), where=b != 0)


def _weighted(w: np.ndarray, x: np.ndarray, near: np.ndarray) -> np.ndarray:
    return (w * np.square(x - near)).sum(axis=2, keepdims=True)


if __name__ == "__main__":
    main()
