"""The pictures of attention show what was computed, and what the mask forbids is not there."""

import numpy as np
import pytest

from handgrad.ops import attention
from handgrad.plots import attention as plots
from handgrad.plots import style
from tests.plots.pictures import assert_nothing_leaves_the_paper, drawn

LATER = ~np.tri(3, dtype=bool)


def matrices(figure):
    """What the images of a picture show, in order; absent cells are masked."""
    return [image.get_array() for axes in figure.axes for image in axes.get_images()]


def numbers(axes):
    return [text.get_text() for text in axes.texts]


@pytest.fixture
def probs(rng):
    q, k, v = rng.normal(size=(3, 1, 1, 5, 4))
    _, saved = attention.forward(q, k, v)
    return saved.probs.y[0, 0, 0]


def test_a_map_shows_the_probabilities_and_nothing_of_the_future(probs):
    figure = drawn(plots.weights(probs, "a b c"))
    (shown,) = matrices(figure)
    np.testing.assert_array_equal(np.ma.getmaskarray(np.ma.masked_invalid(shown)), ~np.tri(5, dtype=bool))
    np.testing.assert_array_equal(np.ma.filled(shown, 0.0), probs)
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == list("a␣b␣c")
    assert len(figure.axes[0].patches) == 10  # hatched cells


def test_with_fewer_queries_than_keys_the_queries_are_the_last(probs):
    figure = drawn(plots.weights(probs[3:], "bc", keys="a b c"))
    assert len(figure.axes[0].patches) == 1


def test_the_steps_of_the_example_are_its_fractions():
    scores, masked, shown, y = matrices(drawn(plots.steps()))
    np.testing.assert_allclose(scores[2], [np.log(2), np.log(3), 0.0])
    np.testing.assert_array_equal(np.ma.getmaskarray(np.ma.masked_invalid(masked)), LATER)
    np.testing.assert_allclose(shown[2], [1 / 3, 1 / 2, 1 / 6])
    np.testing.assert_allclose(y, [[12, 0], [9, 3], [6, 8]], atol=1e-12)


def test_numbers_are_written_into_small_matrices_only(probs):
    assert numbers(plots.steps().axes[3]) == ["12", "0", "9", "3", "6", "8"]
    assert not numbers(plots.weights(probs, "abcde").axes[0])


def test_gradients_are_those_of_the_op_and_balance_in_every_row(rng):
    q, k, v, dy = rng.normal(size=(4, 3, 2))
    _, saved = attention.forward(q[None, None], k[None, None], v[None, None])
    dq, _, _ = attention.backward(dy[None, None], saved)
    _, dprobs, dscores = (np.ma.filled(m, 0.0) for m in matrices(drawn(plots.gradients(q, k, v, dy))))
    np.testing.assert_allclose(dprobs, np.where(LATER, 0.0, dy @ v.T))
    np.testing.assert_allclose(dscores.sum(axis=1), 0.0, atol=1e-12)
    np.testing.assert_allclose(dscores @ k / np.sqrt(2), dq[0, 0])


def test_four_indices_are_laid_out_as_rows_of_y_and_columns_of_q(rng):
    jacobian = rng.normal(size=(3, 2, 3, 2))
    (shown,) = matrices(drawn(plots.four_indices(jacobian)))
    assert shown[2 * 2 + 1, 1 * 2 + 0] == jacobian[2, 1, 1, 0]


def test_the_bars_of_scaling_are_two_softmaxes(rng):
    q, k = rng.normal(size=16), rng.normal(size=(6, 16))
    raw, scaled = ([bar.get_height() for bar in axes.patches] for axes in drawn(plots.scaling(q, k)).axes)
    assert sum(raw) == pytest.approx(1.0)
    assert sum(scaled) == pytest.approx(1.0)
    assert raw[0] > scaled[0]
    np.testing.assert_allclose(np.log(raw[0] / raw[-1]), 4 * np.log(scaled[0] / scaled[-1]))


def test_the_lines_of_the_cost_cross_where_the_picture_says():
    for axes, crossing in zip(drawn(plots.cost(d_model=64, n_heads=4)).axes, (128, 64), strict=True):
        linear, quadratic, marker = axes.get_lines()
        assert set(marker.get_xdata()) == {crossing}
        T = linear.get_xdata()
        np.testing.assert_allclose(quadratic.get_ydata() / linear.get_ydata(), T / crossing)


@pytest.mark.parametrize("name", style.THEMES)
@pytest.mark.parametrize("draw", [plots.steps, plots.gradients, plots.cost])
def test_pictures_of_the_op_need_no_arguments_on_either_paper(draw, name):
    with style.theme(name):
        figure = drawn(draw())
    assert_nothing_leaves_the_paper(figure)
