"""Runs are compared by what metrics.jsonl says."""

import json

import pytest

import handgrad
from handgrad.errors import UserError
from handgrad.plots import curves as pictures
from handgrad.plots import layers
from handgrad.training.metrics import METRICS, DiagnosisRow, EvaluationRow, StepRow

ROWS = [
    EvaluationRow(0, 4.0, 6.0, None, 0, 0.5, ""),
    StepRow(1, 3.9, 0.1, 1.0, 100, 1.0),
    StepRow(2, 3.5, 0.1, 1.0, 200, 2.0),
    EvaluationRow(2, 3.0, 4.5, 3.7, 200, 2.5, ""),
]

PARTS = {"embedding": 1.0, "blocks.0.attention": 0.5, "blocks.0.feed_forward": 0.25}
DIAGNOSES = [
    DiagnosisRow(step, PARTS, PARTS, [[0.5, 0.75]], [0.0], [1.0], 100 * step, step + 0.5) for step in (2, 4)
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
        ({"show": "layer"}, "Did you mean layers"),
        (
            {"show": "layers"},
            r"no diagnoses to draw in .*: a run writes the first one at its first evaluation",
        ),
        ({"show": "layers", "runs": ["a", "b"]}, "one run at a time; got 2"),
        ({"out": "curves.jpg"}, r"ends with \.png or \.svg; got curves.jpg. Try curves.png"),
        ({"out": "curves"}, r"Try curves.png"),
    ],
)
def test_what_cannot_be_drawn_is_said_and_nothing_is_written(folder, tmp_path, monkeypatch, wrong, words):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=words):
        handgrad.plot(**({"runs": [folder]} | wrong))
    assert list(tmp_path.iterdir()) == [folder]


def write(folder, rows):
    (folder / METRICS).write_text("".join(json.dumps(row._asdict()) + "\n" for row in rows))


@pytest.mark.parametrize(
    ("by", "along"), [("steps", [2, 4]), ("tokens", [200, 400]), ("seconds", [2.5, 4.5])]
)
def test_layers_are_drawn_of_a_runs_diagnoses(folder, tmp_path, monkeypatch, by, along):
    write(folder, [*ROWS, *DIAGNOSES])
    drawn, draw = [], layers.draw
    monkeypatch.setattr(layers, "draw", lambda *found: drawn.append(found) or draw(*found))
    monkeypatch.chdir(tmp_path)
    out = handgrad.plot(folder, show="layers", by=by)
    assert (tmp_path / out).read_bytes().startswith(b"\x89PNG")
    assert str(out) == "layers.png"
    ((found, name),) = drawn
    assert (name, found.along.tolist()) == (by, along)
    assert {part: norms.tolist() for part, norms in found.gradient_norms.items()} == {
        part: [norm, norm] for part, norm in PARTS.items()
    }
    assert found.entropies.tolist() == [[[0.5, 0.75]]] * 2
    assert (found.dead_units.tolist(), found.residual_rms.tolist()) == ([[0.0]] * 2, [[1.0]] * 2)


def test_diagnoses_of_different_models_are_said(folder):
    write(folder, [DIAGNOSES[0], DIAGNOSES[1]._replace(dead_units=[0.0, 0.0])])
    with pytest.raises(UserError, match="are of different models"):
        handgrad.plot(folder, show="layers")


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        ({"gradient_norms": []}, "gradient_norms must be a JSON object"),
        ({"update_ratios": {"head": -1.0}}, "head must be a number from 0"),
        ({"entropies": [0.5]}, "entropies must be a list; got 0.5"),
        ({"entropies": [[2.0]]}, "entropies must be a number from 0 to 1.001"),
        ({"dead_units": None}, "dead_units must be a list; got None"),
        ({"residual_rms": ["a"]}, "residual_rms must be a number"),
    ],
)
def test_a_damaged_diagnosis_is_refused_in_a_sentence(folder, damage, words):
    (folder / METRICS).write_text(json.dumps(DIAGNOSES[0]._asdict() | damage) + "\n")
    with pytest.raises(UserError, match=words):
        handgrad.plot(folder, show="layers")
