"""A step that stands out is not applied, the run says so, and no other step is touched."""

import itertools
import json
import math
import signal

import numpy as np
import pytest

import handgrad
from handgrad import engines
from handgrad.cli import training_display
from handgrad.data.examples import Text
from handgrad.engines import reference
from handgrad.engines.engine import UNLIMITED, Limits, Step
from handgrad.formats.model_folder import CONFIG
from handgrad.training import metrics, spikes
from handgrad.training.events import Skipped, StepDone
from handgrad.training.metrics import SkippedRow, StepRow
from handgrad.training.spikes import LEAST, STEPS
from tests.training.test_training import assert_same_weights

SPIKE = 20
RUN = {"steps": 24, "eval_every": 12, "n_layers": 1, "d_model": 8, "learning_rate": 1e-2, "dropout": 0.0}


def rows_of(losses, norms=None):
    norms = losses if norms is None else norms
    return [
        StepRow(i, loss, 1e-3, norm, i, i)
        for i, (loss, norm) in enumerate(zip(losses, norms, strict=True), 1)
    ]


def test_limits_are_so_many_deviations_above_the_mean_of_the_last_steps(rng):
    losses, norms = rng.uniform(1, 3, size=(2, 300))
    limits = spikes.limits(rows_of(losses, norms), 300, 6.0)
    for limit, numbers in zip(limits, (losses, norms), strict=True):
        assert limit == pytest.approx(numbers[-STEPS:].mean() + 6.0 * numbers[-STEPS:].std(), rel=1e-6)


def test_there_are_none_without_the_option_and_before_there_is_something_to_compare_with():
    rows = rows_of([1.0, 2.0] * LEAST)
    assert spikes.limits(rows, len(rows), None) == UNLIMITED
    assert spikes.limits(rows[: LEAST - 1], len(rows), 6.0) == UNLIMITED
    assert spikes.limits(rows[:LEAST], len(rows), 6.0) != UNLIMITED


def test_only_steps_that_are_known_in_any_case_count():
    rows = rows_of([*[1.0, 2.0] * LEAST, 1e6])
    known = len(rows) - 1
    assert spikes.limits(rows, known, 6.0) == spikes.limits(rows[:-1], known, 6.0)
    assert spikes.limits(rows, len(rows), 6.0) != spikes.limits(rows[:-1], known, 6.0)


