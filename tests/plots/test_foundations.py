"""The pictures of the foundations show what they claim, and nothing covers anything else."""

import subprocess
import sys

import numpy as np
import pytest
from matplotlib.colors import to_hex

from handgrad.errors import UserError
from handgrad.foundations import perceptron
from handgrad.foundations.descent import METHODS, minimize, tilted_valleys, two_valleys, two_valleys_gradient
from handgrad.plots import descent as descent_plots
from handgrad.plots import perceptron as perceptron_plots
from handgrad.plots import style
from tests.pictures import assert_nothing_overlaps, lines

WINDOW = ((-1.3, 1.3), (-1.2, 1.2))
FUNCTIONS = {function.name: function for function in perceptron.boolean_functions()}
MAPS = [descent_plots.surface, descent_plots.contours]


@pytest.fixture(scope="module")
def walks():
    return {
        method: minimize(two_valleys, (1, 1), gradient=two_valleys_gradient, method=method)
        for method in METHODS
    }


def decide(name):
    _, inputs, labels = FUNCTIONS[name]
    return perceptron_plots.decision_line(inputs, labels, perceptron.train(inputs, labels), title=name)


@pytest.mark.parametrize("draw", MAPS)
def test_a_map_shows_every_walk_where_it_went(draw, walks):
    figure = draw(two_valleys, walks, window=WINDOW)
    for method, path in walks.items():
        (line,) = lines(figure, f"{method}: $f$ = 5.75")
        x, y, *_ = line.get_data_3d() if hasattr(line, "get_data_3d") else line.get_data()
        np.testing.assert_array_equal(np.transpose([x, y]), path.positions)
    assert {axis.get_label_text() for axis in (figure.axes[0].xaxis, figure.axes[0].yaxis)} == {"$x$", "$y$"}
    assert_nothing_overlaps(figure)


def test_a_map_without_a_window_shows_all_of_the_walk(walks):
    axes = descent_plots.contours(two_valleys, walks).axes[0]
    for path in walks.values():
        for values, (least, greatest) in zip(
            path.positions.T, (axes.get_xlim(), axes.get_ylim()), strict=True
        ):
            assert least < values.min()
            assert values.max() < greatest


def test_walks_from_several_starts_tell_the_depth_they_reached():
    walks = {f"from y = {y}": minimize(tilted_valleys, (0.5, y)) for y in (1.0, -1.0)}
    figure = descent_plots.contours(tilted_valleys, walks, window=WINDOW)
    depths = [float(text.get_text().split(" = ")[-1]) for text in figure.legends[0].get_texts()]
    assert depths[0] > depths[1]
    assert_nothing_overlaps(figure)


def test_progress_shows_value_and_slope_at_every_step(walks):
    figure = descent_plots.progress(walks)
    top, bottom = figure.axes
    for path, value, slope in zip(walks.values(), top.get_lines()[::2], bottom.get_lines()[::2], strict=True):
        np.testing.assert_array_equal(value.get_ydata(), path.values)
        np.testing.assert_array_equal(slope.get_ydata(), path.gradient_norms)
    assert bottom.get_yscale() == "log"
    assert_nothing_overlaps(figure)


def test_a_walk_that_diverged_does_not_squeeze_the_others(walks):
    diverged = minimize(two_valleys, (2, 2), learning_rate=1.0)
    both = {"good": walks["plain"], "bad": diverged}
    assert descent_plots.progress(both).axes[0].get_ylim()[1] < 2 * walks["plain"].values.max()
    left, right = descent_plots.contours(two_valleys, both).axes[0].get_xlim()
    assert -1 < left < right < 3  # around the good walk and the other's start


def test_a_walk_of_one_point_is_its_two_circles():
    walk = {"saddle": minimize(two_valleys, (0, 0))}
    _, start, end = descent_plots.contours(two_valleys, walk).axes[0].get_lines()
    assert (start.get_marker(), end.get_marker()) == ("o", "o")
    assert start.get_xydata().tolist() == end.get_xydata().tolist() == [[0, 0]]


