"""The pictures of arrays paint what an index takes, stretch what NumPy stretches, and sum what it sums."""

import numpy as np
import pytest
from matplotlib.colors import to_hex
from matplotlib.patches import Rectangle

from handgrad.lessons.pictures import arrays
from handgrad.plots import style
from tests.pictures import assert_good

X = np.arange(24.0).reshape(2, 3, 4)
MATRIX = np.array([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])
PICTURES = {
    "selection": lambda: arrays.selection(X, np.s_[:, 1], title="x[:, 1]"),
    "sums": lambda: arrays.sums(MATRIX),
    "broadcast": lambda: arrays.broadcast((4, 1, 3), (5, 1)),
    "stretch": lambda: arrays.stretch(np.array([[0.0], [10.0]]), np.array([1.0, 2.0, 3.0])),
    "product": arrays.product,
    "reshape_or_transpose": lambda: arrays.reshape_or_transpose(MATRIX),
    "copied_and_summed": arrays.copied_and_summed,
    "gaps_between_floats": arrays.gaps_between_floats,
}


def words(figure):
    return [text.get_text() for text in figure.axes[0].texts]


def numbers(figure):
    """Those in cells, in the order in which they were drawn."""
    return [
        float(w.replace("\N{MINUS SIGN}", "-")) for w in words(figure) if w.strip("\N{MINUS SIGN}").isdigit()
    ]


def boxes(figure):
    return [patch for patch in figure.axes[0].patches if isinstance(patch, Rectangle)]


@pytest.mark.parametrize("draw", PICTURES.values(), ids=PICTURES)
def test_every_picture_is_laid_out_without_overlap_in_the_colours_of_its_theme(draw):
    assert_good(draw)


@pytest.mark.parametrize("index", [1, np.s_[:, 1], np.s_[..., -1], np.s_[0, :, None], X % 5 == 0])
def test_the_cells_that_an_index_takes_are_painted(index):
    painted = [
        to_hex(box.get_facecolor()) == style.LIGHT.sides[0] for box in boxes(arrays.selection(X, index))
    ]
    np.testing.assert_array_equal(X.ravel()[painted], np.ravel(X[index]))


def test_sums_stand_beside_and_below_their_matrix():
    assert numbers(arrays.sums(MATRIX)) == [1, 2, 3, 4, 5, 6, 5, 7, 9, 6, 15]


@pytest.mark.parametrize("pair", [((2, 3), (3,)), ((4, 1, 3), (5, 1)), ((), (2,)), ((1,), (1, 1))])
def test_the_table_ends_with_the_shape_that_numpy_gives(pair):
    assert words(arrays.broadcast(*pair))[-1] == str(np.broadcast_shapes(*pair))


def test_the_table_says_where_two_sizes_meet_that_do_not_fit():
    said = words(arrays.broadcast((2, 3), (2,)))
    assert said[-1] == "no result"
    assert "✗ 2 ≠ 3" in said


def test_copies_are_dashed_and_the_result_is_numpys():
    column, row = np.array([[0.0], [10.0]]), np.array([1.0, 2.0, 3.0])
    figure = arrays.stretch(column, row)
    dashed = [box.get_linestyle() != "solid" and box.get_linestyle() != "-" for box in boxes(figure)]
    assert sum(dashed) == (6 - 2) + (6 - 3)
    assert numbers(figure)[-6:] == (column + row).ravel().tolist()


def test_the_corner_where_row_meets_column_holds_their_product():
    figure = arrays.product(row=1, column=1)
    (framed,) = [box for box in boxes(figure) if box.get_linewidth() > 2]
    at = framed.get_x() + 0.5, framed.get_y() + 0.52
    (text,) = [text for text in figure.axes[0].texts if text.get_position() == pytest.approx(at)]
    assert text.get_text() == "13"
    assert "row 1 meets column 1:\n3·2 + 1·1 + 2·3\n= 13" in words(figure)


def test_a_reshape_keeps_the_order_and_a_transpose_does_not():
    shown = numbers(arrays.reshape_or_transpose(MATRIX))
    assert shown == [1, 2, 3, 4, 5, 6, 1, 4, 2, 5, 3, 6, 1, 2, 3, 4, 5, 6]


def test_what_is_copied_forward_is_summed_backward():
    b, dy = np.array([10.0, 20.0]), np.array([[1.0, 2.0], [3.0, -4.0], [5.0, 6.0]])
    shown = numbers(arrays.copied_and_summed(b, dy))
    assert shown == [10, 20] + [10, 20] * 3 + dy.ravel().tolist() + [9, 4]


def test_the_gap_grows_with_the_number_and_is_eps_at_one():
    figure = arrays.gaps_between_floats()
    names = words(figure)[:3]
    assert names == ["float16", "float32", "float64"]
    for name, line in zip(names, figure.axes[0].get_lines(), strict=False):
        at, gap = line.get_data()
        assert np.all(np.diff(gap) >= 0)
        assert gap[np.searchsorted(at, 1.0)] == np.finfo(name).eps
        assert np.max(gap / at) == pytest.approx(2 * np.min(gap / at), rel=0.05)
