"""The pictures of embeddings and positions show what was computed: rows of tables, waves, and turns."""

import numpy as np
import pytest

from handgrad.ops import embedding, rope, sinusoidal_position
from handgrad.plots import positions as plots
from handgrad.plots import style
from tests.plots.pictures import assert_nothing_leaves_the_paper, drawn

ALL = [
    plots.lookup,
    plots.scatter,
    plots.sinusoid,
    plots.clocks,
    plots.similarity,
    plots.rotation,
    plots.relative_scores,
]


def matrices(figure):
    return [np.asarray(image.get_array()) for axes in figure.axes for image in axes.get_images()]


def hands(figure):
    """The tips of the hands of every dial: before, after."""
    tips = [
        [line.get_xydata()[0] for line in axes.get_lines() if line.get_marker() == "o"]
        for axes in figure.axes
    ]
    return np.swapaxes(tips, 0, 1)


def test_a_lookup_is_the_product_that_the_op_avoids():
    one_hot, table, rows = matrices(drawn(plots.lookup()))
    y, _ = embedding.forward(plots.TABLE, plots.TOKEN_IDS)
    np.testing.assert_array_equal(one_hot.sum(axis=1), 1)
    np.testing.assert_array_equal(table, plots.TABLE)
    np.testing.assert_array_equal(rows, y)


def test_what_is_scattered_is_the_gradient_of_the_table(rng):
    token_ids, dy = np.array([2, 0, 2, 2]), rng.normal(size=(4, 3))
    _, _, dweight = matrices(drawn(plots.scatter(dy, token_ids, vocabulary=list("abcd"))))
    _, saved = embedding.forward(np.zeros((4, 3)), token_ids)
    np.testing.assert_allclose(dweight, embedding.backward(dy, saved)[0])
    np.testing.assert_array_equal(dweight[[1, 3]], 0.0)  # tokens that do not occur


def test_every_wave_is_a_row_of_the_map_above_it():
    figure = drawn(plots.sinusoid(50, 8, base=100.0, shown=(0, 3)))
    (table,) = matrices(figure)[:1]
    np.testing.assert_array_equal(table.T, sinusoidal_position.table(50, 8, base=100.0))
    waves = [line.get_ydata() for axes in figure.axes for line in axes.get_lines()]
    np.testing.assert_array_equal(waves, table[[0, 3]])


def test_the_wavelength_that_is_written_is_where_the_wave_returns():
    assert "wavelength 62.8" in drawn(plots.sinusoid(20, 8, shown=(2,))).axes[1].texts[0].get_text()
    assert sinusoidal_position.table(1, 8, offset=63)[0, 2] == pytest.approx(0, abs=0.02)


@pytest.mark.parametrize("position", [0, 1, 40])
def test_clocks_show_the_pairs_of_a_position(position):
    before, after = hands(drawn(plots.clocks(position, 6)))
    np.testing.assert_array_equal(before, [[0, 1]] * 3)
    np.testing.assert_allclose(after.ravel(), sinusoidal_position.table(1, 6, offset=position)[0])


def test_a_rotation_keeps_lengths_and_is_that_of_the_op(rng):
    x = rng.normal(size=8)
    before, after = hands(drawn(plots.rotation(x, position=5)))
    np.testing.assert_array_equal(before.ravel(), x)
    np.testing.assert_array_equal(after.ravel(), rope.forward(x[None], offset=5)[0][0])
    np.testing.assert_allclose(np.linalg.norm(after, axis=1), np.linalg.norm(before, axis=1))


@pytest.mark.parametrize("draw", [plots.similarity, plots.relative_scores])
def test_products_lie_on_one_curve_of_the_distance(draw):
    figure = drawn(draw(T=30, rows=(3, 20)))
    (products,) = (m for m in matrices(figure) if m.shape == (30, 30))
    for k in range(-29, 30):
        np.testing.assert_allclose(np.diagonal(products, k), np.diagonal(products, k)[0], atol=1e-12)
    (right,) = (axes for axes in figure.axes if axes.get_lines())
    curve, *rows = right.get_lines()
    for row in rows:
        interpolated = np.interp(row.get_xdata(), *curve.get_data())
        np.testing.assert_allclose(
            row.get_ydata(), interpolated, atol=0.05
        )  # between the points of the curve


@pytest.mark.parametrize("name", style.THEMES)
@pytest.mark.parametrize("draw", ALL)
def test_pictures_need_no_arguments_on_either_paper(draw, name):
    with style.theme(name):
        figure = drawn(draw())
    assert_nothing_leaves_the_paper(figure)
