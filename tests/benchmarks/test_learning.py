"""Curves of runs over each other, and how they differ."""

import json

import learning
import numpy as np
import pytest
from learning import Curve

from handgrad.training.metrics import EvaluationRow, StepRow
from tests.pictures import assert_good

STEPS = range(1, 101)
FIRST = Curve("float32", {step: 4.0 / step for step in STEPS}, {0: 4.5, 50: 2.25, 100: 2.0})
OTHER = Curve("int16", {step: 4.0 / step + 0.5 for step in STEPS}, {0: 4.5, 50: 2.0})


def test_it_is_laid_out_without_overlap_in_the_colours_of_its_theme():
    assert_good(lambda: learning.draw([FIRST, OTHER]))


def test_below_stands_the_difference_at_the_steps_that_both_have():
    _, below = learning.draw([FIRST, OTHER]).axes
    drawn = {line.get_label(): np.transpose(line.get_data()) for line in below.get_lines()}
    means = drawn["int16, training"]
    np.testing.assert_allclose(means[:, 0], np.arange(10.5, 100, 20))
    np.testing.assert_allclose(means[:, 1], 0.5)
    np.testing.assert_allclose(drawn["int16, validation: -0.2500 after step 50"], [[0, 0], [50, -0.25]])


def test_the_table_compares_the_last_evaluation_that_all_have():
    assert learning.table([FIRST, OTHER]).splitlines() == [
        "| precision | validation loss after step 50 | minus float32 |",
        "|---|---|---|",
        "| float32 | 2.2500 | +0.0000 |",
        "| int16 | 2.0000 | -0.2500 |",
    ]


def test_a_run_is_read_as_far_as_it_is(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"precision": "int16"}))
    step = StepRow(1, 3.0, learning_rate=0.1, gradient_norm=1.0, tokens=9, seconds=2.0)
    evaluation = EvaluationRow(0, 4.0, 5.0, train_loss=None, tokens=0, seconds=1.0, sample="")
    lines = [json.dumps(row._asdict()) for row in (evaluation, step)]
    (tmp_path / "metrics.jsonl").write_text("\n".join([*lines, '{"step": 2, "lo']))
    assert learning.read(tmp_path) == Curve("int16", {1: 3.0}, {0: 4.0})


@pytest.mark.parametrize("n", [19, 20, 45])
def test_only_whole_groups_of_neighbours_are_drawn(n):
    assert learning.smoothed(dict.fromkeys(range(n), 1.0)).shape == (2, n // learning.NEIGHBOURS)
