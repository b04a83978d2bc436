"""Deep stacks, as drawn: the curves are the numbers, and the geometry is the formula."""

import numpy as np
import pytest

from handgrad.lessons.pictures import depth
from handgrad.ops import layer_norm
from tests.pictures import assert_good

SIZES = (np.array([1.0, 0.5, 0.25]), np.array([0.1, 0.3, 1.0]))
PICTURES = {
    "gradients_by_layer": lambda: depth.gradients_by_layer({"plain": SIZES}),
    "losses": lambda: depth.losses({"plain": np.linspace(2.0, 1.0, 30)}, chance=1.5),
    "normalized": depth.normalized,
    "geometry": depth.geometry,
}


def lines(axes, label):
    return [line for line in axes.get_lines() if line.get_label() == label]


def points(axes, label):
    return np.concatenate([line.get_xydata() for line in lines(axes, label)])


@pytest.mark.parametrize("draw", PICTURES.values(), ids=PICTURES)
def test_every_picture_is_laid_out_without_overlap_in_the_colours_of_its_theme(draw):
    assert_good(draw)


def test_signal_and_gradient_stand_beside_each_other_with_what_was_predicted():
    predicted = {"": (np.ones(3), np.ones(3))}
    figure = depth.gradients_by_layer({"plain": SIZES}, predicted=predicted)
    for axes, sizes in zip(figure.axes, SIZES, strict=True):
        assert axes.get_yscale() == "log"
        np.testing.assert_array_equal(lines(axes, "plain")[0].get_ydata(), sizes)
        np.testing.assert_array_equal(lines(axes, "predicted")[0].get_ydata(), np.ones(3))
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["plain", "predicted"]


def test_a_stack_that_explodes_does_not_squeeze_the_others():
    powers = 10.0 ** np.arange(12)
    axes = depth.gradients_by_layer({"wild": (powers, powers[::-1])}).axes[0]
    assert axes.get_ylim() == (0.1, 1e6)
    axes = depth.gradients_by_layer({"wild": (powers, powers)}, limits=(1e-3, 1e3)).axes[0]
    assert axes.get_ylim() == (1e-3, 1e3)


def test_stacks_differ_in_colour_and_in_dashes():
    figure = depth.gradients_by_layer({name: SIZES for name in "abcde"})
    for sign in ("get_color", "get_linestyle"):
        assert len({str(getattr(line, sign)()) for line in figure.axes[0].get_lines()}) >= 4
    pairs = {(line.get_color(), str(line._unscaled_dash_pattern)) for line in figure.axes[0].get_lines()}
    assert len(pairs) == 5


def test_a_loss_is_the_mean_of_ten_steps():
    run = np.exp(-np.linspace(0, 3, 40))
    (line,) = lines(depth.losses({"run": run}).axes[0], "run")
    assert line.get_xdata()[0] == depth.SMOOTHING
    np.testing.assert_allclose(line.get_ydata()[[0, -1]], [run[:10].mean(), run[-10:].mean()])


def test_rows_lie_upon_each_other_after_layer_norm_and_not_after_rms_norm(rng):
    form = rng.normal(size=500)
    figure = depth.normalized(np.stack([form, 5 + 2 * form]))
    before, layer, rms = (
        [line.get_ydata() for line in axes.get_lines() if line.get_label().startswith("row")]
        for axes in figure.axes
    )
    np.testing.assert_allclose(*layer, atol=1e-4)
    assert np.max(np.abs(before[0] - before[1])) > 0.1
    assert np.max(np.abs(rms[0] - rms[1])) > 0.1


def test_normalized_points_lie_on_the_circle_and_the_gradient_runs_along_it():
    figure = depth.geometry()
    flat = figure.axes[1]
    np.testing.assert_allclose(np.linalg.norm(points(flat, r"$\hat x$"), axis=1), 3**0.5)
    arrows = {
        text.get_text(): arrow.xy - np.array(arrow.xyann)
        for arrow, text in zip(
            (t for t in flat.texts if hasattr(t, "xyann")),
            (t for t in flat.texts if not hasattr(t, "xyann")),
            strict=True,
        )
    }
    radius = points(flat, r"$\hat x$")[0]
    assert abs(arrows["$dx/r$"] @ radius) < 1e-9
    assert abs(arrows[r"$dy-\langle dy\rangle$"] @ radius) > 0.1


def test_from_above_a_point_without_its_mean_is_where_the_point_is(rng):
    rows = rng.normal(size=(5, 3))
    centred = points(depth.geometry(rows).axes[1], r"$x-\mu$")
    np.testing.assert_allclose(centred, rows @ depth.ALONG.T, atol=1e-12)
    y, _ = layer_norm.forward(rows, np.ones(3), eps=1e-12)
    np.testing.assert_allclose(y @ depth.UP, 0.0, atol=1e-12)
