"""The loss curve of a run."""

import numpy as np
import pytest

from handgrad.plots import loss_curve
from tests.pictures import assert_good, lines

TRAINING = [(step, 4.0 / step) for step in range(1, 1001)]
VALIDATION = [(0, 4.5), (500, 2.25), (1000, 2.0)]


def curve():
    return loss_curve.draw(TRAINING, VALIDATION, {"unigram": 3.25, "xz": 3.26}, 1.5)


def test_it_is_laid_out_without_overlap_in_the_colours_of_its_theme():
    assert_good(curve)


def test_validation_is_drawn_as_it_is_and_training_as_means_of_neighbours():
    (validation,) = lines(curve(), "validation, 2.000 at the end, 3.000 bits a byte")
    (training,) = lines(curve(), "training, mean of a few steps")
    assert validation.get_xydata().tolist() == [list(pair) for pair in VALIDATION]
    np.testing.assert_allclose(training.get_xydata()[-1], np.mean(TRAINING[-5:], axis=0))
    assert len(training.get_xydata()) == loss_curve.N_BINS


def test_baselines_are_lines_with_their_names_and_losses():
    axes = curve().axes[0]
    assert [text.get_text() for text in axes.texts] == ["unigram 3.25", "xz 3.26"]
    assert [3.25, 3.25] in [list(line.get_ydata()) for line in axes.get_lines()]


def test_names_of_baselines_stand_apart_however_near_these_are():
    unigram, xz = (text.xy[1] for text in curve().axes[0].texts)
    assert xz - unigram == pytest.approx(loss_curve.LEAST_GAP)


def test_the_right_axis_is_in_bits_a_byte():
    figure = curve()
    figure.draw_without_rendering()
    (axes,) = figure.axes
    (right,) = axes.child_axes
    np.testing.assert_allclose(right.get_ylim(), np.multiply(axes.get_ylim(), 1.5))


def test_a_run_without_a_step_has_its_baselines():
    assert len(loss_curve.draw([], [], {"uniform": 4.0}, 1.0).axes[0].get_lines()) == 1
