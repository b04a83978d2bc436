"""The pictures of networks show the numbers that the library computes."""

import numpy as np
import pytest

from handgrad.lessons.pictures import networks
from tests.pictures import assert_good

INPUTS = np.array([[0, 0], [0, 1], [1, 0], [1, 1]])
XOR = np.array([0, 1, 1, 0])


def or_and_nand(x):
    return (x @ np.array([[2, -2], [2, -2]]) + np.array([-1, 3]) > 0).astype(float)


def hidden_space():
    return networks.hidden_space(INPUTS, XOR, or_and_nand, ([2, 2], -3), mesh=False)


PICTURES = {
    "squashing": networks.squashing,
    "staircase": lambda: networks.staircase(np.sin, n_neurons=7),
    "paths": networks.paths,
    "backpropagation": networks.backpropagation,
    "hidden space": hidden_space,
    "bent": lambda: networks.hidden_space(INPUTS, XOR, lambda x: np.tanh(x), ([1, -1], 0.0)),
    "training": lambda: networks.training({"one": np.array([1.0, 0.1]), "two": np.array([1.0, 0.5])}),
    "digits": lambda: networks.digits(np.ones((7, 8, 8)), [f"a {n}" for n in range(7)]),
    "no digit": lambda: networks.digits(np.ones((0, 8, 8)), []),
}


def words(figure):
    return [text.get_text().replace("\N{MINUS SIGN}", "-") for axes in figure.axes for text in axes.texts]


@pytest.mark.parametrize("draw", PICTURES.values(), ids=PICTURES)
def test_every_picture_is_laid_out_without_overlap_in_the_colours_of_its_theme(draw):
    assert_good(draw)


def test_more_neurons_follow_a_curve_more_closely():
    def distance(n_neurons):
        axes = networks.staircase(lambda x: np.sin(7 * x), n_neurons=n_neurons).axes[0]
        curve, network = (line.get_ydata() for line in axes.get_lines()[-2:])
        return np.max(np.abs(curve - network))

    distances = [distance(n) for n in (3, 7, 15, 40)]
    assert distances == sorted(distances, reverse=True)
    assert distances[-1] < 0.12


def test_all_numbers_of_the_pass_on_paper_are_there():
    shown = words(networks.backpropagation())
    forward = ["$z$ 0.549", "$z$ -0.549", "0.5", "-0.5", "$z$ 1"]
    backward = [
        "$dy$ 2",
        "$dw$ 1",
        "$dw$ -1",
        "$da$ 4",
        "$da$ -8",
        "$dz = db$ 3",
        "$dz = db$ -6",
        "$dz = db$ 2",
    ]
    first_layer = ["$dw$ 3", "$dw$ -6", "$dw$ 6", "$dw$ -12", "$dx$ -1.65", "$dx$ 4.94"]
    for number in forward + backward + first_layer:
        assert any(number in text for text in shown), number


def test_stages_show_one_layer_more_each():
    shown = [" ".join(words(networks.backpropagation(stage=stage))) for stage in range(6)]
    for number, first in {"$z$ 0.549": 1, "$L =": 2, "$dy$": 3, "$da$": 4, "$dx$": 5}.items():
        assert [number in text for text in shown] == [stage >= first for stage in range(6)], number


def test_gradients_of_paths_multiply_and_add():
    assert {"2 · 5 = 10", "3 · 7 = 21", "10 + 21 = 31"} <= set(
        words(networks.paths({"u": (2, 5), "v": (3, 7)}))
    )


def test_hidden_space_shows_where_the_hidden_layer_puts_each_row():
    figure = hidden_space()
    left, right = figure.axes
    for axes, points in ((left, INPUTS), (right, or_and_nand(INPUTS))):
        for number, line in enumerate(axes.get_lines()):
            np.testing.assert_array_equal(line.get_xydata(), points[number == XOR])
    assert words(figure) == ["(0, 0)", "(0, 1) and (1, 0)", "(1, 1)"]


def test_a_mesh_is_bent_as_the_hidden_layer_bends_it():
    _, right = PICTURES["bent"]().axes
    corners = np.concatenate([line.get_xydata() for line in right.get_lines()])
    np.testing.assert_allclose(corners.max(axis=0), np.tanh([1, 1]))


def test_the_steeper_the_sigmoid_the_higher_its_slope():
    for steepness in (1.0, 4.0):
        _, bottom = networks.squashing(steepness).axes
        assert bottom.get_lines()[1].get_ydata().max() == pytest.approx(steepness / 4)


def test_losses_and_captions_are_as_given():
    axes = PICTURES["training"]().axes[0]
    assert [line.get_ydata().tolist() for line in axes.get_lines()] == [[1.0, 0.1], [1.0, 0.5]]
    titles = [axes.get_title(loc="center") for axes in PICTURES["digits"]().axes]
    assert titles[:7] == [f"a {n}" for n in range(7)]
