"""Runs are compared by what metrics.jsonl says."""

import json

import pytest

import handgrad
from handgrad.errors import UserError
from handgrad.plots import curves as pictures
from handgrad.training.metrics import METRICS, EvaluationRow, StepRow

ROWS = [
    EvaluationRow(0, 4.0, 6.0, None, 0, 0.5, ""),
    StepRow(1, 3.9, 0.1, 1.0, 100, 1.0),
    StepRow(2, 3.5, 0.1, 1.0, 200, 2.0),
    EvaluationRow(2, 3.0, 4.5, 3.7, 200, 2.5, ""),
]


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "run").mkdir()
    lines = [json.dumps(row._asdict()) + "\n" for row in ROWS]
    (tmp_path / "run" / METRICS).write_text("".join(lines))
    return tmp_path / "run"


@pytest.mark.parametrize(
    ("by", "training", "validation"),
    [("steps", [1, 2], [0, 2]), ("tokens", [100, 200], [0, 200]), ("seconds", [1.0, 2.0], [0.5, 2.5])],
)
def test_losses_are_drawn_against_what_is_asked(folder, tmp_path, monkeypatch, by, training, validation):
    drawn, draw = [], pictures.draw
    monkeypatch.setattr(
        pictures, "draw", lambda runs, along: drawn.append((runs, along)) or draw(runs, along)
    )
    out = handgrad.plot([folder, folder.parent / "run"], by=by, out=tmp_path / "a.svg")
    (((curve,), along),) = drawn  # a folder that is named twice is drawn once
    assert (along, curve.name, curve.bits_per_nat) == (by, str(folder), 1.5)
    assert curve.training == list(zip(training, [3.9, 3.5], strict=True))
    assert curve.validation == list(zip(validation, [4.0, 3.0], strict=True))
    assert out.read_text().startswith("<?xml")


def test_one_run_may_be_named_alone_and_a_name_ending_with_png_is_a_png(folder, tmp_path):
    assert handgrad.plot(folder, out=tmp_path / "a.PNG").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"runs": []}, "got none"),
        ({"runs": "nowhere"}, "no losses to draw in nowhere"),
        ({"by": "step"}, "Did you mean steps"),
        ({"out": "curves.jpg"}, r"ends with \.png or \.svg; got curves.jpg. Try curves.png"),
        ({"out": "curves"}, r"Try curves.png"),
    ],
)
def test_what_cannot_be_drawn_is_said_and_nothing_is_written(folder, tmp_path, monkeypatch, wrong, words):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=words):
        handgrad.plot(**({"runs": [folder]} | wrong))
    assert list(tmp_path.iterdir()) == [folder]