def test_values_that_are_none_leave_a_gap():
    top, _ = descent_plots.progress({"nowhere": minimize(lambda x: np.nan, (0, 0))}).axes
    assert np.isnan(top.get_lines()[0].get_ydata()).all()


@pytest.mark.parametrize("draw", MAPS)
def test_a_map_needs_no_walk_and_no_height_everywhere(draw):
    with np.errstate(all="ignore"):
        figure = draw(lambda x: np.log(x[0]), {}, window=WINDOW)
    assert not figure.axes[0].get_lines()
    assert figure.axes[0].collections


@pytest.mark.parametrize("draw", MAPS)
def test_a_map_needs_two_coordinates_and_a_surface_with_heights(draw):
    with pytest.raises(
        UserError, match=r"walks of two coordinates, or a window; got 1 walks, not all of two"
    ):
        draw(two_valleys, {"long": minimize(lambda x: np.sum(x**2), (0, 0, 0))})
    with pytest.raises(UserError, match=r"or a window; got 0 walks"):
        draw(two_valleys, {})
    with pytest.raises(UserError, match=r"heights and slopes; got one flat or infinite"):
        draw(lambda x: 1.0, {}, window=WINDOW)


@pytest.mark.parametrize("name", ["AND", "OR", "NAND", "A IMPLIES B"])
def test_the_decision_line_has_the_classes_on_its_two_sides(name):
    figure = decide(name)
    (line,) = lines(figure, r"$w\cdot x + b = 0$")
    start, end, labels = np.array(line.get_xy1()), np.array(line.get_xy2()), FUNCTIONS[name].labels
    (dx, dy), from_start = end - start, FUNCTIONS[name].inputs - start
    sides = np.sign(dx * from_start[:, 1] - dy * from_start[:, 0])
    assert len(set(sides[labels == 0])) == len(set(sides[labels == 1])) == 1
    assert sides[labels == 0][0] == -sides[labels == 1][0]
    assert_nothing_overlaps(figure)


def test_the_picture_of_xor_has_no_line_but_the_point_that_forbids_one():
    figure = decide("XOR")
    assert not lines(figure, r"$w\cdot x + b = 0$")
    (point,) = lines(figure, perceptron_plots.COMMON)
    assert point.get_xydata().tolist() == [[0.5, 0.5]]
    assert_nothing_overlaps(figure)


def test_all_sixteen_functions_are_drawn_and_two_of_them_without_a_line():
    figure = perceptron_plots.boolean_functions()
    assert [axes.get_title(loc="left") for axes in figure.axes] == list(FUNCTIONS)
    assert len(lines(figure, perceptron_plots.COMMON)) == 2
    assert len(lines(figure, r"$w\cdot x + b = 0$")) == 12  # FALSE and TRUE need none
    assert_nothing_overlaps(figure)


def test_the_line_is_drawn_for_two_inputs_only():
    result = perceptron.train([[0.0], [1.0]], [0, 1])
    with pytest.raises(UserError, match=r"drawn for two inputs; got the shape \(2, 1\)"):
        perceptron_plots.decision_line([[0.0], [1.0]], [0, 1], result)


def test_walks_differ_in_colour_and_in_dashes(walks):
    curves = descent_plots.contours(two_valleys, walks, window=WINDOW).axes[0].get_lines()[::3]
    assert len({to_hex(curve.get_color()) for curve in curves}) == len(walks)
    assert len({curve.get_linestyle() for curve in curves}) == len(walks)
    assert {to_hex(curve.get_color()).upper() for curve in curves} <= set(style.LIGHT.series)


def test_the_foundations_do_without_matplotlib_and_the_pictures_without_a_screen():
    program = (
        "import sys, handgrad.foundations; assert 'matplotlib' not in sys.modules; "
        "from handgrad.plots import descent, perceptron; descent.progress({}); "
        "assert 'matplotlib.pyplot' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
