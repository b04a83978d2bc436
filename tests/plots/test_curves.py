"""The losses of runs over each other."""

import numpy as np
import pytest

from handgrad.plots import curves
from handgrad.plots.curves import Curve
from tests.pictures import assert_good, lines

TRAINING = [(step, 1.0 + 3.0 / step) for step in range(1, 401)]
VALIDATION = [(0, 4.5), (200, 2.25), (400, 2.0)]
ONE = Curve("one", TRAINING, VALIDATION, 1.5)
OTHER = Curve("other", TRAINING[:50], VALIDATION[:2], 1.5)
OTHER_TOKENS = Curve("bpe", TRAINING, VALIDATION, 0.5)


@pytest.mark.parametrize("runs", [[ONE], [ONE, OTHER], [ONE, OTHER, OTHER_TOKENS], [ONE] * 9])
def test_it_is_laid_out_without_overlap_in_the_colours_of_its_theme(runs):
    assert_good(lambda: curves.draw(runs, "steps"))


def test_runs_of_one_tokenizer_are_in_nats_a_token_and_on_the_right_in_bits():
    (axes,) = curves.draw([ONE, OTHER], "seconds").axes
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("seconds", "loss (nats a token)")
    assert len(axes.child_axes) == 1


def test_runs_of_different_tokenizers_are_in_bits_a_byte():
    figure = curves.draw([ONE, OTHER_TOKENS], "steps")
    (axes,) = figure.axes
    assert axes.get_ylabel() == "loss (bits a byte)"
    assert not axes.child_axes
    for label, bits in (("one: 3.000", 1.5), ("bpe: 1.000", 0.5)):
        (line,) = lines(figure, label)
        np.testing.assert_allclose(line.get_ydata(), [4.5 * bits, 2.25 * bits, 2.0 * bits])


def test_the_first_losses_may_leave_the_picture_and_later_ones_do_not():
    (axes,) = curves.draw([ONE], "steps").axes
    assert 2.25 < axes.get_ylim()[1] < 4.0


def test_a_run_that_has_only_begun_is_drawn():
    for run in (Curve("new", [], [(0, 4.0)], 1.0), Curve("new", [(1, 4.0)], [], 1.0)):
        assert len(curves.draw([run], "tokens").axes[0].get_lines()) == 1
