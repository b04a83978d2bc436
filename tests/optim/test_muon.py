"""Muon: its steps against their definition, by singular values."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from handgrad.optim import muon

seeds = st.integers(0, 2**32 - 1)
shapes = st.tuples(st.integers(1, 12), st.integers(1, 12))
LOWEST = {"BEST": muon.LOWEST, "JORDAN": 0.002}
"""Of the singular values that the polynomials bring near one."""


def matrix(seed, shape, lowest=0.02):
    """A random matrix whose singular values are at least `lowest` of its norm, and its U V^T."""
    rng = np.random.default_rng(seed)
    u, _, vt = np.linalg.svd(rng.normal(size=shape), full_matrices=False)
    sigma = rng.uniform(4 * lowest, 1.0, size=min(shape))  # the norm of 12 such is below 4
    return u * sigma @ vt, u @ vt


def of_numbers(polynomials, x):
    """The polynomials of numbers, one after the other."""
    for a, b, c in polynomials:
        x = a * x + b * x**3 + c * x**5
    return x


@pytest.mark.parametrize(("name", "low", "high"), [("BEST", 0.77, 1.23), ("JORDAN", 0.68, 1.21)])
def test_singular_values_end_as_near_to_one_as_is_said(name, low, high):
    ends = of_numbers(getattr(muon, name), np.linspace(LOWEST[name], 1.0, 100_001))
    assert low < ends.min() < low + 0.01
    assert high - 0.01 < ends.max() < high


@pytest.mark.parametrize("name", LOWEST)
@given(seeds, shapes)
def test_a_step_has_the_gradients_directions_and_all_singular_values_near_one(name, seed, shape):
    """Against U V^T: no further than the farthest singular value is from one."""
    x, expected = matrix(seed, shape)
    found = muon.orthogonalized(x, getattr(muon, name))
    sigma = np.linalg.svd(found, compute_uv=False)
    assert np.linalg.norm(found - expected, 2) == pytest.approx(np.abs(sigma - 1).max(), abs=1e-9)
    assert np.abs(sigma - 1).max() < (0.23 if name == "BEST" else 0.32)


@given(seeds, shapes)
def test_with_enough_steps_a_matrix_becomes_orthogonal(seed, shape):
    x, expected = matrix(seed, shape)
    np.testing.assert_allclose(muon.orthogonalized(x, muon.best(8)), expected, atol=1e-7)


def test_each_polynomial_is_the_best_where_those_before_it_left_the_singular_values(rng):
    """Chebyshev: its error has one size and turns four times in sign; no small change makes it smaller."""
    low, high = muon.LOWEST, 1.0
    for best in muon.BEST:
        x = np.linspace(low / muon.MARGIN, high * muon.MARGIN, 20_001)
        powers = np.stack([x, x**3, x**5])
        off = 1 - best @ powers
        largest = np.abs(off).max()
        turns = np.flatnonzero(np.abs(off) > largest * (1 - 1e-6))
        assert (np.diff(np.sign(off[turns])) != 0).sum() == 3
        for _ in range(50):
            assert np.abs(1 - (best + 1e-3 * rng.normal(size=3)) @ powers).max() > largest
        low, high = 1 - largest, 1 + largest


@given(seeds, shapes, st.floats(1e-5, 1e10))
def test_neither_size_nor_transposition_changes_a_step(seed, shape, size):
    x, _ = matrix(seed, shape)
    step = muon.orthogonalized(x)
    np.testing.assert_allclose(muon.orthogonalized(size * x), step, atol=1e-8)
    np.testing.assert_allclose(muon.orthogonalized(x.T).T, step, atol=1e-8)


def test_matrices_on_a_leading_axis_are_each_made_orthogonal(rng):
    stacked = rng.normal(size=(3, 4, 2))
    each = [muon.orthogonalized(x) for x in stacked]
    np.testing.assert_allclose(muon.orthogonalized(stacked), each, atol=1e-12)


@pytest.mark.parametrize("size", [0.0, 1e-30])
def test_a_gradient_of_zero_moves_nothing_and_one_next_to_it_no_further_than_others(size, rng):
    weights = np.ones((3, 2), np.float32)
    gradient = (size * rng.normal(size=(3, 2))).astype(np.float32)
    with np.errstate(under="ignore"):
        updated, _ = muon.update(weights, gradient, muon.init(weights), learning_rate=1.0)
    assert np.abs(updated - weights).max() <= size


@pytest.mark.parametrize("shape", [(64, 64), (64, 256), (256, 64)])
def test_a_number_of_a_step_is_about_a_fifth_of_the_learning_rate(shape, rng):
    weights = np.zeros(shape)
    updated, _ = muon.update(weights, rng.normal(size=shape), muon.init(weights), learning_rate=0.1)
    assert np.sqrt(np.mean(updated**2)) == pytest.approx(0.02, rel=0.1)


def test_momentum_looks_ahead_and_decay_shrinks(rng):
    """Nesterov's: the velocity, and once more what the gradient will have made of it."""
    weights, first, second = rng.normal(size=(3, 4, 3))
    settings = {"learning_rate": 0.1, "beta": 0.9, "weight_decay": 0.5}
    updated, state = muon.update(weights, first, muon.init(weights), **settings)
    updated, _ = muon.update(updated, second, state, **settings)
    velocity = 0.9 * first + second
    expected = 0.95 * (0.95 * weights - 0.1 * muon.scale(4, 3) * muon.orthogonalized(1.9 * first))
    expected -= 0.1 * muon.scale(4, 3) * muon.orthogonalized(second + 0.9 * velocity)
    np.testing.assert_allclose(updated, expected, atol=1e-12)