def test_numbers_that_hardly_vary_have_room_and_the_largest_ones_a_limit():
    assert spikes.limits(rows_of([2.0] * STEPS), STEPS, 6.0).loss == pytest.approx(2.12)
    limit = spikes.limits(rows_of([1.0] * STEPS, [1e38, 3e38] * (STEPS // 2)), STEPS, 1e9).gradient_norm
    assert math.isfinite(limit)


def test_what_is_not_finite_is_beyond_every_limit():
    assert UNLIMITED.allow(Step(1e38, 1e38))
    for step in (Step(math.nan, 1.0), Step(1.0, math.inf)):
        assert not UNLIMITED.allow(step)
    assert Limits(2.0, 3.0).allow(Step(2.0, 3.0))
    assert not Limits(2.0, 3.0).allow(Step(2.1, 3.0))
    assert not Limits(2.0, 3.0).allow(Step(2.0, 3.1))


@pytest.fixture
def soon(monkeypatch):
    """Few steps are enough to compare with."""
    monkeypatch.setattr(spikes, "STEPS", 16)
    monkeypatch.setattr(spikes, "LEAST", 8)


@pytest.fixture
def garbage(monkeypatch):
    """One batch is garbage, whose targets never stand where they do."""
    draw, n = Text.draw, itertools.count(1)

    def spoilt(self, *arguments):
        token_ids, targets = draw(self, *arguments)
        return (token_ids, 0 * targets) if next(n) == SPIKE else (token_ids, targets)

    monkeypatch.setattr(Text, "draw", spoilt)


@pytest.mark.usefixtures("soon", "garbage")
@pytest.mark.parametrize("engine", ["reference", "cpu"])
def test_a_batch_of_garbage_changes_nothing_and_the_run_says_so(
    engine, text_file, tmp_path, small, monkeypatch
):
    kept, events = {}, []
    step = engines.get(engine).Training.step

    def watched(training, *arguments):
        done = step(training, *arguments)
        if training.config.d_model == RUN["d_model"]:  # not the small model that has kernels compiled
            kept[len(kept) + 1] = training.flat.copy()
        return done

    monkeypatch.setattr(engines.get(engine).Training, "step", watched)
    options = small | RUN | {"engine": engine, "precision": "float32", "skip_spikes": 4}
    folder = handgrad.train(text_file, out=tmp_path / "run", report=events.append, **options)
    (event,) = (event for event in events if isinstance(event, Skipped))
    (row,) = (row for row in metrics.read(folder) if isinstance(row, SkippedRow))
    assert event.step == row.step == SPIKE
    assert event.loss > row.largest_loss
    assert str(event).startswith(
        f"step {SPIKE}  skipped: its loss {event.loss:.3g} is above {row.largest_loss:.3g}"
    )
    np.testing.assert_array_equal(kept[SPIKE], kept[SPIKE - 1])
    assert all(not np.array_equal(kept[i], kept[i - 1]) for i in range(2, RUN["steps"] + 1) if i != SPIKE)
    assert len([row for row in metrics.read(folder) if isinstance(row, StepRow)]) == RUN["steps"]


@pytest.mark.usefixtures("soon")
def test_without_a_spike_a_run_is_what_it_is_without_the_option(text_file, tmp_path, small):
    options = small | RUN | {"engine": "reference"}
    folders = [
        handgrad.train(
            text_file, out=tmp_path / str(skip), report=lambda event: None, skip_spikes=skip, **options
        )
        for skip in (None, 50)
    ]
    assert_same_weights(*folders)
    assert not any(isinstance(row, SkippedRow) for row in metrics.read(folders[1]))
    assert json.loads((folders[1] / CONFIG).read_text())["recipe"]["skip_spikes"] == 50.0


@pytest.mark.usefixtures("soon")
@pytest.mark.parametrize("ahead", [0, 1])
def test_a_stopped_run_goes_on_to_skip_the_same_steps(ahead, text_file, tmp_path, small, monkeypatch):
    """Whether its engine is asked for each loss at once, or one step later."""
    monkeypatch.setattr(reference.Training, "steps_ahead", ahead)
    options = small | RUN | {"engine": "reference", "skip_spikes": 0.5}  # skips many
    whole = handgrad.train(text_file, out=tmp_path / "whole", **options)

    def stop(event):
        if isinstance(event, StepDone) and event.step == 17:
            signal.raise_signal(signal.SIGINT)

    stopped = tmp_path / "stopped"
    with pytest.raises(KeyboardInterrupt):
        handgrad.train(text_file, out=stopped, report=stop, **options)
    assert handgrad.resume(stopped)
    assert_same_weights(whole, stopped)
    skipped = [
        [row.step for row in metrics.read(folder) if isinstance(row, SkippedRow)]
        for folder in (whole, stopped)
    ]
    assert skipped[0] == skipped[1]
    assert min(skipped[0]) < 17 < max(skipped[0])


def test_every_process_knows_the_rows_that_the_first_one_writes(tmp_path):
    rows = [*rows_of([3.0, 2.0]), SkippedRow(2, 1.5, 1.0, 2, 2.0)]
    with metrics.Writer(tmp_path, 0) as log:
        for row in rows:
            log.write(row)
        log.flush()
    with metrics.Nowhere(tmp_path, 2) as nowhere:
        assert nowhere.rows == rows
        nowhere.write(rows[0])
        nowhere.flush()
    assert metrics.read(tmp_path) == rows
    assert [row.step for row in metrics.Nowhere(tmp_path, 1).rows] == [1]


def test_a_skipped_step_is_an_event_of_the_json_output(capsys):
    training_display._print_json(Skipped(7, 9.0, 1.0, 3.0, 2.0))
    assert json.loads(capsys.readouterr().out) == {
        "event": "skipped", "step": 7, "loss": 9.0, "gradient_norm": 1.0, "largest_loss": 3.0,
        "largest_gradient_norm": 2.0,
    }  # fmt: skip


def test_only_what_stands_out_is_named():
    event = Skipped(1200, 2.0, 30.0, 3.0, 2.0)
    assert str(event) == "step 1,200  skipped: its gradient norm 30 is above 2; the weights stay as they were"
    assert "its loss 9 is above 3 and its gradient norm 30 is above 2;" in str(event._replace(loss=9.0))
