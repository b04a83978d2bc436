"""Every lesson runs, its exercises accept our solutions, and reject what is missing or wrong.

Wrong answers are in `wrong_answers/NN_topic.py`: a cell each, with the number of its exercise, and the slip.
"""

import ast
import re
from pathlib import Path

import pytest

from handgrad.lessons import catalog
from handgrad.lessons.exercise import Verdict

jupytext = pytest.importorskip("jupytext", reason="lessons want the extra [lessons]")
pytest.importorskip("ipywidgets", reason="lessons want the extra [lessons]")

WRONG = Path(__file__).parent / "wrong_answers"
LESSONS = catalog.lessons()


def run_cell(code, namespace, name):
    """What a notebook does: run the cell, and show the value of its last expression."""
    tree = ast.parse(code, filename=name)
    last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
    exec(compile(tree, name, "exec"), namespace)
    if last is None:
        return None
    value = eval(compile(ast.Expression(last.value), name, "eval"), namespace)
    for show in ("_repr_png_", "_repr_html_", "_repr_markdown_"):
        if hasattr(value, show):
            getattr(value, show)()
    return value


def wrong_answers(lesson):
    """(number of the exercise, the slip, code) of every wrong answer."""
    text = (WRONG / f"{lesson.name}.py").read_text(encoding="utf-8")
    parts = re.split(r"^# %% exercise (\d+): (.+)$", text, flags=re.MULTILINE)
    return [(int(n), slip, code) for n, slip, code in zip(parts[1::3], parts[2::3], parts[3::3], strict=True)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """One for all lessons: those that look into a trained model train it once."""
    return tmp_path_factory.mktemp("lessons")


@pytest.mark.filterwarnings("default")  # a notebook shows warnings; it does not stop for them
@pytest.mark.parametrize("lesson", LESSONS, ids=lambda lesson: lesson.name)
def test_a_lesson_runs_and_its_exercises_tell_right_from_wrong(lesson, folder, monkeypatch):
    monkeypatch.chdir(folder)
    monkeypatch.setenv("HANDGRAD_LESSONS_ON_A_PAGE", "1")  # every setting of every knob is drawn
    slips = wrong_answers(lesson)
    namespace = {"__name__": "__main__"}
    n_exercises = 0
    for number, cell in enumerate(catalog.as_notebook(lesson).cells):
        if cell.cell_type != "code":
            continue
        name, tags = f"{lesson.name}, cell {number}", cell.metadata.get("tags", [])
        verdict = run_cell(cell.source, namespace, name)
        if "check" in tags:
            n_exercises += 1
            assert isinstance(verdict, Verdict)
            assert verdict.state == "unsolved", f"{name}: {verdict}"
            assert any(n == n_exercises for n, _, _ in slips), f"no wrong answer to exercise {n_exercises}"
            for _, slip, code in (s for s in slips if s[0] == n_exercises):
                tried = dict(namespace)
                run_cell(code, tried, slip)
                verdict = run_cell(cell.source, tried, name)
                assert verdict.state == "wrong", f"{name}, {slip}: {verdict}"
        elif "solution" in tags:
            assert isinstance(verdict, Verdict)
            assert verdict, f"{name}: {verdict}"
    assert n_exercises >= 2
    assert {n for n, _, _ in slips} == set(range(1, n_exercises + 1))


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
    assert [lesson.number for lesson in LESSONS] == list(range(1, len(LESSONS) + 1))
    assert all(int(lesson.name[:2]) == lesson.number for lesson in LESSONS)
