"""Whether a lesson's exercises tell right from wrong, found out while it is executed.

Every exercise is unsolved until it is answered, accepts our solution, and rejects every wrong answer of
`tests/lessons/wrong_answers/NN_topic.py`: a cell each, with the number of its exercise, and the slip. They
are tried in cells of their own after the exercise's check, with copies of the lesson's names. Of a wrong
gradient the verdict says what is wrong with it, but where the slip ends with `UNNAMED`.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from handgrad.lessons import catalog, exercise

WRONG = Path(__file__).parents[2] / "tests" / "lessons" / "wrong_answers"
UNNAMED = "(unnamed)"
TRIAL = "trial"
"""The tag of a cell that tries a wrong answer."""
TRY = """
import ast
def try_answer(answer, check, names):
    exec(answer, names)
    *judging, verdict = ast.parse(check).body
    exec(compile(ast.Module(judging, []), "check", "exec"), names)
    return eval(compile(ast.Expression(verdict.value), "check", "eval"), names)
try_answer({answer!r}, {check!r}, dict(globals()))
"""
FAILED, NAMED = "fails the proof", "; in the gradient of "
"""In a verdict on a wrong gradient; the second where it says what is wrong."""
STATES = {sign: state for state, sign in exercise.SIGNS.items()}


class Slip(NamedTuple):
    """A wrong answer."""

    exercise: int
    name: str
    code: str


def slips(lesson: catalog.Lesson, folder: Path = WRONG) -> list[Slip]:
    """The wrong answers to a lesson's exercises."""
    text = (folder / f"{lesson.name}.py").read_text(encoding="utf-8")
    parts = re.split(r"^# %% exercise (\d+): (.+)$", text, flags=re.MULTILINE)
    return [
        Slip(int(n), name, code) for n, name, code in zip(parts[1::3], parts[2::3], parts[3::3], strict=True)
    ]


def run(lesson: catalog.Lesson, folder: Path, wrong: Path = WRONG) -> tuple[Any, list[str]]:
    """The executed lesson, and what is wrong with its exercises."""
    tried = slips(lesson, wrong)
    notebook = catalog.run(lesson, folder=folder, notebook=_with_trials(catalog.as_notebook(lesson), tried))
    faults = list(_faults(notebook.cells, tried))
    notebook.cells = [cell for cell in notebook.cells if not _is(cell, TRIAL)]
    return notebook, faults


def _with_trials(notebook: Any, tried: list[Slip]) -> Any:
    import nbformat

    cells, n = [], 0
    for cell in notebook.cells:
        cells.append(cell)
        if _is(cell, "check"):
            n += 1
            for slip in (slip for slip in tried if slip.exercise == n):
                code = TRY.format(answer=slip.code, check=cell.source)
                cells.append(nbformat.v4.new_code_cell(code, metadata={"tags": [TRIAL]}))
    notebook.cells = cells
    return notebook


def _faults(cells: list[Any], tried: list[Slip]) -> Iterator[str]:
    expected, n = iter(tried), 0
    for cell in cells:
        if _is(cell, "check"):
            n += 1
            what, wanted = f"exercise {n}, not answered yet", "unsolved"
        elif _is(cell, TRIAL):
            what, wanted = f"exercise {n}, {next(expected).name}", "wrong"
        elif _is(cell, "solution"):
            what, wanted = f"the solution of exercise {n}", "right"
        else:
            continue
        shown = _shown(cell)
        if STATES.get(shown[:1], "not judged") != wanted:
            yield f"{what}, is not {wanted}: {shown}"
        elif FAILED in shown and (NAMED in shown) == what.endswith(UNNAMED):
            yield f"{what}: what is wrong is {'said' if NAMED in shown else 'not said'}: {shown}"
    if n < 2:
        yield f"only {n} exercises"
    for number in sorted({slip.exercise for slip in tried} ^ set(range(1, n + 1))):
        yield f"exercise {number} and the wrong answers: one is there without the other"


def _shown(cell: Any) -> str:
    """The value that a cell shows, as text."""
    values = [output.data["text/plain"] for output in cell.outputs if output.output_type == "execute_result"]
    return values[-1] if values else "nothing"


def _is(cell: Any, tag: str) -> bool:
    return tag in cell.metadata.get("tags", [])
