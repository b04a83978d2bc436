"""Walking downhill: where the walks lead, when they stop, and what is said of walks that lead nowhere."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from handgrad.errors import UserError
from handgrad.foundations import descent
from handgrad.foundations.descent import (
    METHODS,
    TILT,
    central_differences,
    clipped_step,
    hessian,
    minimize,
    tilted_valleys,
    tilted_valleys_gradient,
    two_valleys,
    two_valleys_gradient,
)
from handgrad.optim import gradient_descent

points = st.tuples(st.floats(-2, 2), st.floats(-2, 2)).map(np.array)
gradients = st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=5).map(np.array)
learning_rates = st.floats(1e-4, 10)
NO_STATE = gradient_descent.State()

PUBLISHED = [
    ((1, 1), 1071, "9.94526e-06", "0.707106781"),
    ((-2, -2), 1073, "-9.97044e-06", "-0.707106781"),
]
"""Start, gradients evaluated, and end, as printed in two learners' reports on this surface."""


@given(points)
def test_central_differences_agree_with_the_gradient_derived_by_hand(point):
    measured, derived = central_differences(two_valleys, point), two_valleys_gradient(point)
    # step^2 f'''/6 with f''' <= 24 |x| gives 6e-9, rounding of f <= 60 over the step 1e-9
    np.testing.assert_allclose(measured, derived, rtol=0, atol=2e-8)


@given(points)
def test_the_tilt_adds_its_slope_and_nothing_else(point):
    tilt = tilted_valleys(point) - two_valleys(point)
    assert tilt == pytest.approx(TILT * point[1], abs=1e-13)  # a few roundings of f <= 50
    expected = np.add(two_valleys_gradient(point), [0, TILT])
    np.testing.assert_allclose(tilted_valleys_gradient(point), expected, atol=1e-13)


@given(st.tuples(st.floats(-1, 1), st.floats(-1, 1)).map(np.array))
def test_the_measured_hessian_is_the_derived_one(point):
    x, y = point
    derived = [[12 * x**2 + 2 * y**2, 4 * x * y], [4 * x * y, 2 * x**2 - 2 + 12 * y**2]]
    # the fourth derivative, 24, times (2 step)^2 / 12
    np.testing.assert_allclose(hessian(two_valleys, point), derived, rtol=0, atol=1e-4)


@given(gradients, learning_rates)
def test_a_clipped_step_is_never_longer_than_one_nor_than_a_plain_one(gradient, learning_rate):
    origin = np.zeros_like(gradient)
    moved, _ = clipped_step(origin, gradient, NO_STATE, learning_rate=learning_rate)
    plain, _ = gradient_descent.update(origin, gradient, NO_STATE, learning_rate=learning_rate)
    rounding = 1 + 1e-12
    assert np.sum(np.abs(moved)) <= rounding
    assert np.all(np.abs(moved) <= np.abs(plain) * rounding)
    assert np.all(moved * gradient <= 0)  # and never uphill


@given(gradients, learning_rates)
def test_on_a_gentle_slope_a_clipped_step_is_a_plain_one(gradient, learning_rate):
    gradient = gradient / max(1.0, learning_rate * np.sum(np.abs(gradient)) * (1 + 1e-9))
    clipped, _ = clipped_step(0 * gradient, gradient, NO_STATE, learning_rate=learning_rate)
    plain, _ = gradient_descent.update(0 * gradient, gradient, NO_STATE, learning_rate=learning_rate)
    np.testing.assert_allclose(clipped, plain, rtol=1e-12)  # g / (1 / rate) against g * rate


def test_on_a_cliff_a_clipped_step_has_length_one():
    path = minimize(two_valleys, (40, -30), gradient=two_valleys_gradient, method="clipped")
    steps = np.sum(np.abs(np.diff(path.positions, axis=0)), axis=1)
    np.testing.assert_allclose(steps[:50], 1.0, rtol=1e-12)
    assert path.converged


@pytest.mark.parametrize("gradient", [two_valleys_gradient, None], ids=["derived", "measured"])
@pytest.mark.parametrize(("start", "n_steps", "x", "y"), PUBLISHED)
def test_clipped_descent_lands_on_the_published_figures(start, n_steps, x, y, gradient):
    """To every printed digit, and with measured gradients as well: they differ in the ninth digit."""
    path = minimize(
        two_valleys, start, gradient=gradient, method="clipped", learning_rate=0.01, tolerance=1e-5
    )
    assert path.n_steps == n_steps
    assert (f"{path.end[0]:.6g}", f"{path.end[1]:.9f}") == (x, y)


