"""The pictures of training show the numbers they were given, and a batch as it is cut from its text."""

import numpy as np
import pytest

from handgrad.lessons.pictures import training
from tests.pictures import assert_good

ROWS = [(0, None, 4.6), (40, 3.4, 3.3), (80, 2.4, 3.1), (120, 1.8, 3.2)]
PICTURES = {
    "batch": lambda: training.batch("a short text", [0, 3], 5),
    "baselines": lambda: training.baselines({"uniform": 4.0}),
    "averages": lambda: training.averages(np.ones(3), {"m": np.ones(3)}),
    "learning_rates": lambda: training.learning_rates({"constant": [1.0, 1.0]}),
    "gradient_norms": lambda: training.gradient_norms([0.5, 2.0], 1.0),
    "curves": lambda: training.curves({"one": ROWS}),
}


def line(axes, label):
    (found,) = [line for line in axes.get_lines() if line.get_label() == label]
    return found


def test_targets_are_the_inputs_one_character_further_on():
    text = "to be, or not to be"
    table = training.batch(text, [3, 10], 6).axes[1]
    rows = {}
    for label in table.texts:
        x, y = label.get_position()
        if label.get_text() not in ("inputs", "targets"):
            rows.setdefault(y, {})[x] = label.get_text()
    read = ["".join(row[x] for x in sorted(row)) for _, row in sorted(rows.items())]
    assert read == [part.replace(" ", "\u2423") for part in ("be, or", "e, or ", "not to", "ot to ")]


def test_brackets_stand_under_the_characters_that_a_window_reads():
    strip = training.batch("abcdefgh", [1, 3], 4).axes[0]
    for start, bracket in zip([1, 3], strip.get_lines(), strict=True):
        assert bracket.get_xdata().min() == pytest.approx(start - 0.4)
        assert bracket.get_xdata().max() == pytest.approx(start + 3.4)


def test_characters_without_ink_are_shown():
    texts = {text.get_text() for text in training.batch("a\n\tb c", [0], 4).axes[0].texts}
    assert texts == {"a", "b", "c", "↵", "⇥", "␣"}


def test_a_baseline_tells_its_loss_and_the_choices_that_are_as_hard():
    axes = training.baselines({"uniform": np.log(50), "ours": 0.0}).axes[0]
    assert [bar.get_width() for bar in axes.patches] == [np.log(50), 0.0]
    assert [text.get_text() for text in axes.texts] == ["3.91, like 50.0 choices", "0.00, like 1.0 choices"]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["uniform", "ours"]


def test_averages_and_learning_rates_are_drawn_as_given():
    values, mean = np.array([1.0, 2.0, 0.0]), np.array([0.1, 0.3, 0.27])
    axes = training.averages(values, {"m": mean}).axes[0]
    np.testing.assert_array_equal(line(axes, "gradient").get_ydata(), values)
    np.testing.assert_array_equal(line(axes, "m").get_ydata(), mean)
    axes = training.learning_rates({"cosine": [0.1, 1.0, 0.5]}).axes[0]
    np.testing.assert_array_equal(line(axes, "cosine").get_ydata(), [0.1, 1.0, 0.5])
    assert axes.get_ylim()[0] == 0


def test_gradients_above_the_line_are_the_clipped_ones():
    axes = training.gradient_norms([0.5, 2.0, 1.0, 3.0], 1.0).axes[0]
    np.testing.assert_array_equal(line(axes, "clipped: 50% of the steps").get_xydata(), [[2, 2.0], [4, 3.0]])
    np.testing.assert_array_equal(line(axes, "as it was: 50% of the steps").get_ydata(), [0.5, 1.0])


def test_both_curves_of_every_run_are_shown_and_the_lowest_validation_loss_is_circled():
    figure = training.curves({"little": ROWS, "much": ROWS[:3]}, {"unigram": 3.2})
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["little", "much"]
    for axes, rows in zip(figure.axes, (ROWS, ROWS[:3]), strict=True):
        np.testing.assert_array_equal(line(axes, "validation").get_ydata(), [row[2] for row in rows])
        np.testing.assert_array_equal(line(axes, "training").get_ydata()[1:], [row[1] for row in rows[1:]])
        assert [80.0, 3.1] in [
            list(line.get_xydata()[0]) for line in axes.get_lines() if len(line.get_xdata()) == 1
        ]
    assert figure.axes[0].get_ylim() == figure.axes[1].get_ylim()


@pytest.mark.parametrize("draw", PICTURES.values(), ids=PICTURES)
def test_every_picture_is_laid_out_without_overlap_in_the_colours_of_its_theme(draw):
    assert_good(draw)
