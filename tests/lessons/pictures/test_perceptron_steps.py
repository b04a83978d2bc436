"""The pictures of a perceptron that learns show its line, its walk and its bounds."""

import numpy as np
import pytest

from handgrad.lessons.pictures import perceptron_steps
from tests.pictures import assert_good

INPUTS = np.array([[0, 0], [0, 1], [1, 0], [1, 1]])
AND = np.array([0, 0, 0, 1])
ROWS = np.array([[0, 0, -1], [0, -1, -1], [-1, 0, -1], [1, 1, 1]])
MISTAKEN = [0, 3, 0, 1]
WALK = np.cumsum([np.zeros(3, int), *ROWS[MISTAKEN]], axis=0)
"""The first four updates that learn AND."""

PICTURES = {
    "geometry": perceptron_steps.geometry,
    "before the first update": lambda: perceptron_steps.after_update(INPUTS, AND, WALK, MISTAKEN, 0),
    "after an update": lambda: perceptron_steps.after_update(INPUTS, AND, WALK, MISTAKEN, 4),
    "squeeze": lambda: perceptron_steps.squeeze(WALK, ROWS, np.array([2, 2, -3])),
    "bounds": lambda: perceptron_steps.mistakes_and_bounds(np.array([9.0, 51.0]), np.array([4, 18])),
}


@pytest.mark.parametrize("draw", PICTURES.values(), ids=PICTURES)
def test_every_picture_is_laid_out_without_overlap_in_the_colours_of_its_theme(draw):
    assert_good(draw)


def test_the_distance_of_a_point_is_its_score_over_the_length_of_the_weights():
    axes = perceptron_steps.geometry([3.0, 4.0], -5.0, [3.0, 1.5]).axes[0]
    assert "score 10" in axes.get_title(loc="left")
    (dashed,) = [line for line in axes.get_lines() if line.get_linestyle() == "--"]
    foot, point = dashed.get_xydata()
    assert np.linalg.norm(point - foot) == pytest.approx(10 / 5)
    assert foot @ [3.0, 4.0] == pytest.approx(5.0)


def test_an_update_shows_its_row_and_the_line_before_and_after_it():
    axes = perceptron_steps.after_update(INPUTS, AND, WALK, MISTAKEN, 4).axes[0]
    assert axes.get_title(loc="left").startswith("after update 4, for the row (0, 1)")
    points = [line.get_xydata().tolist() for line in axes.get_lines()]
    assert [[0, 1]] in points  # the ring
    assert [[1, 1]] in points  # all of class 1
    for v in WALK[3:5]:
        slanted = [line for line in axes.get_lines() if hasattr(line, "get_xy1")]
        assert any(
            line.get_xy1() @ v[:2] + v[2] == pytest.approx(0)
            and line.get_xy2() @ v[:2] + v[2] == pytest.approx(0)
            for line in slanted
        )


def test_the_walk_stays_between_its_bounds_until_they_cross():
    axes = perceptron_steps.squeeze(WALK, ROWS, np.array([2, 2, -3])).axes[0]
    curves = {line.get_label(): line for line in axes.get_lines()}
    along, length = curves[r"$v\cdot v^*$"].get_ydata(), curves["$|v|$"].get_ydata()
    np.testing.assert_allclose(along, WALK @ [2, 2, -3] / 17**0.5)
    updates = np.arange(len(WALK))
    assert np.all(updates / 17**0.5 <= along + 1e-12)
    assert np.all(along <= length + 1e-12)
    assert np.all(length <= np.sqrt(3 * updates) + 1e-12)
    assert "$R^2/\\gamma^2$ = 51" in [text.get_text() for text in axes.texts]


def test_the_runs_are_drawn_under_the_bound():
    axes = PICTURES["bounds"]().axes[0]
    runs = axes.get_lines()[-1].get_xydata()
    assert runs.tolist() == [[9.0, 4.0], [51.0, 18.0]]