@pytest.mark.parametrize("method", METHODS)
def test_a_walk_keeps_every_point_and_stops_at_the_first_flat_one(method):
    path = minimize(two_valleys, (1.2, -0.4), gradient=two_valleys_gradient, method=method, tolerance=1e-4)
    assert path.converged
    assert path.kind == "minimum"
    assert len(path.positions) == len(path.values) == len(path.gradient_norms) == path.n_steps
    np.testing.assert_array_equal(path.positions[0], [1.2, -0.4])
    np.testing.assert_array_equal(path.values, [two_valleys(p) for p in path.positions])
    norms = [np.sum(np.abs(two_valleys_gradient(p))) for p in path.positions]
    np.testing.assert_array_equal(path.gradient_norms, norms)
    assert np.all(path.gradient_norms[:-1] > 1e-4)
    assert path.gradient_norms[-1] <= 1e-4


@pytest.mark.parametrize("method", METHODS)
def test_the_steps_are_those_of_the_optimizer(method):
    path = minimize(two_valleys, (1, 1), gradient=two_valleys_gradient, method=method, max_steps=5)
    init, update = METHODS[method]
    position, state = np.array([1.0, 1.0]), init(np.array([1.0, 1.0]))
    for visited in path.positions:
        np.testing.assert_array_equal(visited, position)
        position, state = update(position, two_valleys_gradient(position), state, learning_rate=0.01)


@given(points)
def test_small_plain_steps_never_go_up(start):
    path = minimize(two_valleys, start, gradient=two_valleys_gradient, learning_rate=0.01, max_steps=50)
    assert np.all(np.diff(path.values) <= 1e-14 * path.values[:-1])  # rounding of f


def test_different_starts_find_different_minima_and_only_one_is_the_lowest():
    right, left = (minimize(tilted_valleys, (0.5, y), gradient=tilted_valleys_gradient) for y in (1.0, -1.0))
    assert right.kind == left.kind == "minimum"
    assert right.end[1] > 0 > left.end[1]
    assert left.values[-1] < right.values[-1] - TILT


def test_a_start_on_the_saddle_converges_at_once_and_is_told_from_a_minimum():
    path = minimize(two_valleys, (0, 0), gradient=two_valleys_gradient)
    assert (path.outcome, path.n_steps, path.kind) == ("converged", 1, "saddle")
    assert "saddle and no minimum" in path.explanation


def test_a_start_beside_the_saddle_leaves_it():
    path = minimize(two_valleys, (0, 1e-6), gradient=two_valleys_gradient, tolerance=1e-7)
    assert path.kind == "minimum"
    assert path.end[1] == pytest.approx(math.sqrt(0.5), abs=1e-6)  # the tolerance over the curvature


@pytest.mark.parametrize(
    ("function", "dimensions", "kind"),
    [
        (lambda x: np.sum(x**2), 3, "minimum"),
        (lambda x: np.sum(x**4) + 6, 2, "minimum"),
        (lambda x: -np.sum(x**2), 3, "maximum"),
        (lambda x: x[0] * x[1], 2, "saddle"),
        (lambda x: x[0] ** 2 - 1e-3 * x[1] ** 2, 2, "saddle"),
        (lambda x: x[0] ** 2 + 6, 2, "flat"),
        (lambda x: (x[0] - 0.3 * x[1]) ** 2 + 1000.1, 2, "flat"),
        (lambda x: 1.0, 2, "flat"),
        (lambda x: np.sum(x**2), descent.MOST_COORDINATES + 1, None),
        (lambda x: 0.0 if not x.any() else np.nan, 1, None),
    ],
    ids="bowl quartic dome pass slight-pass gutter high-slanted-gutter plain many-dimensions island".split(),
)
def test_a_stationary_point_is_classified_by_its_curvature(function, dimensions, kind):
    path = minimize(function, np.zeros(dimensions), gradient=np.zeros_like)
    assert path.outcome == "converged"
    assert path.kind == kind
    assert (f"a {kind}" in path.explanation) == (kind in ("minimum", "maximum", "saddle"))
    assert ("no minimum" in path.explanation) == (kind in ("maximum", "saddle"))


