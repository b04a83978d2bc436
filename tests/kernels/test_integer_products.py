"""Products in scaled integers against bounds that follow from their scales; what they are compiled to.

A number a is q s to within `HALF` units s: half of one is the rounding to a whole number, the rest that of
the scale and of the product with its inverse, each of them 2^-24 of 2047 units.
"""

import subprocess
import sys
from typing import NamedTuple

import numpy as np
import pytest

from handgrad.kernels import machine, products_int16, scaled_panels
from handgrad.kernels.quantize import INT16
from handgrad.kernels.rounding import round_rows
from handgrad.kernels.scaled import BLOCK, TOP, head, n_blocks, operand_shape, slice_rows
from tests.kernels.test_machines import python

HALF = 0.5 + 2.0**-10
ULP = 2.0**-23
NONE = np.empty(0, np.float32)
SIZES = (
    (1, 1, 1), (2, 2, 2), (31, 33, 1), (33, 31, 65), (1, 513, 33), (13, 512, 31), (40, 1025, 96),
    (513, 33, 34), (1025, 64, 31),
)  # fmt: skip


def unwritten(shape: tuple[int, ...], dtype: type) -> np.ndarray:
    """Memory that holds NaN, in words and scales alike."""
    n_bytes = int(np.prod(shape)) * np.dtype(dtype).itemsize
    return np.full(n_bytes // 4, np.nan, np.float32).view(dtype).reshape(shape)


def operand(x: np.ndarray) -> np.ndarray:
    a = unwritten(operand_shape(*x.shape), np.int16)
    round_rows(a, x)
    return a


def packed(weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of the weight, and of its transpose."""
    K, N = weight.shape
    shapes = (products_int16.packed_shape(*shape) for shape in ((K, N), (N, K)))
    panels, transposed = (unwritten(shape, products_int16.DTYPE) for shape in shapes)
    rows = slice_rows(K)
    for first in range(0, K, rows):
        products_int16.pack(panels, transposed, weight, first, min(first + rows, K))
    return panels, transposed


def scratch(K: int) -> np.ndarray:
    return unwritten((products_int16.scratch_size(K),), np.float32)


class Rounded(NamedTuple):
    """What a matrix was rounded to, in float64, shaped like it."""

    numbers: np.ndarray
    scales: np.ndarray


def of_rows(a: np.ndarray, K: int) -> Rounded:
    numbers = a[:, head(K) : head(K) + K].astype(float)
    scales = a.view(np.float32)[:, : n_blocks(K)]
    return Rounded(numbers, np.repeat(scales, slice_rows(K), axis=1)[:, :K].astype(float))


def of_columns(panels: np.ndarray, K: int, N: int) -> Rounded:
    width = panels.shape[2]
    scales, words = panels[:, : n_blocks(K)].view(np.float32), panels[:, n_blocks(K) :]
    halves = words.reshape(*words.shape, 1).view(np.int16)
    numbers = halves.transpose(1, 3, 0, 2).reshape(2 * words.shape[1], len(panels) * width)[:K, :N]
    scales = scales.swapaxes(0, 1).reshape(n_blocks(K), -1)
    scales = np.repeat(scales, slice_rows(K), axis=0)[:K, :N]
    return Rounded(numbers.astype(float), scales.astype(float))


def bound(a: Rounded, b: Rounded) -> np.ndarray:
    """How far the sum of s t (q r) may be from AB, with float32's roundings, some for each block."""
    (q, s), (r, t) = (Rounded(np.abs(x.numbers), x.scales) for x in (a, b))
    n_roundings = 4 + q.shape[1] / 32
    rounding = ULP * n_roundings * ((q * s) @ (r * t))
    return HALF * ((q * s) @ t + s @ (r * t)) + HALF**2 * (s @ t) + rounding


def inputs(rng, M, K, N):
    x, weight, dy = (rng.normal(size=size).astype(np.float32) for size in ((M, K), (K, N), (M, N)))
    return x, weight, dy


def test_no_block_of_products_overflows():
    assert BLOCK == 512
    assert BLOCK * TOP**2 < 2**31
    for K in range(1, 3000):
        assert slice_rows(K) <= BLOCK
        assert slice_rows(K) % 32 == 0


def test_shapes_say_how_many_scales_there_are():
    for K in range(1, 20_000, 7):
        _, n_rows, _ = products_int16.packed_shape(K, 1)
        n_scales = scaled_panels.n_scales(n_rows, INT16)
        assert n_scales == n_blocks(K)
        assert operand_shape(1, K) == (1, head(2 * (n_rows - n_scales)) + 2 * (n_rows - n_scales))


@pytest.mark.parametrize(("M", "K", "N"), SIZES)
def test_operands_are_whole_numbers_within_half_a_unit(rng, M, K, N):
    x, weight, _ = inputs(rng, M, K, N)
    x[0] *= np.geomspace(1, 1e4, K)
    panels, transposed = packed(weight)
    for exact, rounded in (
        (x, of_rows(operand(x), K)),
        (weight, of_columns(panels, K, N)),
        (weight.T, of_columns(transposed, N, K)),
    ):
        assert (np.abs(exact - rounded.numbers * rounded.scales) <= HALF * rounded.scales).all()
        assert np.abs(rounded.numbers).max() == TOP


@pytest.mark.parametrize(("M", "K", "N"), SIZES)
@pytest.mark.parametrize("addend", ["nothing", "bias", "out"])
def test_a_product_is_as_near_as_its_scales_say(rng, M, K, N, addend):
    x, weight, dy = inputs(rng, M, K, N)
    for a, exact, n, which in ((x, weight, K, 0), (dy, weight.T, N, 1)):
        b = packed(weight)[which]
        size = exact.shape[1]
        bias = rng.normal(size=size).astype(np.float32) if addend == "bias" else NONE
        out = rng.normal(size=(M, size)).astype(np.float32)
        before = out.astype(float) if addend == "out" else (bias if bias.size else 0.0)
        rounded = operand(a)
        products_int16.affine(out, rounded, b, bias, addend == "out", scratch(n))
        limit = bound(of_rows(rounded, n), of_columns(b, n, size)) + 4 * ULP * np.abs(before)
        assert (np.abs(out - before - a.astype(float) @ exact) <= limit).all()


def gradient_bound(x, dy, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """X is wrong by HALF s; dY by HALF of its own unit, and, times s, by HALF of its column's."""
    M, K = x.shape
    N = dy.shape[1]
    q, s = of_rows(a, K)
    r, t = of_rows(b, N)
    n_tokens = -(-M // -(-M // BLOCK))
    n_tokens += n_tokens % 2
    limit = HALF * (s.T @ np.abs(dy)) + HALF * (np.abs(q * s).T @ t)
    limit += ULP * (4 + M / n_tokens) * (np.abs(q * s).T @ np.abs(r * t))
    for m in range(0, M, n_tokens):
        tokens = slice(m, m + n_tokens)
        for k in range(K):
            units = np.abs(s[tokens, k, None] * r[tokens] * t[tokens]).max(axis=0) / TOP
            limit[k] += HALF * np.abs(q[tokens, k]).sum() * units
    return limit


@pytest.mark.parametrize(("M", "K", "N"), SIZES)
def test_a_gradient_is_as_near_as_its_scales_say_and_added(rng, M, K, N):
    x, _, dy = inputs(rng, M, K, N)
    a, b = operand(x), operand(dy)
    dweight, dbias = rng.normal(size=(K, N)).astype(np.float32), rng.normal(size=N).astype(np.float32)
    dweight_before, dbias_before = dweight.astype(float), dbias.astype(float)
    products_int16.add_gradient(dweight, a, b, scratch(K))
    products_int16.add_column_sums(dbias, b)
    limit = gradient_bound(x, dy, a, b) + (4 + M / 256) * ULP * np.abs(dweight_before)
    assert (np.abs(dweight - dweight_before - x.T.astype(float) @ dy) <= limit).all()
    r, t = of_rows(b, N)
    limit = HALF * t.sum(axis=0) + M * ULP * (np.abs(r * t).sum(axis=0) + np.abs(dbias_before))
    assert (np.abs(dbias - dbias_before - dy.astype(float).sum(axis=0)) <= limit).all()


@pytest.mark.parametrize(("M", "K", "N"), SIZES)
def test_whole_numbers_are_multiplied_exactly(rng, M, K, N):
    """Where each block's largest number is TOP, a unit is one; sums below 2^24 lose nothing in float32."""
    x = rng.integers(-1, 2, size=(M, K)).astype(np.float32)
    weight = rng.integers(-1, 2, size=(K, N)).astype(np.float32)
    x[:, :: slice_rows(K)], weight[:: slice_rows(K)] = TOP, -TOP
    out = np.empty((M, N), np.float32)
    panels, _ = packed(weight)
    products_int16.affine(out, operand(x), panels, NONE, False, scratch(K))
    expected = x.astype(float) @ weight
    assert np.abs(expected).max() < 2**24
    assert (out == expected).all()


def test_one_element_ten_thousand_times_its_row_keeps_the_bound(rng):
    x, weight, dy = inputs(rng, 40, 600, 70)
    x[3, 5], weight[7, 9], dy[11, 13] = 1e4, 1e4, 1e4
    a, b, (panels, _) = operand(x), operand(dy), packed(weight)
    out, dweight = np.empty_like(dy), np.zeros_like(weight)
    products_int16.affine(out, a, panels, NONE, False, scratch(600))
    products_int16.add_gradient(dweight, a, b, scratch(600))
    limit = bound(of_rows(a, 600), of_columns(panels, 600, 70))
    assert (np.abs(out - x.astype(float) @ weight) <= limit).all()
    assert (np.abs(dweight - x.T.astype(float) @ dy) <= gradient_bound(x, dy, a, b)).all()


@pytest.mark.parametrize("tiny", [0.0, 1e-45, -1e-38, 1e-31])
def test_rows_of_zeros_and_of_next_to_nothing_give_zeros(rng, tiny):
    x, weight, dy = inputs(rng, 5, 33, 34)
    x[2], weight[:, 4], dy[:, 6] = tiny, tiny, tiny
    out, dweight = np.empty_like(dy), np.zeros_like(weight)
    products_int16.affine(out, operand(x), packed(weight)[0], NONE, False, scratch(33))
    products_int16.add_gradient(dweight, operand(x), operand(dy), scratch(33))
    assert (out[2] == 0).all()
    assert (out[:, 4] == 0).all()
    assert (np.abs(dweight[:, 6]) <= 33 * HALF * np.abs(dy).max()).all()
    assert np.count_nonzero(out) == 4 * 33
    assert np.isfinite(dweight).all()


@pytest.mark.parametrize("bad", [np.inf, -np.inf, np.nan])
def test_an_infinity_or_nan_is_never_a_quiet_number(rng, bad):
    M, K, N = 20, 600, 40
    for place in ("x", "weight", "dy"):
        x, weight, dy = inputs(rng, M, K, N)
        {"x": x, "weight": weight, "dy": dy}[place][13, 17] = bad
        x[5] = dy[5] = 0.0  # zero times NaN
        a, b, (panels, transposed) = operand(x), operand(dy), packed(weight)
        out, dx, dweight, dbias = (np.zeros(s, np.float32) for s in ((M, N), (M, K), (K, N), N))
        products_int16.affine(out, a, panels, NONE, False, scratch(K))
        products_int16.affine(dx, b, transposed, NONE, False, scratch(N))
        products_int16.add_gradient(dweight, a, b, scratch(K))
        products_int16.add_column_sums(dbias, b)
        is_bad = {
            "x": (out[13], dweight[17]),
            "weight": (out[:, 17], dx[:, 13]),
            "dy": (dx[13], dweight[:, 17], dbias[17]),
        }[place]
        for numbers in is_bad:
            assert np.isnan(numbers).all()
        others = np.ones((M, N), bool)
        if place == "x":
            others[13] = False
        if place == "weight":
            others[:, 17] = False
        assert np.isfinite(out[others]).all()


GUARDED = '''
import ctypes, hashlib, mmap, re, sys
import numpy as np
from handgrad.kernels import machine, products_int16
from handgrad.kernels.rounding import round_rows

PAGE, kept = mmap.PAGESIZE, []
libc = ctypes.CDLL(None, use_errno=True)

def guarded(shape, dtype=np.float32):
    """Numbers between two pages that may not be touched, beside the one or the other."""
    n_bytes = int(np.prod(shape)) * np.dtype(dtype).itemsize
    n_pages = -(-n_bytes // PAGE)
    memory = mmap.mmap(-1, (n_pages + 2) * PAGE)
    address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    for page in (0, n_pages + 1):
        assert libc.mprotect(ctypes.c_void_p(address + page * PAGE), PAGE, 0) == 0
    kept.append(memory)
    start = PAGE + (n_pages * PAGE - n_bytes if at_end else 0)
    array = np.frombuffer(memory, np.float32, n_bytes // 4, start)
    array[:] = left
    return array.view(dtype).reshape(shape)

def filled(values):
    array = guarded(values.shape)
    array[...] = values
    return array

def run(M, K, N):
    """The bits of all products."""
    rng = np.random.default_rng(0)
    x, weight, dy = (filled(rng.normal(size=s).astype(np.float32)) for s in ((M, K), (K, N), (M, N)))
    a, b = (guarded(products_int16.operand_shape(M, width), np.int16) for width in (K, N))
    round_rows(a, x)
    round_rows(b, dy)
    panels, transposed = (guarded(products_int16.packed_shape(*s), np.uint32) for s in ((K, N), (N, K)))
    step = products_int16.slice_rows(K)
    for first in range(0, K, step):
        products_int16.pack(panels, transposed, weight, first, min(first + step, K))
    out, dx, dweight, dbias = guarded((M, N)), guarded((M, K)), filled(0 * weight), filled(np.zeros(N))
    scratch = guarded((products_int16.scratch_size(K),))
    products_int16.affine(out, a, panels, filled(np.ones(N)), False, scratch)
    scratch = guarded((products_int16.scratch_size(N),))
    products_int16.affine(dx, b, transposed, np.empty(0, np.float32), False, scratch)
    scratch = guarded((products_int16.scratch_size(K),))
    products_int16.add_gradient(dweight, a, b, scratch)
    products_int16.add_column_sums(dbias, b)
    kept.clear()
    return b"".join(array.tobytes() for array in (out, dx, dweight, dbias))

bits = hashlib.sha256()
for size in ((1, 1, 1), (2, 33, 31), (13, 513, 65), (514, 40, 12), (25, 128, 1025)):
    results = set()
    for at_end in (True, False):
        for left in (0.0, np.nan):
            results.add(run(*size))
    (result,) = results
    bits.update(result)
found = []
for kernel in (products_int16.affine, products_int16.add_gradient):
    (code,) = kernel.inspect_asm().values()
    found.append("+".join(name for name in ("vpdpwssd", "pmaddwd") if name in code))
print(machine.LANES, machine.INT16, *found, bits.hexdigest())
'''

INSTRUCTIONS = {"vnni": "vpdpwssd", "madd": "pmaddwd"}


def _here(lanes: int) -> list[str]:
    """How this processor can multiply, with so many lanes."""
    best = machine._int16(machine.FEATURES, lanes)
    return {"vnni": ["vnni", "madd", "emulate"], "madd": ["madd", "emulate"]}.get(best, ["emulate"])


@pytest.mark.skipif(sys.platform != "linux", reason="guard pages are made with mprotect")
@pytest.mark.parametrize("lanes", [4, 8, 16])
def test_every_instruction_computes_the_same_bits_and_stays_in_its_arrays(lanes, tmp_path):
    if lanes == 16 and not machine.FEATURES.get("avx512f"):
        pytest.skip("no AVX-512")
    digests = set()
    for how in _here(lanes):
        result: subprocess.CompletedProcess[str] = python(
            GUARDED, tmp_path / how, HANDGRAD_LANES=str(lanes), HANDGRAD_INT16=how
        )
        assert result.returncode == 0, result.stderr[-2000:] or f"killed by signal {-result.returncode}"
        n, named, *instructions, digest = result.stdout.split()
        assert (n, named) == (str(lanes), how)
        if how in INSTRUCTIONS:
            assert instructions == [INSTRUCTIONS[how]] * 2
        digests.add(digest)
    assert len(digests) == 1


WITHOUT_AVX512 = """
import re
from llvmlite import binding
features = {name: has and "avx512" not in name for name, has in binding.get_host_cpu_features().items()}
binding.get_host_cpu_features = lambda: {**features, "avx2": True, "avxvnni": True}
from numba import types
from handgrad.kernels import machine, products_int16
from handgrad.kernels.products_int16 import affine, add_gradient
matrix, operand, packed, vector = (
    types.Array(kind, n, "C")
    for kind, n in ((types.float32, 2), (types.int16, 2), (types.uint32, 3), (types.float32, 1))
)
for kernel, signature in (
    (affine, (matrix, operand, packed, vector, types.boolean, vector)),
    (add_gradient, (matrix, operand, operand, vector)),
):
    kernel.compile(signature)
    (code,) = kernel.inspect_asm().values()
    vex = re.findall(r"\\{vex\\}\\s+vpdpwssd\\s+%ymm", code)
    print(machine.LANES, machine.INT16, len(vex) > 12, "zmm" in code)
"""


@pytest.mark.skipif(not machine.FEATURES.get("sse2"), reason="compiled for x86, never run")
def test_avx_vnni_has_its_own_form_of_the_instruction(tmp_path):
    features = "+avx2,+fma,+avxvnni,-avx512f"
    chosen = {"NUMBA_CPU_NAME": "alderlake", "NUMBA_CPU_FEATURES": features, "HANDGRAD_LANES": "auto"}
    result = python(WITHOUT_AVX512, tmp_path, **chosen)
    assert result.returncode == 0, result.stderr[-2000:]
    assert result.stdout.splitlines() == ["8 vnni True False"] * 2
