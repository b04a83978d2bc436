"""A sweep tries what it was asked to, stops what is poor, keeps what came of it, and goes on after a stop."""

import csv
import json
import math
import signal
import statistics

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import handgrad
from handgrad.errors import UserError
from handgrad.formats import atomic
from handgrad.training import curves as drawing
from handgrad.training import dial, loop, metrics, run
from handgrad.training.events import Evaluated, StepDone
from handgrad.training.sweeps import over as values
from handgrad.training.sweeps import pictures, record, search
from handgrad.training.sweeps import sweep as sweeps
from handgrad.training.sweeps.events import TrialBegun, TrialDone
from handgrad.training.sweeps.over import Listed, Range
from handgrad.training.sweeps.record import Trial
from tests.training.conftest import TEXT

pytest.importorskip("optuna", reason="chooses what to try: install the extra [sweep]")

BRIEF = {
    "preset": "nano", "steps": 8, "batch_size": 2, "eval_batches": 1, "context_length": 8, "n_layers": 1,
    "n_heads": 2, "d_model": 8, "engine": "reference",
}  # fmt: skip
RATES = {"learning_rate": [1e-3, 1e-2, 1e-1]}
GOOD = [1e-2, 1.1e-2, 1.2e-2, 1.3e-2]
SEARCHED = {"learning_rate": "1e-3:1e-1:log", "d_model": [8, 12, 16]}


@pytest.fixture(autouse=True)
def undrawn(monkeypatch):
    """No picture: it takes longer than a trial."""
    monkeypatch.setattr(pictures, "draw", lambda *_: None)


@pytest.fixture
def sweep(text_file, tmp_path):
    def sweep(over, name="sweep", **options):
        return handgrad.sweep(text_file, over=over, out=tmp_path / name, **asked(over, **options))

    return sweep