@pytest.mark.parametrize("method", ["plain", "momentum"])
@pytest.mark.parametrize("gradient", [two_valleys_gradient, None], ids=["derived", "measured"])
def test_too_large_a_learning_rate_diverges_and_is_told_so(method, gradient):
    path = minimize(two_valleys, (2, 2), gradient=gradient, method=method, learning_rate=1.0)
    assert path.outcome == "diverged"
    assert path.kind is None
    assert np.all(np.isfinite(path.positions))
    assert "smaller learning rate" in path.explanation


@pytest.mark.parametrize(
    ("function", "start", "outcome"),
    [
        (lambda x: np.exp(x[0] ** 2), 5.0, "diverged"),
        (lambda x: math.exp(x[0]), 800.0, "diverged"),
        (lambda x: -1e200 * x[0] ** 4, 1e30, "diverged"),
        (lambda x: np.log(x[0]), 0.03, "not a number"),
        (lambda x: np.nan, 0.0, "not a number"),
        (lambda x: 1.0 / float(x[0]), 0.0, "not a number"),
        (lambda x: -(x[0] ** 2), 1.0, "diverged"),
        (lambda x: -x[0], 0.0, "out of steps"),
        (lambda x: abs(x[0]), 0.105, "out of steps"),
    ],
    ids="overflow python-overflow huge log nan division dome unbounded kink".split(),
)
def test_every_walk_ends_with_an_outcome_and_without_a_warning(function, start, outcome):
    path = minimize(function, start, max_steps=4000)
    assert path.outcome == outcome
    assert not path.converged
    assert path.explanation.endswith(".")


def test_an_invalid_gradient_is_not_a_number_even_where_the_value_is_fine():
    path = minimize(lambda x: 1.0, (0, 0), gradient=lambda x: [np.nan, 0.0])
    assert (path.outcome, path.n_steps) == ("not a number", 1)


@pytest.mark.parametrize("max_steps", [1, 7])
def test_no_more_gradients_are_evaluated_than_allowed(max_steps):
    calls = []

    def counted(point):
        calls.append(point)
        return two_valleys_gradient(point)

    path = minimize(two_valleys, (1, 1), gradient=counted, max_steps=max_steps)
    assert path.outcome == "out of steps"
    assert path.n_steps == len(calls) == max_steps


def test_one_coordinate_may_be_a_plain_number():
    path = minimize(lambda x: (x - 3) ** 2, 1.0, learning_rate=0.1)
    assert path.positions.shape == (path.n_steps, 1)
    assert path.end[0] == pytest.approx(3, abs=1e-5)  # half the tolerance on the slope


def test_the_start_is_left_as_it_was():
    start = np.array([1.0, 1.0])
    minimize(two_valleys, start, max_steps=3)
    np.testing.assert_array_equal(start, [1.0, 1.0])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"learning_rate": -0.1}, "learning_rate must be a positive number; got -0.1; try 0.01."),
        ({"learning_rate": math.nan}, "learning_rate must be a positive number; got nan; try 0.01."),
        ({"learning_rate": math.inf}, "learning_rate must be a positive number; got inf; try 0.01."),
        ({"tolerance": -1.0}, "tolerance must be zero or a positive number; got -1.0; try 1e-5."),
        ({"max_steps": 0}, "max_steps must be at least 1; got 0; try 1000."),
        (
            {"method": "newton"},
            "method must be one of plain, momentum, adam, clipped; got 'newton'; try 'plain'.",
        ),
        (
            {"start": (1.0, math.inf)},
            "start must be a list of finite coordinates; got [1.0, inf]; try [1.0, 1.0].",
        ),
        ({"start": ()}, "start must be a list of finite coordinates; got []; try [1.0, 1.0]."),
        (
            {"function": lambda x: x},
            "the function to minimize must return one number; got the shape (2,); "
            "return a scalar, such as the sum or the mean.",
        ),
        (
            {"gradient": lambda x: [1.0]},
            "gradient must return one number for each of the 2 coordinates; got the shape (1,); "
            "return the partial derivatives as one list.",
        ),
    ],
)
def test_bad_arguments_are_answered_with_rule_facts_and_remedy(settings, message):
    with pytest.raises(UserError) as error:
        minimize(**{"function": two_valleys, "start": (1, 1), **settings})
    assert str(error.value) == message
