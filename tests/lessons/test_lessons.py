"""Every lesson runs, its exercises accept our solutions, and reject what is missing or wrong.

`make docs` finds the same out. What its pages show already, of the same sources, is not run again.
"""

import fcntl
import os
import re
import subprocess
import sys
from pathlib import Path

import _generate.lessons
import pytest
from _generate import trials

from handgrad.lessons import catalog, practice

jupytext = pytest.importorskip("jupytext", reason="lessons want the extra [lessons]")
pytest.importorskip("ipywidgets", reason="lessons want the extra [lessons]")

TRAIN = """
import handgrad
from handgrad.lessons import practice
handgrad.train(preset="nano", steps=practice.STEPS // 4, eval_every=practice.STEPS // 4, out=practice.FOLDER)
"""
PAGES = Path(_generate.lessons.__file__).parents[1] / "generated" / "lessons"
LESSONS = catalog.lessons()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The working folder of all lessons, shared by all processes of a test run."""
    own = tmp_path_factory.getbasetemp()
    shared = (own.parent if "PYTEST_XDIST_WORKER" in os.environ else own) / "lessons"
    shared.mkdir(exist_ok=True)
    return shared


def train_once(folder):
    """The model that several lessons look into is trained by the first process that needs it; others wait.

    A quarter of its steps will do: what exercises ask holds by then, and `make docs` runs the lessons on all.
    """
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / practice.FOLDER).exists():
            subprocess.run(
                [sys.executable, "-c", TRAIN],
                cwd=folder, env={**os.environ, **catalog.ENVIRONMENT}, check=True, capture_output=True,
            )  # fmt: skip


@pytest.mark.parametrize("lesson", LESSONS, ids=lambda lesson: lesson.name)
def test_a_lesson_runs_and_its_exercises_tell_right_from_wrong(lesson, folder):
    if _generate.lessons.is_executed(lesson, PAGES):
        return  # by `make docs`, which would have failed
    if "practice.model(" in lesson.path.read_text(encoding="utf-8"):
        train_once(folder)
    _, faults = trials.run(lesson, folder)
    assert faults == []


def test_a_slip_that_is_accepted_is_found(tmp_path):
    """The trial itself: with the solution among the wrong answers it has something to say."""
    lesson = catalog.find(2)  # a short one
    cells = catalog.as_notebook(lesson).cells
    solutions = [cell.source for cell in cells if "solution" in cell.metadata.get("tags", [])]
    (tmp_path / f"{lesson.name}.py").write_text(f"# %% exercise 1: no slip\n{solutions[0]}\n")
    notebook, faults = trials.run(lesson, tmp_path, wrong=tmp_path)
    assert "exercise 1, no slip, is not wrong: ✓" in faults[0]
    assert "exercise 2 and the wrong answers: one is there without the other" in faults
    assert [cell.source for cell in notebook.cells] == [cell.source for cell in cells]


def test_of_ten_wrong_gradients_nine_are_told_what_is_wrong_with_them():
    """Each trial sees that its own is; here they are counted."""
    judged, unnamed = 0, 0
    for lesson in LESSONS:
        cells = catalog.as_notebook(lesson).cells
        checks = [cell.source for cell in cells if "check" in cell.metadata.get("tags", [])]
        for slip in trials.slips(lesson):
            judges = ("exercise.gradient(", "exercise.backward(", "mine.keep(")
            judged += any(judge in checks[slip.exercise - 1] for judge in judges)
            unnamed += slip.name.endswith(trials.UNNAMED)
    assert judged > 30
    assert unnamed <= judged / 10


@pytest.mark.parametrize("lesson", LESSONS, ids=lambda lesson: lesson.name)
def test_every_exercise_has_three_hints_before_its_answer(lesson):
    answers = [
        cell.source
        for cell in catalog.as_notebook(lesson).cells
        if cell.cell_type == "markdown" and "<summary>Our answer" in cell.source
    ]
    wanted = ["Hint 1", "Hint 2", "Hint 3", "Our answer"]
    for answer in answers:
        assert re.findall(r"<summary>(Hint \d|Our answer)", answer) == wanted, answer


@pytest.mark.parametrize("lesson", LESSONS, ids=lambda lesson: lesson.name)
def test_every_exercise_has_a_check_and_a_folded_solution(lesson):
    tags = [
        tag
        for cell in catalog.as_notebook(lesson).cells
        for tag in cell.metadata.get("tags", [])
        if tag in ("exercise", "check", "solution")
    ]
    assert tags == ["exercise", "check", "solution"] * (len(tags) // 3)
    for cell in catalog.as_notebook(lesson).cells:
        if "solution" in cell.metadata.get("tags", []):
            assert cell.metadata["jupyter"]["source_hidden"]
            assert "hide-input" in cell.metadata.tags


def test_lessons_are_numbered_without_gaps():
    assert [lesson.number for lesson in LESSONS] == list(range(len(LESSONS)))
    assert all(int(lesson.name[:2]) == lesson.number for lesson in LESSONS)