def asked(over, **options):
    return {name: it for name, it in {**BRIEF, **options}.items() if name not in over and it is not None}


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    """Sweeps that were not disturbed, and what the first one reported: to look at, and to be copied."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "SAMPLE_TOKENS", 4)
        patch.setattr(atomic, "_flush", lambda path: None)
        patch.setattr(drawing, "draw_loss", lambda *_: None)
        patch.setattr(pictures, "draw", lambda *_: None)
        folder, events = tmp_path_factory.mktemp("swept"), []
        text = folder / "text.txt"
        text.write_text(TEXT, encoding="utf-8")
        listed = handgrad.sweep(text, over=RATES, out=folder / "a", report=events.append, **asked(RATES))
        searched = handgrad.sweep(text, over=SEARCHED, out=folder / "b", trials=3, **asked(SEARCHED))
    return listed, events, searched


def tried(found):
    return [trial.options for trial in found.record.trials]


def test_a_list_is_tried_value_by_value_and_each_trial_is_an_ordinary_run(swept):
    found, events, _ = swept
    assert tried(found) == [{"learning_rate": rate} for rate in RATES["learning_rate"]]
    for trial in found.trials:
        about = run.about(found.folder / trial.name)
        assert about.config.recipe.learning_rate == trial.options["learning_rate"]
        assert about.is_finished
        assert trial.loss == about.evaluations[-1].validation_loss
    assert [trial.loss for trial in found.trials] == sorted(trial.loss for trial in found.trials)
    assert found.best == found.folder / found.trials[0].name
    assert handgrad.load(found.best)
    lines = [str(event) for event in events if isinstance(event, TrialDone)]
    assert lines[0].startswith("trial 1 of 3  learning_rate 0.001  validation ")
    assert lines[0].endswith("best so far")
    assert sum(isinstance(event, TrialBegun) for event in events) == 3


def test_what_came_of_it_is_in_a_table(swept):
    found = swept[0]
    with (found.folder / record.TRIALS).open() as file:
        rows = list(csv.DictReader(file))
    assert [row["trial"] for row in rows] == [trial.name for trial in found.trials]
    assert [float(row["loss"]) for row in rows] == [trial.loss for trial in found.trials]
    assert rows[0].keys() == {
        "trial", "learning_rate", "loss", "bits_per_byte", "steps", "seconds", "state"
    }  # fmt: skip


def test_a_range_alone_is_laid_out_from_end_to_end(sweep):
    found = sweep({"learning_rate": "1e-3:1e-1:log"}, trials=3, steps=1)
    assert tried(found) == [{"learning_rate": rate} for rate in (1e-3, 1e-2, 1e-1)]


def test_lists_are_combined_where_there_are_trials_enough(sweep):
    found = sweep({"learning_rate": [1e-3, 1e-2], "dropout": [0.0, 0.1]}, steps=1)
    assert tried(found) == [
        {"learning_rate": rate, "dropout": share} for rate in (1e-3, 1e-2) for share in (0.0, 0.1)
    ]


def test_several_options_are_searched_within_their_bounds(sweep):
    found = sweep(SEARCHED, trials=5, steps=1)
    assert len(found.trials) == 5
    assert all(1e-3 <= it["learning_rate"] <= 1e-1 and it["d_model"] in (8, 12, 16) for it in tried(found))


def test_the_search_goes_where_losses_are_low():
    over = values.parse({"learning_rate": "1e-4:1:log", "dropout": "0:0.5"})
    done = []
    for number in range(1, 31):
        options = search.propose(over, done, 30, seed=1)
        loss = abs(math.log10(options["learning_rate"] / 1e-2)) + options["dropout"]
        done.append(Trial(number, options, "finished", (loss,)))
    drawn, estimated = (statistics.median(it.loss for it in part) for part in (done[:10], done[20:]))
    assert estimated < drawn / 2


def test_a_poor_trial_is_stopped_early_and_a_good_one_is_not(sweep):
    found = sweep({"learning_rate": [*GOOD, 1e-9]}, eval_every=2)
    states = {trial.options["learning_rate"]: trial.state for trial in found.trials}
    assert states.pop(1e-9) == "stopped early"
    assert set(states.values()) == {"finished"}
    stopped = found.trials[-1]
    assert 0 < stopped.steps < 8
    assert not run.about(found.folder / stopped.name).is_finished
    assert handgrad.load(found.folder / stopped.name)


def test_a_trial_that_was_poor_when_it_was_killed_is_stopped_all_the_same(sweep, tmp_path, monkeypatch):
    write = record.write

    def killed(folder, there):
        if any(trial.state == "stopped early" for trial in there.trials):
            raise RuntimeError("power cut")
        write(folder, there)

    with monkeypatch.context() as patch:
        patch.setattr(record, "write", killed)
        with pytest.raises(RuntimeError):
            sweep({"learning_rate": [*GOOD, 1e-9]}, eval_every=2)
    steps = run.about(tmp_path / "sweep" / "trial-5").steps_done
    stopped = handgrad.resume_sweep(tmp_path / "sweep").trials[-1]
    assert (stopped.state, stopped.steps) == ("stopped early", steps)


def test_numbers_of_numpy_are_kept_as_what_they_are(sweep):
    found = sweep({"learning_rate": np.array([1e-3, 1e-2])}, steps=1, batch_size=np.int64(3))
    assert tried(found) == [{"learning_rate": 1e-3}, {"learning_rate": 1e-2}]
    assert record.read(found.folder) == found.record


def test_without_early_stopping_all_trials_go_to_their_end(sweep, monkeypatch):
    monkeypatch.setattr(search, "is_poor", pytest.fail)
    found = sweep({"learning_rate": [1e-2, 1e-9]}, steps=4, early_stopping=False)
    assert {trial.state for trial in found.trials} == {"finished"}


def untimed(found):
    return [trial.__dict__ | {"seconds": 0.0} for trial in found.trials]


@pytest.mark.parametrize("where", ["between trials", "in a trial", "killed in a trial"])
def test_a_sweep_that_was_stopped_goes_on_as_if_it_had_not(swept, sweep, tmp_path, where):
    whole = swept[2]
    seen = []

    def stop(event):
        if isinstance(event, TrialBegun):
            seen.append(event)
        if len(seen) < 2:
            return
        if where == "between trials":
            raise KeyboardInterrupt
        if isinstance(event, StepDone) and event.step == 5:
            if where == "in a trial":
                signal.raise_signal(signal.SIGINT)
            else:
                raise RuntimeError("power cut")

    with pytest.raises((KeyboardInterrupt, RuntimeError)):
        sweep(SEARCHED, trials=3, report=stop)
    folder = tmp_path / "sweep"
    assert [trial.state for trial in record.read(folder).trials] == ["finished", "running"]
    events = []
    found = handgrad.resume_sweep(folder, report=events.append)
    assert [event.trial.number for event in events if isinstance(event, TrialBegun)] == [2, 3]
    assert untimed(found) == untimed(whole)
    assert record.read(folder) == found.record
    assert handgrad.resume_sweep(folder, report=pytest.fail).record == found.record


def test_a_trial_that_fails_says_why_and_the_others_go_on(sweep):
    found = sweep({"learning_rate": [1e-2, 1e30, 2e-2]})
    failed = found.trials[-1]
    assert (failed.state, failed.number, failed.loss) == ("failed", 2, None)
    assert "Start again with a lower learning rate than 1e+30" in failed.why
    assert [trial.state for trial in found.trials[:2]] == ["finished", "finished"]


def test_a_disk_that_fills_up_ends_the_sweep_which_goes_on_later(sweep, tmp_path, monkeypatch):
    def full(path):
        if "trial-2" in str(path):
            raise OSError(28, "No space left on device")

    with monkeypatch.context() as disk:
        disk.setattr(atomic, "_flush", full)
        with pytest.raises(UserError, match="The disk is full"):
            sweep(RATES)
    found = handgrad.resume_sweep(tmp_path / "sweep")
    assert [trial.state for trial in found.trials] == ["finished"] * 3


def test_quick_has_heads_for_every_width_that_is_tried(sweep):
    assert [sweeps.heads(width) for width in (8, 32, 64, 96, 100, 192, 200)] == [1, 1, 2, 3, 2, 6, 5]
    found = sweep({"d_model": "8:72:32"}, preset=None, n_heads=None, steps=1)
    heads = [run.about(found.folder / it.name).config.model.n_heads for it in found.record.trials]
    assert heads == [1, 1, 2]


def test_minutes_choose_the_sizes_once_for_all_trials(sweep, monkeypatch):
    monkeypatch.setattr(dial, "step_seconds", lambda *_: 0.02)
    found = sweep(
        {"learning_rate": [1e-3, 1e-2]}, preset=None, steps=None, minutes=0.002, n_layers=None,
        d_model=None, n_heads=None, context_length=None,
    )  # fmt: skip
    models = {run.about(found.folder / it.name).config.model for it in found.trials}
    assert len(models) == 1


def test_seeds_can_be_swept_and_trials_are_comparable_where_steps_are_few(sweep):
    found = sweep({"seed": [1, 2]}, steps=24)
    configs = [run.about(found.folder / it.name).config for it in found.record.trials]
    assert [config.seed for config in configs] == [1, 2]
    assert {config.recipe.eval_every for config in configs} == {3}


@pytest.mark.parametrize(
    ("over", "options", "words"),
    [
        ({}, {}, "got none. Name one"),
        ({"learning_rat": "1:2"}, {}, "Did you mean learning_rate"),
        ({"learning_rate": "1e-3"}, {}, "two different values at least"),
        ({"learning_rate": [1e-3, 1e-3]}, {}, "two different values at least"),
        ({"learning_rate": "3:1"}, {}, r"a lower end and a higher one, as in 1e-3:3e-2"),
        ({"learning_rate": "0:1:log"}, {}, r"a lower end and a higher one"),
        ({"learning_rate": "1:2:linear"}, {}, r"a lower end and a higher one"),
        ({"learning_rate": "1:2:3:4"}, {}, r"a lower end and a higher one"),
        ({"learning_rate": "1:inf"}, {}, r"a lower end and a higher one"),
        ({"d_model": "8.5:16"}, {}, r"as in 64:256:32"),
        ({"d_model": "8:16:0"}, {}, r"as in 64:256:32"),
        ({"activation": "1:2"}, {}, r"is no number, so it has no range\. List its values"),
        ({"activation": [["gelu"], ["silu"]]}, {}, r"with numbers, words, true and false"),
        ({"d_model": [8, 9]}, {}, r"A trial with d_model=9 cannot be: d_model must be a multiple of n_heads"),
        ({"d_model": "8:12"}, {}, r"A trial with d_model=9 cannot be"),
        ({"d_model": [8, 12], "n_heads": [2, 3]}, {}, r"A trial with d_model=8, n_heads=3 cannot be"),
        (
            {"learning_rate": [-1.0, 1.0]},
            {},
            r"learning_rate=-1.0 cannot be: learning_rate must be above zero",
        ),
        (RATES, {"trials": 2}, "has 3 values, each of them a trial; got trials=2"),
        (RATES, {"trials": 0}, "trials must be a whole number from 1"),
        (RATES, {"preset": "nanoo"}, "Did you mean nano"),
        (RATES, {"seed": -1}, "seed must be a whole number"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_written(sweep, tmp_path, over, options, words):
    with pytest.raises(UserError, match=words):
        sweep(over, **options)
    assert [path.name for path in tmp_path.iterdir()] == ["text.txt"]


def test_without_optuna_one_sentence_says_what_to_install(sweep, tmp_path, monkeypatch):
    monkeypatch.setattr(search.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"Install it: pip install 'handgrad\[sweep\]'"):
        sweep(RATES)
    assert [path.name for path in tmp_path.iterdir()] == ["text.txt"]


def test_what_is_swept_is_not_given_as_well_and_a_pipe_is_no_text(text_file, tmp_path):
    with pytest.raises(UserError, match="learning_rate is swept, and given as well"):
        handgrad.sweep(text_file, over=RATES, learning_rate=1.0, out=tmp_path / "sweep")
    with pytest.raises(UserError, match="takes none from a pipe"):
        handgrad.sweep("-", over=RATES, out=tmp_path / "sweep")


def test_a_folder_with_a_sweep_is_left_alone_and_one_without_is_none(swept, text_file, tmp_path):
    with pytest.raises(UserError, match=r"already holds a sweep\. Go on with it: handgrad sweep --resume"):
        handgrad.sweep(text_file, over=RATES, out=swept[0].folder, **asked(RATES))
    with pytest.raises(UserError, match=r"no sweep in .*: it has no sweep\.json"):
        handgrad.resume_sweep(tmp_path)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"trials": {}}, "trials must be a list"),
        ({"n_trials": 0}, "n_trials must be"),
        ({"early_stopping": 1}, "early_stopping must be"),
        ({"over": {}}, "got none"),
        ({"texts": [1]}, "texts must be a list"),
        ({"trials": [{"number": 2}]}, "number must be 1"),
    ],
)
def test_a_damaged_record_is_refused_in_a_sentence(swept, tmp_path, changes, words):
    there = json.loads((swept[0].folder / record.SWEEP).read_text())
    (tmp_path / record.SWEEP).write_text(json.dumps(there | changes))
    with pytest.raises(UserError, match=words):
        handgrad.resume_sweep(tmp_path)


@given(
    low=st.integers(1, 200), span=st.integers(1, 400), step=st.integers(1, 50), n=st.integers(1, 12),
    is_log=st.booleans(),
)  # fmt: skip
def test_the_points_of_a_range_are_in_it_and_on_its_steps(low, span, step, n, is_log):
    text = f"{low}:{low + span}:" + ("log" if is_log else str(min(step, span)))
    over = values.parse({"d_model": text})["d_model"]
    points = over.points(n)
    assert points == sorted(set(points))
    assert 1 <= len(points) <= n
    assert all(low <= it <= low + span and (it - low) % over.step == 0 for it in points)
    assert over.middle in range(low, low + span + 1, over.step)
    rates = values.parse({"learning_rate": f"{low}e-4:{low + span}e-4" + (":log" if is_log else "")})
    assert all(
        float(f"{low}e-4") <= it <= float(f"{low + span}e-4") for it in rates["learning_rate"].points(n)
    )


def test_values_of_the_command_line_are_those_of_python():
    assert values.split(["d-model=64,128", "activation=gelu,silu"]) == {
        "d_model": "64,128", "activation": "gelu,silu"
    }  # fmt: skip
    assert values.parse({"d_model": "64,128", "tied": "true,false", "activation": "gelu, silu"}) == {
        "d_model": Listed((64, 128)), "tied": Listed((True, False)), "activation": Listed(("gelu", "silu"))
    }  # fmt: skip
    assert values.parse({"d_model": "64:250:32"}) == {"d_model": Range(64.0, 224.0, False, 32)}
    for pairs in (["d_model"], ["d_model=1,2", "d_model=3,4"]):
        with pytest.raises(UserError, match="takes an option once"):
            values.split(pairs)


def test_a_best_trial_at_an_end_asks_for_more_beyond():
    assert values.end(Range(1e-3, 1e-1, True), 0.09) == "largest"
    assert values.end(Range(1e-3, 1e-1, True), 1e-2) == ""
    assert values.end(Listed((64, 128, 192)), 64) == "smallest"
    assert values.end(Listed(("gelu", "silu")), "silu") == ""
    assert values.end(Listed((True, False)), True) == ""


def test_losses_before_the_last_checkpoint_count_once_when_a_trial_goes_on(sweep, tmp_path):
    def stop(event):
        if isinstance(event, Evaluated) and event.step == 4:
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        sweep(RATES, report=stop)
    found = handgrad.resume_sweep(tmp_path / "sweep")
    for trial in found.trials:
        rows = metrics.read(found.folder / trial.name)
        assert list(trial.losses) == [loss for _, loss in metrics.losses(rows)[1]]
