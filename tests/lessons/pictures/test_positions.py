"""The pictures of lesson 10 show what was computed."""

import numpy as np
import pytest

from handgrad.lessons.pictures import positions as pictures
from handgrad.ops import embedding, sinusoidal_position
from tests.pictures import assert_good, hands, matrices

PICTURES = {
    "scatter": pictures.scatter,
    "clocks": pictures.clocks,
    "similarity": pictures.similarity,
    "relative_scores": pictures.relative_scores,
}


@pytest.mark.parametrize("draw", PICTURES.values(), ids=PICTURES)
def test_every_picture_is_laid_out_without_overlap_in_the_colours_of_its_theme(draw):
    assert_good(draw)


def test_what_is_scattered_is_the_gradient_of_the_table(rng):
    token_ids, dy = np.array([2, 0, 2, 2]), rng.normal(size=(4, 3))
    _, _, dweight = matrices(pictures.scatter(dy, token_ids, vocabulary=list("abcd")))
    _, saved = embedding.forward(np.zeros((4, 3)), token_ids)
    np.testing.assert_allclose(dweight, embedding.backward(dy, saved)[0])
    np.testing.assert_array_equal(dweight[[1, 3]], 0.0)  # tokens that do not occur


@pytest.mark.parametrize("position", [0, 1, 40])
def test_clocks_show_the_pairs_of_a_position(position):
    before, after = hands(pictures.clocks(position, 6))
    np.testing.assert_array_equal(before, [[0, 1]] * 3)
    np.testing.assert_allclose(after.ravel(), sinusoidal_position.table(1, 6, offset=position)[0])


@pytest.mark.parametrize("draw", [pictures.similarity, pictures.relative_scores])
def test_products_lie_on_one_curve_of_the_distance(draw):
    figure = draw(T=30, rows=(3, 20))
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
