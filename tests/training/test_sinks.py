"""Losses go where they are wanted besides the run's folder: each step once, and no failure stops training.

TensorBoard's own reader reads what was written for it. The client of Weights & Biases is 60 MB, and a stub of
what is called of it stands for it here.
"""

import json
import signal
import sys
from types import SimpleNamespace

import pytest

import handgrad
from handgrad.errors import UserError
from handgrad.training import metrics, run, sinks
from handgrad.training.events import Advised, StepDone
from handgrad.training.metrics import DiagnosisRow, EvaluationRow, StepRow
from handgrad.training.sinks import scalars

pytest.importorskip("tensorboardX", reason="writes for TensorBoard: install the extra [tensorboard]")

BRIEF = {"n_layers": 1, "engine": "reference"}


@pytest.fixture
def train(text_file, tmp_path, small):
    def train(name="run", **options):
        return handgrad.train(text_file, out=tmp_path / name, **{**small, **BRIEF, **options})

    return train


def crash(event):
    if isinstance(event, StepDone) and event.step == 7:
        raise RuntimeError("power cut")


def stop(event):
    if isinstance(event, StepDone) and event.step == 6:
        signal.raise_signal(signal.SIGINT)


@pytest.fixture
def read():
    """What TensorBoard reads in a run's folder."""
    reader = pytest.importorskip("tensorboard.backend.event_processing.plugin_event_accumulator")

    def read(folder):
        return reader.EventAccumulator(str(folder / "tensorboard")).Reload()

    return read


def assert_all_is_there(events, folder):
    rows = metrics.read(folder)
    expected = {
        "loss/training": [(row.step, row.loss) for row in rows if isinstance(row, StepRow)],
        "learning_rate": [(row.step, row.learning_rate) for row in rows if isinstance(row, StepRow)],
        "gradient_norm": [(row.step, row.gradient_norm) for row in rows if isinstance(row, StepRow)],
        "loss/validation": [(r.step, r.validation_loss) for r in rows if isinstance(r, EvaluationRow)],
        "bits_per_byte": [(r.step, r.bits_per_byte) for r in rows if isinstance(r, EvaluationRow)],
        "loss/training_mean": [
            (r.step, r.train_loss) for r in rows if isinstance(r, EvaluationRow) and r.step
        ],
    }
    of_layers = [row for row in rows if isinstance(row, DiagnosisRow)]
    parts = ("embedding", "blocks.0.attention", "blocks.0.feed_forward")
    for part in parts:
        expected[f"gradient_norm/{part}"] = [(row.step, row.gradient_norms[part]) for row in of_layers]
        expected[f"update_ratio/{part}"] = [(row.step, row.update_ratios[part]) for row in of_layers]
    for head in (0, 1):
        expected[f"attention_entropy/blocks.0.{head}"] = [
            (row.step, row.entropies[0][head]) for row in of_layers
        ]
    expected["dead_units/blocks.0"] = [(row.step, row.dead_units[0]) for row in of_layers]
    expected["residual_rms/blocks.0"] = [(row.step, row.residual_rms[0]) for row in of_layers]
    told = {tag for tag in events.Tags()["tensors"] if not tag.startswith(("_hparams_", "sample"))}
    assert told == expected.keys()
    for tag, points in expected.items():
        found = [(event.step, event.tensor_proto.float_val[0]) for event in events.Tensors(tag)]
        assert found == [(step, pytest.approx(value, rel=1e-6)) for step, value in points], tag
    samples = [event.tensor_proto.string_val[0].decode() for event in events.Tensors("sample/text_summary")]
    assert [text.replace("\n    ", "\n")[4:] for text in samples] == [
        "\n".join(row.sample.splitlines()) for row in rows if isinstance(row, EvaluationRow)
    ]


def test_tensorboard_reads_losses_rates_norms_and_samples(train, read):
    folder = train(log="tensorboard")
    events = read(folder)
    assert_all_is_there(events, folder)
    seconds = [row.seconds for row in metrics.read(folder) if isinstance(row, StepRow)]
    times = [event.wall_time for event in events.Tensors("loss/training")]
    assert times[-1] - times[0] == pytest.approx(seconds[-1] - seconds[0], abs=1e-3)


def test_tensorboard_knows_what_the_run_is(train, read):
    plugins = read(train(log=["tensorboard"], learning_rate=0.125)).summary_metadata
    told = plugins["_hparams_/session_start_info"].plugin_data.content
    assert b"recipe.learning_rate" in told
    assert b"model.d_model" in told


