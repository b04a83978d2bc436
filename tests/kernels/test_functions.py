"""Elementary functions in vectors, and random numbers by counting."""

import math

import numpy as np
import pytest
from numba import njit

from handgrad.counted import Counted, uniform
from handgrad.kernels import activations, functions, loss
from handgrad.kernels.random import draw, threshold

EPS = float(np.finfo(np.float32).eps)
NUMBERS = np.concatenate([np.linspace(-20, 20, 4001), np.linspace(-87, 88, 999), [0.0, -0.0, 1e-30]]).astype(
    np.float32
)


def mapped(function, x):
    @njit
    def over(y, x):
        for i in range(x.size):
            y[i] = function(x[i])

    y = np.empty_like(x)
    over(y, x)
    return y


def test_exp_is_exact_to_two_roundings():
    # x is rounded to n and r at |x| eps, which the exponential makes a relative error; n ln 2 is exact
    np.testing.assert_allclose(
        mapped(functions.exp, NUMBERS), np.exp(NUMBERS.astype(np.float64)), rtol=2 * EPS
    )


def test_exp_at_and_beyond_its_ends():
    x = np.array([-np.inf, -1e10, -89.0, 89.0, 1e10, np.inf, np.nan], np.float32)
    np.testing.assert_array_equal(mapped(functions.exp, x), [0, 0, 0, np.inf, np.inf, np.inf, np.nan])


def whole_range(n=2001):
    """float32 of every size and both signs, denormal numbers and zeros among them."""
    sizes = np.concatenate([[0.0], np.geomspace(1e-45, 3e38, n), np.linspace(0, 20, n)]).astype(np.float32)
    return np.concatenate([sizes, -sizes])


def test_tanh_is_exact_to_some_roundings_of_itself():
    x = whole_range()
    smallest = float(np.finfo(np.float32).smallest_subnormal)
    expected = np.tanh(x.astype(np.float64))
    np.testing.assert_allclose(mapped(functions.tanh, x), expected, rtol=4 * EPS, atol=smallest)
    ends = np.array([np.inf, -np.inf, np.nan], np.float32)
    np.testing.assert_array_equal(mapped(functions.tanh, ends), [1, -1, np.nan])


def test_gelu_tanh_is_exact_in_its_tail_too():
    x = np.concatenate([np.linspace(-6, 6, 999), np.geomspace(1e-30, 1, 99)]).astype(np.float32)
    y, slopes, spare = np.empty_like(x), x.copy(), np.empty_like(x)
    activations.gelu_tanh(y[None], slopes[None], slopes[None], spare)
    exact = x.astype(np.float64)
    u = math.sqrt(2 / math.pi) * (exact + 0.044715 * exact**3)
    # 2 u is rounded: at x = -6 it is -24.7, of which 25 eps are 25 eps of the exponential
    np.testing.assert_allclose(y, exact / (1 + np.exp(-2 * u)), rtol=100 * EPS)


@pytest.mark.parametrize("n", [1, 2, 15, 16, 17, 100])
def test_the_largest_of_a_row(n, rng):
    @njit
    def largest(x):
        return functions.largest(x)

    for x in (rng.normal(size=n), -np.abs(rng.normal(size=n)), np.zeros(n), np.full(n, -np.inf)):
        x = x.astype(np.float32)
        assert largest(x) == x.max()


@pytest.mark.parametrize("value", [np.nan, -np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("n", [1, 17, 40])
def test_a_logit_that_is_not_a_number_reaches_the_loss_wherever_it_stands(value, n, rng):
    for place in range(n):
        row = rng.normal(size=(1, n)).astype(np.float32)
        row[0, place] = value
        found = loss.cross_entropy(row, np.array([place]), -1, np.float32(1.0), True)
        assert not np.isfinite(found)
        assert np.isfinite(row).all() == (value == -np.inf and n > 1)  # its gradient is -1 then, and finite


@pytest.mark.parametrize(
    ("name", "exact"),
    [
        ("sigmoid", lambda x: 1 / (1 + math.exp(-x))),
        ("bell", lambda x: math.exp(-x * x / 2)),
    ],
)
def test_others_are_exact_to_a_few_roundings_of_one(name, exact):
    x = NUMBERS[np.abs(NUMBERS) <= 20]
    expected = [exact(float(number)) for number in x]
    np.testing.assert_allclose(mapped(getattr(functions, name), x), expected, rtol=0, atol=4 * EPS)


def test_the_normal_distribution_is_exact_in_its_tail_too():
    @njit
    def cdf(y, x):
        for i in range(x.size):
            y[i] = functions.normal_cdf(x[i], functions.bell(x[i]))

    x = np.linspace(-12, 12, 999).astype(np.float32)
    y = np.empty_like(x)
    cdf(y, x)
    expected = np.array([0.5 * math.erfc(-float(number) / math.sqrt(2)) for number in x])
    # relative: x^2 / 2 is rounded, at 12 that is 72 eps of the result
    np.testing.assert_allclose(y, expected, rtol=80 * EPS)


def test_kernels_draw_the_numbers_that_arrays_draw():
    key = 0x0123456789ABCDEF

    @njit
    def drawn(out, low, high):
        for i in range(out.size):
            out[i] = draw(np.uint32(i), low, high)

    out = np.empty(1000, np.uint32)
    drawn(out, np.uint32(key & 0xFFFFFFFF), np.uint32(key >> 32))
    numbers = uniform(key, (1000,))
    np.testing.assert_array_equal(out * 2.0**-24, numbers)
    for rate in (0.1, 0.2, 0.5, float(numbers[3])):
        np.testing.assert_array_equal(out >= threshold(rate), numbers >= rate)


def test_counted_numbers_are_uniform_and_draws_independent():
    source = Counted(7)
    first, second = source.random((400, 500)), source.random((400, 500))
    n = first.size
    for draws in (first, second):
        counts, _ = np.histogram(draws, bins=64, range=(0, 1))
        chi_square = ((counts - n / 64) ** 2 / (n / 64)).sum()
        assert chi_square < 63 + 5 * math.sqrt(2 * 63)  # five standard deviations of what chance gives
    five_deviations = 5 / math.sqrt(n)
    assert abs(np.corrcoef(first.ravel(), second.ravel())[0, 1]) < five_deviations
    assert abs(np.corrcoef(first.ravel()[1:], first.ravel()[:-1])[0, 1]) < five_deviations
    assert abs(np.corrcoef(first[1:].ravel(), first[:-1].ravel())[0, 1]) < five_deviations


def test_the_same_seed_draws_the_same():
    np.testing.assert_array_equal(Counted(3).random((5,)), Counted(3).random((5,)))
    assert Counted(3).key() != Counted(4).key()
