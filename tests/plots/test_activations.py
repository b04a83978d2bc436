"""The pictures of activations show what the ops compute, on light and on dark paper."""

import numpy as np
import pytest

from handgrad import ops
from handgrad.errors import UserError
from handgrad.ops import activation, softmax
from handgrad.plots import activations as plots
from tests.pictures import lines


@pytest.mark.parametrize("name", plots.FORMULAS)
def test_a_curve_is_what_forward_returns_and_its_slope_what_differences_measure(name):
    figure = plots.curve(name)
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


@pytest.mark.parametrize("name", activation.KINKED)
def test_the_full_dot_at_a_kink_is_the_slope_that_the_library_takes(name):
    dots = [line for line in plots.curve(name).axes[0].get_lines() if line.get_marker() == "o"]
    (left_out,), (taken,) = (dot.get_ydata() for dot in dots)
    assert left_out == 1
    assert taken == plots.ALPHAS.get(name, 0)


def test_the_parametric_relu_shows_how_it_answers_to_its_slope():
    (line,) = lines(plots.curve("prelu", alpha=-1.0), r"$\partial f/\partial\alpha$")
    x = line.get_xdata()
    np.testing.assert_array_equal(line.get_ydata()[~np.isnan(x)], np.minimum(x[~np.isnan(x)], 0))


def test_the_steepest_point_of_a_sigmoid_is_named():
    texts = [text.get_text() for text in plots.curve("sigmoid").axes[0].texts]
    assert texts == ["0.25"]


def test_the_gallery_has_a_panel_for_each_and_hides_the_rest():
    figure = plots.several(["relu", "gelu", "silu", "tanh"])
    shown = [axes.get_title(loc="left") for axes in figure.axes if axes.get_visible()]
    assert shown == ["relu", "gelu", "silu", "tanh"]


def test_the_jacobian_is_drawn_with_its_numbers():
    x = np.array([2.0, 1.0, 0.0, -1.0])
    bars, matrix = plots.jacobian(x).axes
    np.testing.assert_array_equal(matrix.images[0].get_array(), softmax.jacobian(x))
    numbers = [float(text.get_text().replace("\N{MINUS SIGN}", "-")) for text in matrix.texts]
    np.testing.assert_allclose(numbers, softmax.jacobian(x).ravel(), atol=5e-4)
    np.testing.assert_array_equal([bar.get_width() for bar in bars.patches], softmax.forward(x)[0])


def test_an_unknown_activation_is_refused():
    with pytest.raises(UserError, match="activation"):
        plots.curve("softsign")