@pytest.mark.parametrize("end", [crash, stop])
def test_no_step_is_there_twice_when_a_run_goes_on(train, read, tmp_path, end):
    with pytest.raises((RuntimeError, KeyboardInterrupt)):
        train(log="tensorboard", report=end)
    folder = tmp_path / "run"
    open_meanwhile = read(folder)
    assert handgrad.resume(folder)
    assert_all_is_there(read(folder), folder)
    assert_all_is_there(open_meanwhile.Reload(), folder)
    assert handgrad.resume(folder)
    assert_all_is_there(read(folder), folder)
    assert_all_is_there(open_meanwhile.Reload(), folder)
    assert len(list((folder / "tensorboard").iterdir())) == 2


def test_a_run_that_is_over_can_be_shown_afterwards(train, read):
    folder = train()
    assert handgrad.resume(folder, log="tensorboard")
    assert_all_is_there(read(folder), folder)


@pytest.fixture
def wandb(monkeypatch):
    """Keeps what it is told by run id, and refuses steps that it has, as wandb does."""
    there = SimpleNamespace(mode="online", is_logged_in=True, runs={}, opened=[])

    def init(*, id, resume, config, **options):
        there.opened.append({"id": id, "config": config, **options})
        rows = there.runs.setdefault(id, {})

        def log(values, step):
            assert step >= opened.step
            there.latest = values
            rows.setdefault(step, {}).update(values)

        opened = SimpleNamespace(step=max(rows) + 1 if rows else 0, log=log, finish=lambda: None)
        return opened

    module = SimpleNamespace(
        Settings=lambda **settings: settings,
        setup=lambda settings: SimpleNamespace(settings=SimpleNamespace(mode=there.mode)),
        login=lambda prompt: there.is_logged_in,
        init=init,
    )
    monkeypatch.setitem(sys.modules, "wandb", module)
    monkeypatch.setattr(sinks, "_missing", lambda module: False)
    return there


def test_weights_and_biases_is_told_each_step_once_under_one_id(train, wandb, tmp_path):
    with pytest.raises(RuntimeError):
        train(log=["wandb"], report=crash)
    folder = tmp_path / "run"
    assert handgrad.resume(folder)
    first, second = wandb.opened
    assert first["id"] == second["id"]
    assert first["name"] == "run"
    assert first["config"]["model.d_model"] == 16
    (told,) = wandb.runs.values()
    for row in metrics.read(folder):
        sample = {"sample": row.sample} if isinstance(row, EvaluationRow) else {}
        values = {**scalars.of(row), "tokens": row.tokens, **sample}
        assert values.items() <= told[row.step].items()
    assert sorted(told) == list(range(13))


def test_a_sink_that_fails_is_given_up_with_a_sentence_and_training_goes_on(train, wandb, read):
    wandb.is_logged_in = False
    events = []
    folder = train(log=["wandb", "tensorboard"], report=events.append)
    (advice,) = (event for event in events if isinstance(event, Advised))
    assert advice.sentence == (
        "wandb is told no more of this run: nobody is logged in. Call wandb login, or set "
        "WANDB_MODE=offline. metrics.jsonl has all of it."
    )
    assert_all_is_there(read(folder), folder)


def test_a_sink_that_breaks_in_the_middle_is_not_called_again(train, wandb, monkeypatch):
    def fail(sink, row):
        calls.append(row)
        raise ConnectionError("the network\nis gone")

    calls, events = [], []
    from handgrad.training.sinks import weights_and_biases

    monkeypatch.setattr(weights_and_biases.Sink, "write", fail)
    folder = train(log=["wandb"], report=events.append)
    assert run.about(folder).is_finished
    assert len(calls) == 1
    (advice,) = (event for event in events if isinstance(event, Advised))
    assert "the network is gone. metrics.jsonl" in advice.sentence


def test_what_is_not_known_or_not_installed_is_refused_before_anything_is_written(
    train, tmp_path, monkeypatch
):
    with pytest.raises(UserError, match=r"There is no log 'tensorbord'.*Did you mean tensorboard"):
        train(log="tensorbord")
    monkeypatch.setattr(sinks, "_missing", lambda module: True)
    with pytest.raises(
        UserError, match=r"needs tensorboardX\. Install it: pip install 'handgrad\[tensorboard\]'"
    ):
        train(log="tensorboard")
    assert not (tmp_path / "run").exists()


def test_a_run_goes_on_where_the_library_is_not_installed(train, tmp_path, monkeypatch):
    with pytest.raises(KeyboardInterrupt):
        train(log="tensorboard", report=stop)
    monkeypatch.setattr(sinks, "_missing", lambda module: True)
    events = []
    assert handgrad.resume(tmp_path / "run", report=events.append)
    assert any("needs tensorboardX" in event.sentence for event in events if isinstance(event, Advised))


def test_a_list_of_logs_that_is_none_is_refused(train):
    path = train() / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"log": "tensorboard"}))
    with pytest.raises(UserError, match=r"log must list names; got 'tensorboard'"):
        run.about(path.parent)
