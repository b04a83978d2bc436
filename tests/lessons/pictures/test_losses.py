"""The pictures of lesson 8 show what the ops compute."""

import numpy as np
import pytest

from handgrad.foundations import descent
from handgrad.lessons.pictures import losses as pictures
from tests.pictures import assert_good, lines

X = np.linspace(-2.0, 2.0, 9)
MAPS = {"even": descent.two_valleys, "tilted": descent.tilted_valleys}
WALKS = {name: descent.minimize(surface, (0.9, 1.0), max_steps=20) for name, surface in MAPS.items()}


def surfaces():
    return pictures.surfaces(MAPS, WALKS, window=((-1.2, 1.2), (-1.2, 1.2)), axes_names=("$w$", "$b$"))


PICTURES = {
    "normal_noise": lambda: pictures.normal_noise(X, X + np.cos(9 * X), lambda x: x, deviation=0.7),
    "divergence": pictures.divergence,
    "through_sigmoid": pictures.through_sigmoid,
    "learning": lambda: pictures.learning({"squared error": X / 4 + 0.5, "cross-entropy": 0.9 + 0 * X}),
    "surfaces": surfaces,
}


@pytest.mark.parametrize("draw", PICTURES.values(), ids=PICTURES)
def test_every_picture_is_laid_out_without_overlap_in_the_colours_of_its_theme(draw):
    assert_good(draw)


def test_the_bells_lie_about_the_line_and_are_likeliest_on_it():
    figure = pictures.normal_noise(X, X, lambda x: 2 * x + 1, deviation=0.5)
    (bell,) = lines(figure, "density of the targets")
    peak = int(np.argmax(bell.get_xdata()))
    foot = float(np.min(bell.get_xdata()))
    assert bell.get_ydata()[peak] == pytest.approx(2 * foot + 1, abs=0.02)


@pytest.mark.parametrize("p", [0.1, 0.5, 0.7])
def test_cross_entropy_is_never_below_entropy_and_touches_it_at_the_truth(p):
    figure = pictures.divergence(p)
    (cost,) = lines(figure, "cross-entropy $H(p, q)$")
    entropy = -p * np.log(p) - (1 - p) * np.log(1 - p)
    assert np.min(cost.get_ydata()) == pytest.approx(entropy, rel=1e-9)
    assert cost.get_xdata()[np.argmin(cost.get_ydata())] == pytest.approx(p)
    (line,) = lines(figure, f"entropy $H(p)$ = {entropy:.3f} nats")
    assert line.get_ydata()[0] == pytest.approx(entropy)


def test_through_a_sigmoid_squared_error_is_flat_where_it_is_most_wrong_and_cross_entropy_steep():
    left, right = pictures.through_sigmoid().axes
    for values, slopes in zip(left.get_lines()[:2], right.get_lines(), strict=True):
        z, measured = values.get_xdata(), np.gradient(values.get_ydata(), values.get_xdata())
        np.testing.assert_allclose(slopes.get_ydata()[1:-1], measured[1:-1], atol=1e-3)
        assert z[0] == -8
    squared, entropy = (line.get_ydata()[0] for line in right.get_lines())
    assert abs(squared) < 1e-3
    assert entropy == pytest.approx(-1, abs=1e-3)


def test_learning_has_a_line_for_each_loss():
    probs = {"squared error": X / 4 + 0.5, "cross-entropy": 0.9 + 0 * X}
    figure = pictures.learning(probs)
    for name, p in probs.items():
        np.testing.assert_array_equal(lines(figure, name)[0].get_ydata(), p)


def test_every_map_has_its_own_walk():
    panels = surfaces().axes[:2]
    assert [panel.get_title(loc="left") for panel in panels] == list(WALKS)
    for panel, walk in zip(panels, WALKS.values(), strict=True):
        np.testing.assert_array_equal(panel.get_lines()[0].get_xydata(), walk.positions)
