"""The pictures of losses show what the ops compute, on light and on dark paper."""

import numpy as np
import pytest
from matplotlib.colors import to_rgb

from handgrad.foundations import descent
from handgrad.plots import losses as plots
from handgrad.plots import style
from tests.plots.pictures import assert_nothing_overlaps, drawn, lines

X = np.linspace(-2.0, 2.0, 9)
WALKS = {
    name: descent.minimize(surface, (0.9, 1.0), max_steps=20)
    for name, surface in {"even": descent.two_valleys, "tilted": descent.tilted_valleys}.items()
}


def surfaces():
    maps = {"even": descent.two_valleys, "tilted": descent.tilted_valleys}
    return plots.surfaces(maps, WALKS, window=((-1.2, 1.2), (-1.2, 1.2)), axes_names=("$w$", "$b$"))


PICTURES = {
    "mse": plots.mse,
    "cross_entropy": plots.cross_entropy,
    "normal_noise": lambda: plots.normal_noise(X, X + np.cos(9 * X), lambda x: x, deviation=0.7),
    "divergence": plots.divergence,
    "gradient": plots.gradient,
    "through_sigmoid": plots.through_sigmoid,
    "learning": lambda: plots.learning({"squared error": X / 4 + 0.5, "cross-entropy": 0.9 + 0 * X}),
    "surfaces": surfaces,
}


@pytest.mark.parametrize("theme", style.THEMES)
@pytest.mark.parametrize("draw", PICTURES.values(), ids=PICTURES)
def test_every_picture_is_drawn_on_either_paper_and_nothing_overlaps(draw, theme):
    with style.theme(theme):
        figure = drawn(draw())
    assert_nothing_overlaps(figure)
    assert figure.get_facecolor()[:3] == to_rgb(style.THEMES[theme].paper)


def test_squared_error_is_a_parabola_with_a_straight_slope():
    loss, slope = drawn(plots.mse(target=0.5)).axes[0].get_lines()[1:3]
    at = loss.get_xdata()
    np.testing.assert_allclose(loss.get_ydata(), (at - 0.5) ** 2)
    np.testing.assert_allclose(slope.get_ydata(), 2 * (at - 0.5))


def test_cross_entropy_is_the_surprise_and_its_slope_one_over_p():
    loss, slope = drawn(plots.cross_entropy()).axes[0].get_lines()[1:3]
    p = loss.get_xdata()
    np.testing.assert_allclose(loss.get_ydata(), -np.log(p), atol=1e-12)
    np.testing.assert_allclose(slope.get_ydata(), -1 / p)


def test_the_bells_lie_about_the_line_and_are_likeliest_on_it():
    figure = drawn(plots.normal_noise(X, X, lambda x: 2 * x + 1, deviation=0.5))
    (bell,) = lines(figure, "density of the targets")
    peak = int(np.argmax(bell.get_xdata()))
    foot = float(np.min(bell.get_xdata()))
    assert bell.get_ydata()[peak] == pytest.approx(2 * foot + 1, abs=0.02)


@pytest.mark.parametrize("p", [0.1, 0.5, 0.7])
def test_cross_entropy_is_never_below_entropy_and_touches_it_at_the_truth(p):
    figure = drawn(plots.divergence(p))
    (cost,) = lines(figure, "cross-entropy $H(p, q)$")
    entropy = -p * np.log(p) - (1 - p) * np.log(1 - p)
    assert np.min(cost.get_ydata()) == pytest.approx(entropy, rel=1e-9)
    assert cost.get_xdata()[np.argmin(cost.get_ydata())] == pytest.approx(p)
    (line,) = lines(figure, f"entropy $H(p)$ = {entropy:.3f} nats")
    assert line.get_ydata()[0] == pytest.approx(entropy)


def test_the_gradient_is_the_probabilities_less_the_target():
    left, right = drawn(plots.gradient([2.0, 1.0, 0.0], target=2)).axes
    probs = np.exp([2.0, 1.0, 0.0]) / np.sum(np.exp([2.0, 1.0, 0.0]))
    np.testing.assert_allclose([bar.get_height() for bar in left.patches[:3]], probs)
    np.testing.assert_allclose([bar.get_height() for bar in right.patches], probs - [0, 0, 1])
    assert left.get_title(loc="left") == f"loss {-np.log(probs[2]):.3f} nats"


def test_through_a_sigmoid_squared_error_is_flat_where_it_is_most_wrong_and_cross_entropy_steep():
    left, right = drawn(plots.through_sigmoid()).axes
    for values, slopes in zip(left.get_lines()[:2], right.get_lines(), strict=True):
        z, measured = values.get_xdata(), np.gradient(values.get_ydata(), values.get_xdata())
        np.testing.assert_allclose(slopes.get_ydata()[1:-1], measured[1:-1], atol=1e-3)
        assert z[0] == -8
    squared, entropy = (line.get_ydata()[0] for line in right.get_lines())
    assert abs(squared) < 1e-3
    assert entropy == pytest.approx(-1, abs=1e-3)


def test_learning_has_a_line_for_each_loss():
    probs = {"squared error": X / 4 + 0.5, "cross-entropy": 0.9 + 0 * X}
    figure = drawn(plots.learning(probs))
    for name, p in probs.items():
        np.testing.assert_array_equal(lines(figure, name)[0].get_ydata(), p)


def test_every_map_has_its_own_walk():
    panels = drawn(surfaces()).axes[:2]
    assert [panel.get_title(loc="left") for panel in panels] == list(WALKS)
    for panel, walk in zip(panels, WALKS.values(), strict=True):
        np.testing.assert_array_equal(panel.get_lines()[0].get_xydata(), walk.positions)
