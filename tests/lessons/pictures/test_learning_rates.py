"""The pictures of learning rates show the walks that are taken, and the limits at which they break."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from handgrad.foundations.descent import minimize, tilted_valleys, two_valleys, two_valleys_gradient
from handgrad.lessons.pictures import learning_rates
from handgrad.optim import momentum
from tests.pictures import assert_good

WINDOW = ((-1.0, 1.0), (-2.0, 2.0))
MINIMA = {"deep": (0.0, -0.7628), "shallow": (0.0, 0.6335)}


def ends(lost=False):
    """Below y = 0 one minimum, above it the other; where x > 0, on demand, none."""
    x, y = np.meshgrid(np.linspace(-1, 1, 8), np.linspace(-2, 2, 8))
    arrived = np.where(y < 0, MINIMA["deep"][1], MINIMA["shallow"][1])
    return np.array([np.where(lost & (x > 0), np.nan, 0.0), arrived])


def walks():
    return {
        method: minimize(two_valleys, (1, 1), gradient=two_valleys_gradient, method=method)
        for method in ("plain", "adam")
    }


PICTURES = {
    "effective rates": lambda: learning_rates.effective_rates(walks(), two_valleys_gradient),
    "parabola": lambda: learning_rates.parabola(learning_rate=1.9),
    "parabola at once": lambda: learning_rates.parabola(learning_rate=1.0),
    "parabola too fast": lambda: learning_rates.parabola(learning_rate=2.2),
    "factors": learning_rates.factors,
    "factors with momentum": lambda: learning_rates.factors((1.0, 25.0), beta=0.7),
    "basins": lambda: learning_rates.basins(ends(), MINIMA, window=WINDOW, function=tilted_valleys),
    "basins lost": lambda: learning_rates.basins(ends(True), MINIMA, window=WINDOW, function=tilted_valleys),
}


@pytest.mark.parametrize("draw", PICTURES.values(), ids=PICTURES)
def test_every_picture_is_laid_out_without_overlap_in_the_colours_of_its_theme(draw):
    assert_good(draw)


@pytest.mark.parametrize("rate", [0.1, 1.5, 2.2])
def test_the_walk_on_the_parabola_is_the_one_that_descent_takes(rate):
    path = minimize(lambda x: x[0] ** 2 / 2, 1.0, gradient=lambda x: x, learning_rate=rate, max_steps=13)
    left, right = learning_rates.parabola(learning_rate=rate).axes
    np.testing.assert_allclose(right.get_lines()[0].get_ydata(), np.abs(path.positions[:, 0]), rtol=1e-12)
    shown = left.get_lines()[1].get_xdata()
    np.testing.assert_allclose(shown, path.positions[: len(shown), 0], rtol=1e-12)
    assert right.get_title(loc="left") == f"each step times {1 - rate:.4g}".replace("-", "\N{MINUS SIGN}")


def test_the_effective_rate_of_plain_descent_is_its_learning_rate_and_that_of_adam_changes():
    axes = learning_rates.effective_rates(walks(), two_valleys_gradient).axes[0]
    plain, adam = (line.get_ydata() for line in axes.get_lines())
    np.testing.assert_allclose(plain, 0.01, rtol=1e-6)
    assert adam[0] == pytest.approx(0.01 / 6)  # the slope along x is 6 at (1, 1)
    assert np.nanmax(adam) > 10 * adam[0]


@given(st.floats(0.001, 5.0), st.sampled_from([0.0, 0.5, 0.9]))
def test_the_factor_of_a_step_is_the_largest_root(rate_times_curvature, beta):
    roots = np.roots([1.0, -(1 + beta - rate_times_curvature), beta])
    # where two roots meet, a rounding of 1e-16 moves them by its square root
    expected = max(abs(roots))
    assert learning_rates.shrinking(rate_times_curvature, beta) == pytest.approx(expected, abs=1e-7)


@pytest.mark.parametrize("beta", [0.0, 0.5, 0.9])
def test_the_limit_that_is_marked_is_where_the_walk_breaks(beta):
    axes = learning_rates.factors((1.0, 4.0), beta=beta).axes[0]
    (limit,) = [line.get_xdata()[0] for line in axes.get_lines() if line.get_marker() == "D"]

    def distance(rate):
        x, state = np.ones(1), momentum.init(np.ones(1))
        for _ in range(2000):
            x, state = momentum.update(x, 4.0 * x, state, learning_rate=rate, beta=beta)
        return abs(x[0])

    assert distance(0.99 * limit) < 1 < distance(1.01 * limit)


def test_the_best_rate_of_two_curvatures_lies_between_their_own():
    axes = learning_rates.factors((1.0, 4.0)).axes[0]
    (best,) = [line for line in axes.get_lines() if line.get_marker() == "o"]
    assert best.get_xdata()[0] == pytest.approx(2 / 5, abs=1e-3)
    assert best.get_ydata()[0] == pytest.approx(3 / 5, abs=1e-3)


def test_every_start_is_painted_like_the_minimum_that_it_came_to():
    figure = PICTURES["basins"]()
    (image,) = figure.axes[0].get_images()
    np.testing.assert_array_equal(image.get_array(), np.repeat([0, 1], 4)[:, None] * np.ones(8, dtype=int))
    assert not figure.axes[0].get_title(loc="left")
    (image,) = (lost := PICTURES["basins lost"]()).axes[0].get_images()
    assert np.all(image.get_array()[:, 4:] == 2)
    assert lost.axes[0].get_title(loc="left") == "hatched: 50.0 % of the starts end in neither"
