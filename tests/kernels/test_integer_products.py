"""Products in scaled integers against bounds that follow from their scales.

A number a is q s to within `HALF` units s: half of one is the rounding to a whole number, the rest that of
the scale and of the product with its inverse, each of them 2^-24 of 2047 units.
"""

from typing import NamedTuple

import numpy as np
import pytest

from handgrad.kernels import products_int16, scaled_panels
from handgrad.kernels.quantize import TOP
from handgrad.kernels.rounding import round_rows
from handgrad.kernels.scaled import BLOCK, head, n_blocks, operand_shape, slice_rows

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


def multiplied(a: np.ndarray, b: np.ndarray, N: int) -> np.ndarray:
    """A (M, K) times panels of (K, N)."""
    out = unwritten((len(a), N), np.float32)
    products_int16.affine(out, a, b, NONE, False, scratch())
    return out


def scratch() -> np.ndarray:
    return unwritten((products_int16.scratch_size(1),), np.float32)


class Rounded(NamedTuple):
    """What a matrix was rounded to, in float64, shaped like it."""

    numbers: np.ndarray
    scales: np.ndarray


def of_rows(a: np.ndarray, K: int) -> Rounded:
    numbers = a[:, head(K) : head(K) + K].astype(float)
    scales = a.view(np.float32)[:, : n_blocks(K)]
    return Rounded(numbers, np.repeat(scales, slice_rows(K), axis=1)[:, :K].astype(float))


def of_columns(panels: np.ndarray, K: int, N: int) -> Rounded:
    width, n = panels.shape[2], n_blocks(K)
    scales, words = panels[:, :n].view(np.float32), panels[:, n:]
    numbers = words.copy().reshape(*words.shape, 1).view(np.int16)
    numbers = numbers.transpose(1, 3, 0, 2).reshape(-1, len(panels) * width)[:K, :N]
    scales = scales.swapaxes(0, 1).reshape(n, -1)
    scales = np.repeat(scales, slice_rows(K), axis=0)[:K, :N]
    return Rounded(numbers.astype(float), scales.astype(float))


def bound(a: Rounded, b: Rounded) -> np.ndarray:
    """How far the sum of s t (q r) may be from AB, with float32's roundings, some for each block."""
    (q, s), (r, t) = (Rounded(np.abs(x.numbers), x.scales) for x in (a, b))
    n_roundings = 4 + q.shape[1] / 32
    rounding = ULP * n_roundings * ((q * s) @ (r * t))
    return HALF * ((q * s) @ t) + HALF * (s @ (r * t) + HALF * (s @ t)) + rounding


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
        n_scales, depth = scaled_panels.n_scales(n_rows), products_int16.depth(n_rows)
        assert n_scales == n_blocks(K)
        assert operand_shape(1, K) == (1, head(depth) + depth)


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
        products_int16.affine(out, rounded, b, bias, addend == "out", scratch())
        limit = bound(of_rows(rounded, n), of_columns(b, n, size))
        limit += 4 * ULP * np.abs(before)
        assert (np.abs(out - before - a.astype(float) @ exact) <= limit).all()


@pytest.mark.parametrize(("M", "K", "N"), SIZES)
def test_sums_of_integers_are_exact(rng, M, K, N):
    """Only their conversion, the scales and the sum over blocks are rounded, to float32."""
    x, weight, _ = inputs(rng, M, K, N)
    a, (b, _) = operand(x), packed(weight)
    out = multiplied(a, b, N)
    (q, s), (r, t) = of_rows(a, K), of_columns(b, K, N)
    expected, size, block = np.zeros((M, N)), np.zeros((M, N)), slice_rows(K)
    for first in range(0, K, block):
        part = slice(first, first + block)
        sums = q[:, part] @ r[part] * s[:, first, None] * t[first]
        expected, size = expected + sums, size + np.abs(sums)
    assert (np.abs(out - expected) <= ULP * (4 + n_blocks(K)) * size).all()


@pytest.mark.parametrize("sign", [1, -1])
def test_the_largest_sums_do_not_overflow(sign):
    """512 numbers, all of them the largest: the sum is 0.999 of 2^31."""
    M, K, N = 512, 1024, 40
    x, weight = np.ones((M, K), np.float32), np.full((K, N), sign, np.float32)
    out = multiplied(operand(x), packed(weight)[0], N)
    np.testing.assert_allclose(out, sign * K, rtol=16 * ULP)
    dweight = np.zeros((K, N), np.float32)
    products_int16.add_gradient(
        dweight, operand(x), operand(sign * np.ones((M, N), np.float32)), True, scratch()
    )
    np.testing.assert_allclose(dweight, sign * M, rtol=16 * ULP)


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
    products_int16.add_gradient(dweight, a, b, True, scratch())
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
    out = multiplied(operand(x), packed(weight)[0], N)
    expected = x.astype(float) @ weight
    assert np.abs(expected).max() < 2**24
    assert (out == expected).all()


def test_one_element_ten_thousand_times_its_row_keeps_the_bound(rng):
    x, weight, dy = inputs(rng, 40, 600, 70)
    x[3, 5], weight[7, 9], dy[11, 13] = 1e4, 1e4, 1e4
    a, b, (panels, _) = operand(x), operand(dy), packed(weight)
    out, dweight = multiplied(a, panels, 70), np.zeros_like(weight)
    products_int16.add_gradient(dweight, a, b, True, scratch())
    limit = bound(of_rows(a, 600), of_columns(panels, 600, 70))
    assert (np.abs(out - x.astype(float) @ weight) <= limit).all()
    assert (np.abs(dweight - x.T.astype(float) @ dy) <= gradient_bound(x, dy, a, b)).all()


@pytest.mark.parametrize("tiny", [0.0, 1e-45, -1e-38, 1e-31])
def test_rows_of_zeros_and_of_next_to_nothing_give_zeros(rng, tiny):
    x, weight, dy = inputs(rng, 5, 33, 34)
    x[2], weight[:, 4], dy[:, 6] = tiny, tiny, tiny
    out, dweight = multiplied(operand(x), packed(weight)[0], 34), np.zeros_like(weight)
    products_int16.add_gradient(dweight, operand(x), operand(dy), True, scratch())
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
        out, dx = multiplied(a, panels, N), multiplied(b, transposed, K)
        dweight, dbias = np.zeros((K, N), np.float32), np.zeros(N, np.float32)
        products_int16.add_gradient(dweight, a, b, True, scratch())
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
