"""Vectors of attention on tiles: exponentials, rounding to bfloat16, the mask of dropout, parts of rows."""

import numpy as np
import pytest
from numba import njit, types
from numba.extending import intrinsic

from handgrad.kernels import vector_bfloat16, vector_rows
from handgrad.kernels.dropout import Dropping, factor
from handgrad.kernels.machine import LANES
from handgrad.kernels.random import threshold
from handgrad.kernels.softmax_steps import emit_exp2, emit_kept
from handgrad.kernels.vector import VECTOR, at_address, load_vector
from tests.rounding import rounded

EPS = float(np.finfo(np.float32).eps)
SMALLEST_NORMAL = float(np.finfo(np.float32).tiny)


def vectors(emit, n_in, x, dtype, dropping=None):
    """`emit` of `n_in` vectors at a time; with `dropping`, of the first one's index and `dropping`."""

    @intrinsic
    def one(typing_context, target, source, index, settings):
        def generate(context, builder, signature, args):
            loaded = [load_vector(builder, args[1], 4 * LANES * i) for i in range(n_in)]
            result = emit(builder, *(loaded or args[2:]))
            if not loaded:  # a mask
                result = builder.uitofp(result, VECTOR)
            builder.store(result, at_address(builder, args[0], 0, result.type), align=2)
            return context.get_dummy_value()

        return types.void(types.int64, types.int64, types.int64, settings), generate

    @njit
    def over(y, x, settings):
        width = LANES * max(n_in, 1)
        for i in range(0, x.size, width):
            one(y[i:].ctypes.data, x[i:].ctypes.data, i, settings)

    y = np.empty(x.size, dtype)
    over(y, x, dropping or Dropping(np.uint32(0), np.uint32(0), np.uint32(0), np.float32(1)))
    return y


def test_powers_of_two_are_exact_to_three_roundings():
    x = np.linspace(-126, 0, 1 << 16).astype(np.float32)
    expected = np.exp2(x.astype(np.float64))
    np.testing.assert_allclose(vectors(emit_exp2, 1, x, np.float32), expected, rtol=3 * EPS)


def test_powers_of_two_at_their_ends():
    ends = [0, -1, -125, -127, -127.4, -1e10, -np.inf, np.nan]
    x = np.resize(np.array(ends, np.float32), 2 * LANES)
    expected = [1, 0.5, 2.0**-125, 0, 0, 0, 0, np.nan]
    np.testing.assert_array_equal(vectors(emit_exp2, 1, x, np.float32), np.resize(expected, 2 * LANES))


NAMES = ["_by_arithmetic", *(["_by_instruction"] if vector_bfloat16.HAS_INSTRUCTION else [])]


@pytest.mark.parametrize("name", NAMES)
def test_vectors_are_rounded_to_the_nearest_bfloat16_ties_to_even(name, rng):
    upper = rng.integers(1 << 16, size=1 << 12).astype(np.uint32) << 16
    lower = rng.choice(np.array([0, 1, 0x7FFF, 0x8000, 0x8001, 0xFFFF], np.uint32), size=upper.size)
    x = (upper | lower).view(np.float32)
    x = x[np.abs(x) <= 1e38]
    x = x[: x.size // (2 * LANES) * 2 * LANES]
    found = vectors(getattr(vector_bfloat16, name), 2, x, np.uint16)
    y = (found.astype(np.uint32) << 16).view(np.float32)
    normal = np.abs(x) >= SMALLEST_NORMAL
    np.testing.assert_array_equal(y[normal], rounded(x)[normal])
    off = np.abs(y[~normal] - x[~normal])
    assert 0 < off.size < x.size / 2
    assert np.all(off < SMALLEST_NORMAL)  # the instruction takes these for zeros


@pytest.mark.parametrize("name", NAMES)
def test_a_rounded_nan_stays_one(name):
    x = np.full(2 * LANES, np.nan, np.float32)
    found = vectors(getattr(vector_bfloat16, name), 2, x, np.uint16)
    assert np.isnan((found.astype(np.uint32) << 16).view(np.float32)).all()


@pytest.mark.parametrize("rate", [2.0**-24, 0.2, 0.5, 1 - 2.0**-24, 1 - 2.0**-30])
def test_vectors_keep_what_dropout_keeps(rate, rng):
    low, high = rng.integers(1 << 32, size=2).astype(np.uint32)
    dropping = Dropping(low, high, np.uint32(threshold(rate)), np.float32(1.0))

    @njit
    def factors(n, dropping):
        return np.array([factor(i, dropping) for i in range(n)])

    n = 1 << 14
    kept = vectors(emit_kept, 0, np.empty(n, np.float32), np.float32, dropping)
    np.testing.assert_array_equal(kept, factors(n, dropping))


@pytest.mark.parametrize(
    ("along", "kind", "found"),
    [
        ("copy_along", np.uint16, lambda x: x),
        ("scale_along", np.float32, lambda x: x * np.float32(3)),
        (
            "round_along",
            np.float32,
            lambda x: (rounded(x * np.float32(3)).astype(np.float32)).view(np.uint32) >> 16,
        ),
    ],
)
@pytest.mark.parametrize("n", [0, 1, LANES - 1, LANES, 2 * LANES + 3])
@pytest.mark.parametrize("zeros", [0, 1, LANES])
def test_rows_of_any_width_are_moved_with_nothing_beyond_them(along, kind, found, n, zeros, rng):
    x = rng.integers(1, 1000, size=n + 3 * LANES).astype(kind)
    y = np.full(n + 3 * LANES, 7, np.float32 if along == "scale_along" else np.uint16)
    move = getattr(vector_rows, along)

    @njit
    def run(y, x, n, width):
        move(y.ctypes.data, x.ctypes.data, n, width, np.float32(3))

    run(y, x, n, n + zeros)
    np.testing.assert_array_equal(y[:n], found(x[:n]))
    assert not y[n : n + zeros].any()
    assert np.all(y[n + zeros :] == 7)
