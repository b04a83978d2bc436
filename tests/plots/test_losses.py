"""The pictures of losses show what the ops compute, on light and on dark paper."""

import numpy as np

from handgrad.plots import losses as plots


def test_squared_error_is_a_parabola_with_a_straight_slope():
    loss, slope = plots.mse(target=0.5).axes[0].get_lines()[1:3]
    at = loss.get_xdata()
    np.testing.assert_allclose(loss.get_ydata(), (at - 0.5) ** 2)
    np.testing.assert_allclose(slope.get_ydata(), 2 * (at - 0.5))


def test_cross_entropy_is_the_surprise_and_its_slope_one_over_p():
    loss, slope = plots.cross_entropy().axes[0].get_lines()[1:3]
    p = loss.get_xdata()
    np.testing.assert_allclose(loss.get_ydata(), -np.log(p), atol=1e-12)
    np.testing.assert_allclose(slope.get_ydata(), -1 / p)


def test_the_gradient_is_the_probabilities_less_the_target():
    left, right = plots.gradient([2.0, 1.0, 0.0], target=2).axes
    probs = np.exp([2.0, 1.0, 0.0]) / np.sum(np.exp([2.0, 1.0, 0.0]))
    np.testing.assert_allclose([bar.get_height() for bar in left.patches[:3]], probs)
    np.testing.assert_allclose([bar.get_height() for bar in right.patches], probs - [0, 0, 1])
    assert left.get_title(loc="left") == f"loss {-np.log(probs[2]):.3f} nats"
