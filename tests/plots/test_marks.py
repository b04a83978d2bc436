"""The marks that pictures share."""

from itertools import islice

import numpy as np
import pytest
from matplotlib.colors import Normalize, to_rgb

from handgrad.plots import marks, style


@pytest.fixture
def axes():
    with style.drawing():
        return style.figure().add_subplot()


def test_blanks_and_line_breaks_can_be_seen():
    assert marks.visible("a b\n\t") == "a␣b↵⇥"


@pytest.mark.parametrize(
    ("value", "spec", "text"),
    [
        (-0.5, ".3g", "−0.5"),
        (-1e-17, ".3g", "0"),
        (0.25, "+.3f", "+0.250"),
        (np.float64(1234.5), "g", "1234.5"),
    ],
)
def test_a_number_has_a_minus_as_wide_as_a_plus_and_none_before_zero(value, spec, text):
    assert marks.number(value, spec) == text


def test_small_matrices_are_written_out_and_large_ones_are_not():
    assert marks.numbers(np.array([[1 / 3, -2.0]])) == [["0.33", "−2"]]
    assert marks.numbers(np.zeros((2, marks.MOST_NUMBERS + 1))) == []


def test_six_curves_differ_in_colour_and_in_dashes():
    curves = list(islice(marks.lines(), 6))
    assert len({line["color"] for line in curves}) == len({line["linestyle"] for line in curves}) == 6


@pytest.mark.parametrize("theme", style.THEMES)
def test_words_on_any_ground_can_be_read(theme):
    with style.theme(theme):
        for share in np.linspace(0, 1, 21):
            ground = style.look().signed(share)
            brightness = [
                np.dot(to_rgb(colour), (0.299, 0.587, 0.114))
                for colour in (ground, marks.readable_on(ground))
            ]
            assert abs(np.subtract(*brightness)) > 0.35


def test_absent_cells_are_hatched_and_bear_no_number(axes):
    absent = np.array([[False, True, True], [False, False, True]])
    matrix, texts = np.arange(6.0).reshape(2, 3), [list("abc"), list("def")]
    image = marks.cells(axes, matrix, style.look().amounts, Normalize(0, 5), texts=texts, absent=absent)
    np.testing.assert_array_equal(image.get_array().mask, absent)
    assert [text.get_text() for text in axes.texts] == ["a", "d", "e"]
    (hidden,) = axes.patches
    assert hidden.get_hatch()
    places = [(column, row) for row, column in np.ndindex(2, 3)]
    covered = [hidden.get_path().contains_point(place) for place in places]
    np.testing.assert_array_equal(covered, absent.ravel())


def test_without_absent_cells_nothing_is_hatched(axes):
    marks.cells(axes, np.eye(2), style.look().amounts, Normalize(0, 1))
    assert not axes.patches


def test_an_arrow_ends_where_it_should(axes):
    marks.arrow(axes, (0, 0), np.array([2.0, 1.0]), "red")
    (arrow,) = axes.texts
    assert arrow.xy == (2.0, 1.0)
    assert arrow.get_position() == (0, 0)
