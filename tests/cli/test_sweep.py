"""handgrad sweep as a user meets it: a line a trial, a table at the end, and how to go on."""

import json
import signal

import pytest

from handgrad.training.events import StepDone
from handgrad.training.sweeps import pictures
from handgrad.training.sweeps import sweep as sweeps
from tests.cli.test_cli import handgrad_ as handgrad_
from tests.cli.test_cli import text_file as text_file

pytest.importorskip("optuna", reason="chooses what to try: install the extra [sweep]")

BRIEF = [
    "--preset", "nano", "--steps", "4", "--engine", "reference", "--set", "batch_size=2", "--set",
    "eval_batches=1", "--set", "context_length=8", "--set", "n_layers=1", "--set", "n_heads=2", "--set",
    "d_model=8",
]  # fmt: skip
OVER = ["--over", "learning-rate=1e-3,1e-2"]


def test_a_line_a_trial_then_a_table_with_the_best_first(handgrad_, text_file, tmp_path):
    code, out, err = handgrad_("sweep", text_file, *BRIEF, *OVER, "--out", tmp_path / "sweep")
    assert (code, err) == (0, "")
    first, second, _, head, best, worse, *_ = out.splitlines()
    assert first.startswith("trial 1 of 2  learning_rate 0.001  validation ")
    assert second.startswith("trial 2 of 2  learning_rate 0.01  validation ")
    assert head.split() == ["trial", "learning_rate", "loss", "bits", "a", "byte", "steps", "seconds"]
    assert best.split()[:2] == ["2", "0.01"]
    assert best.split()[-1] == "best"
    assert worse.split()[:2] == ["1", "0.001"]
    assert "The best learning_rate, 0.01, is the largest that was tried, or near it: try larger ones." in out
    assert f'handgrad generate {tmp_path / "sweep" / "trial-2"} "The "' in out
    for name in ("sweep.png", "trials.csv", "sweep.json"):
        assert (tmp_path / "sweep" / name).exists()


def test_ctrl_c_says_how_to_go_on_and_resume_does(handgrad_, text_file, tmp_path, monkeypatch):
    def stop(event):
        if isinstance(event, StepDone) and event.step == 2:
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(pictures, "draw", lambda *_: None)
    folder = tmp_path / "sweep"
    with monkeypatch.context() as patch:
        patch.setattr(sweeps, "print_trials", stop)
        code, _, err = handgrad_("sweep", text_file, *BRIEF, *OVER, "--out", folder)
    assert (code, err) == (130, f"Stopped and saved. Go on with: handgrad sweep --resume --out {folder}\n")
    code, out, _ = handgrad_("sweep", "--resume", "--out", folder, "--json")
    assert code == 0
    rows = [json.loads(line) for line in out.splitlines()]
    assert [row["trial"] for row in rows if row["event"] == "trial"] == [1, 2]
    assert rows[-1] == {"event": "end", "folder": str(folder), "best": str(folder / "trial-2")}


@pytest.mark.parametrize(
    ("args", "sentence"),
    [
        ([], "handgrad: A sweep tries values of an option; got none."),
        (["--over", "d_model"], "handgrad: --over takes an option once"),
        (["--resume"], "handgrad: --resume goes on with a sweep, so it needs its folder"),
        (["--resume", "--out", "x", "--steps", "3"], "handgrad: --resume goes on exactly as the sweep began"),
        (["--resume", "--out", "x"], "handgrad: There is no sweep in x"),
    ],
)
def test_what_cannot_be_is_one_sentence(handgrad_, args, sentence):
    code, _, err = handgrad_("sweep", *args)
    assert code == 2
    assert err.startswith(sentence)
    assert err.count("\n") == 1
