"""The pictures of lesson 11 show what was computed."""

import numpy as np
import pytest

from handgrad.lessons.pictures import attention as pictures
from handgrad.ops import attention
from tests.pictures import assert_good, matrices

LATER = ~np.tri(3, dtype=bool)
PICTURES = {
    "gradients": pictures.gradients,
    "four_indices": lambda: pictures.four_indices(np.ones((3, 2, 3, 2))),
    "scaling": lambda: pictures.scaling(np.ones(4), np.eye(4)),
    "cost": pictures.cost,
}


@pytest.mark.parametrize("draw", PICTURES.values(), ids=PICTURES)
def test_every_picture_is_laid_out_without_overlap_in_the_colours_of_its_theme(draw):
    assert_good(draw)


def test_gradients_are_those_of_the_op_and_balance_in_every_row(rng):
    q, k, v, dy = rng.normal(size=(4, 3, 2))
    _, saved = attention.forward(q[None, None], k[None, None], v[None, None])
    dq, _, _ = attention.backward(dy[None, None], saved)
    _, dprobs, dscores = (np.ma.filled(m, 0.0) for m in matrices(pictures.gradients(q, k, v, dy)))
    np.testing.assert_allclose(dprobs, np.where(LATER, 0.0, dy @ v.T))
    np.testing.assert_allclose(dscores.sum(axis=1), 0.0, atol=1e-12)
    np.testing.assert_allclose(dscores @ k / np.sqrt(2), dq[0, 0])


def test_four_indices_are_laid_out_as_rows_of_y_and_columns_of_q(rng):
    jacobian = rng.normal(size=(3, 2, 3, 2))
    (shown,) = matrices(pictures.four_indices(jacobian))
    assert shown[2 * 2 + 1, 1 * 2 + 0] == jacobian[2, 1, 1, 0]


def test_the_bars_of_scaling_are_two_softmaxes(rng):
    q, k = rng.normal(size=16), rng.normal(size=(6, 16))
    raw, scaled = ([bar.get_height() for bar in axes.patches] for axes in pictures.scaling(q, k).axes)
    assert sum(raw) == pytest.approx(1.0)
    assert sum(scaled) == pytest.approx(1.0)
    assert raw[0] > scaled[0]
    np.testing.assert_allclose(np.log(raw[0] / raw[-1]), 4 * np.log(scaled[0] / scaled[-1]))


def test_the_lines_of_the_cost_cross_where_the_picture_says():
    for axes, crossing in zip(pictures.cost(d_model=64, n_heads=4).axes, (128, 64), strict=True):
        linear, quadratic, marker = axes.get_lines()
        assert set(marker.get_xdata()) == {crossing}
        T = linear.get_xdata()
        np.testing.assert_allclose(quadratic.get_ydata() / linear.get_ydata(), T / crossing)
