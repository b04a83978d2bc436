"""The losses of a sweep's trials against what was tried."""

import numpy as np
import pytest

from handgrad.plots import sweep
from handgrad.plots.sweep import Panel
from tests.pictures import assert_good

RATES = Panel("learning_rate", [1e-3, 3e-3, 1e-2, 2.5e-2, 4e-3], True)
WIDTHS = Panel("d_model", [64, 128, 64, 192, 192], False)
WORDS = Panel("activation", ["gelu", "silu", "gelu", "silu", "relu"], False)
LOSSES = [2.1, 1.9, 2.0, 9.0, 2.05]
FINISHED = [True, True, True, False, False]


@pytest.mark.parametrize("panels", [[RATES], [RATES, WIDTHS], [RATES, WIDTHS, WORDS, WIDTHS]])
def test_it_is_laid_out_without_overlap_in_the_colours_of_its_theme(panels):
    assert_good(lambda: sweep.draw(panels, LOSSES, FINISHED))


def test_what_was_finished_is_filled_what_was_stopped_is_open_and_the_best_has_a_ring():
    axes, _ = sweep.draw([RATES, WIDTHS], LOSSES, FINISHED).axes
    drawn = {it.get_label(): it for it in axes.collections}
    assert drawn.keys() == {"to the end", "stopped early", "likewise, above", "best, 1.900"}
    np.testing.assert_allclose(drawn["to the end"].get_offsets(), [(1e-3, 2.1), (3e-3, 1.9), (1e-2, 2.0)])
    np.testing.assert_allclose(drawn["stopped early"].get_offsets(), [(4e-3, 2.05)])
    np.testing.assert_allclose(drawn["best, 1.900"].get_offsets(), [(3e-3, 1.9)])
    assert not len(drawn["stopped early"].get_facecolors())


def test_a_loss_far_above_the_finished_ones_is_an_arrow_at_the_edge():
    (axes,) = sweep.draw([WIDTHS], LOSSES, FINISHED).axes
    top = axes.get_ylim()[1]
    assert top < 2.5
    (above,) = (it for it in axes.collections if it.get_label() == "likewise, above")
    np.testing.assert_allclose(above.get_offsets(), [(192, top)])


def test_words_stand_side_by_side_and_numbers_where_they_belong():
    words, widths = sweep.draw([WORDS, WIDTHS], LOSSES, FINISHED).axes
    assert [it.get_text() for it in words.get_xticklabels()] == ["gelu", "relu", "silu"]
    assert [it.get_text() for it in widths.get_xticklabels()] == ["64", "128", "192"]


def test_a_sweep_whose_trials_are_all_stopped_is_drawn():
    (axes,) = sweep.draw([RATES], LOSSES, [False] * 5).axes
    assert "best" not in "".join(it.get_label() for it in axes.collections)
