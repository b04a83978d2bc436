"""The pictures of activations show what the ops compute, on light and on dark paper."""

import numpy as np
import pytest
from matplotlib.colors import to_rgb

from handgrad import ops
from handgrad.errors import UserError
from handgrad.ops import softmax
from handgrad.plots import activations as plots
from handgrad.plots import style
from tests.plots.pictures import assert_nothing_overlaps, drawn, lines

X = np.linspace(-2.0, 2.0, 9)
Z = np.stack([X, X - 3.0, 0.5 - X], axis=1)  # the second unit is below zero everywhere
PICTURES = {
    "curve": plots.curve,
    "several": plots.several,
    "compare": plots.compare,
    "gradients_by_layer": lambda: plots.gradients_by_layer({"sigmoid": [1e-4, 1e-2, 1], "relu": [1, 2, 1]}),
    "reach": lambda: plots.reach(X, Z, target=np.sin(X), output=0 * X),
    "jacobian": plots.jacobian,
    "temperature": lambda: plots.temperature([2.0, 1.0, -1.0], 0.5),
}


@pytest.mark.parametrize("theme", style.THEMES)
@pytest.mark.parametrize("draw", PICTURES.values(), ids=PICTURES)
def test_every_picture_is_drawn_on_either_paper_and_nothing_overlaps(draw, theme):
    with style.theme(theme):
        figure = drawn(draw())
    assert_nothing_overlaps(figure)
    assert figure.get_facecolor()[:3] == to_rgb(style.THEMES[theme].paper)


@pytest.mark.parametrize("name", plots.FORMULAS)
def test_a_curve_is_what_forward_returns_and_its_slope_what_differences_measure(name):
    figure = drawn(plots.curve(name))
    (value,), (slope,) = lines(figure, "$f(x)$"), lines(figure, "$f'(x)$")
    x = value.get_xdata()
    away = np.flatnonzero(np.abs(x) > 0.01)  # from kinks, and from their gap
    inputs = (np.array([plots.ALPHAS[name]]),) if name == "prelu" else ()
    settings = {"alpha": plots.ALPHAS[name]} if name == "leaky_relu" else {}

    def forward(x):
        return ops.ALL[name].forward(x, *inputs, **settings)[0]

    np.testing.assert_array_equal(value.get_ydata()[away], forward(x[away]))
    measured = (forward(x[away] + 1e-5) - forward(x[away] - 1e-5)) / 2e-5
    np.testing.assert_allclose(slope.get_ydata()[away], measured, atol=1e-8)


@pytest.mark.parametrize("name", plots.KINKED)
def test_the_full_dot_at_a_kink_is_the_slope_that_the_library_takes(name):
    dots = [line for line in drawn(plots.curve(name)).axes[0].get_lines() if line.get_marker() == "o"]
    (left_out,), (taken,) = (dot.get_ydata() for dot in dots)
    assert left_out == 1
    assert taken == plots.ALPHAS.get(name, 0)


def test_the_parametric_relu_shows_how_it_answers_to_its_slope():
    (line,) = lines(drawn(plots.curve("prelu", alpha=-1.0)), r"$\partial f/\partial\alpha$")
    x = line.get_xdata()
    np.testing.assert_array_equal(line.get_ydata()[~np.isnan(x)], np.minimum(x[~np.isnan(x)], 0))


def test_the_steepest_point_of_a_sigmoid_is_named():
    texts = [text.get_text() for text in drawn(plots.curve("sigmoid")).axes[0].texts]
    assert texts == ["0.25"]


def test_the_gallery_has_a_panel_for_each_and_hides_the_rest():
    figure = drawn(plots.several(["relu", "gelu", "silu", "tanh"]))
    shown = [axes.get_title(loc="left") for axes in figure.axes if axes.get_visible()]
    assert shown == ["relu", "gelu", "silu", "tanh"]


def test_units_that_no_input_reaches_are_dashed_and_counted():
    axes = drawn(plots.reach(X, Z, target=np.sin(X), output=0 * X)).axes[0]
    assert axes.get_title(loc="left") == "1 of 3 units unreached"
    dashed = [line for line in axes.get_lines() if line.get_linestyle() == "--"]
    np.testing.assert_array_equal([line.get_ydata() for line in dashed], [Z[:, 1]])


def test_the_jacobian_is_drawn_with_its_numbers():
    x = np.array([2.0, 1.0, 0.0, -1.0])
    bars, matrix = drawn(plots.jacobian(x)).axes
    np.testing.assert_array_equal(matrix.images[0].get_array(), softmax.jacobian(x))
    numbers = [float(text.get_text().replace("\N{MINUS SIGN}", "-")) for text in matrix.texts]
    np.testing.assert_allclose(numbers, softmax.jacobian(x).ravel(), atol=5e-4)
    np.testing.assert_array_equal([bar.get_width() for bar in bars.patches], softmax.forward(x)[0])


def test_a_low_temperature_gives_more_to_the_likeliest():
    logits = [2.0, 1.0, -1.0]
    cold, plain = (
        [bar.get_height() for bar in drawn(plots.temperature(logits, t)).axes[0].patches] for t in (0.5, 1.0)
    )
    assert cold[0] > plain[0]
    assert sum(cold) == pytest.approx(1)
    np.testing.assert_array_equal(plain, softmax.forward(np.array(logits))[0])


def test_an_unknown_activation_is_refused():
    with pytest.raises(UserError, match="activation"):
        plots.curve("softsign")
