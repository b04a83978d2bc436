"""Walks through a lesson as a notebook would, and through its wrong answers: `python walk.py NN_topic`.

Prints what is not as it should be. It runs in a process of its own: the check of every array's shape, which
the tests install, would make it several times slower. Pictures are laid out to the last word and not painted:
that saves a quarter of the time, and `make docs` paints them.
"""

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from handgrad.lessons import catalog
from handgrad.lessons.exercise import Verdict
from handgrad.plots.style import Picture

WRONG = Path(__file__).parent / "wrong_answers"


def lay_out(picture: Picture) -> tuple[bytes, dict[str, int]]:
    """Takes the place of painting: a mistake in a formula or a size is found all the same."""
    picture.draw_without_rendering()
    return b"", {"width": 1}


def run_cell(code: str, namespace: dict[str, Any], name: str) -> Any:
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


def wrong_answers(lesson: catalog.Lesson) -> list[tuple[int, str, str]]:
    """(number of the exercise, the slip, code) of every wrong answer."""
    text = (WRONG / f"{lesson.name}.py").read_text(encoding="utf-8")
    parts = re.split(r"^# %% exercise (\d+): (.+)$", text, flags=re.MULTILINE)
    return [(int(n), slip, code) for n, slip, code in zip(parts[1::3], parts[2::3], parts[3::3], strict=True)]


def faults(lesson: catalog.Lesson) -> Iterator[str]:
    """Every exercise is unsolved until it is answered, accepts the solution, and rejects every slip."""
    slips = wrong_answers(lesson)
    namespace: dict[str, Any] = {"__name__": "__main__"}
    n_exercises = 0
    for number, cell in enumerate(catalog.as_notebook(lesson).cells):
        if cell.cell_type != "code":
            continue
        name, tags = f"cell {number}", cell.metadata.get("tags", [])
        shown = run_cell(cell.source, namespace, name)
        if "check" in tags:
            n_exercises += 1
            if state(shown) != "unsolved":
                yield f"{name}: exercise {n_exercises}, not answered yet, is {state(shown)}: {shown}"
            for _, slip, code in (s for s in slips if s[0] == n_exercises):
                tried = dict(namespace)
                run_cell(code, tried, slip)
                shown = run_cell(cell.source, tried, name)
                if state(shown) != "wrong":
                    yield f"{name}: exercise {n_exercises}, {slip}, is {state(shown)}: {shown}"
        elif "solution" in tags and state(shown) != "right":
            yield f"{name}: the solution of exercise {n_exercises} is {state(shown)}: {shown}"
    if n_exercises < 2:
        yield f"only {n_exercises} exercises"
    for n in {n for n, _, _ in slips} ^ set(range(1, n_exercises + 1)):
        yield f"exercise {n} and the wrong answers: one is there without the other"


def state(shown: Any) -> str:
    """What a cell's value says of the answer."""
    return shown.state if isinstance(shown, Verdict) else "not judged"


if __name__ == "__main__":
    Picture._repr_png_ = lay_out  # type: ignore[method-assign]
    (lesson,) = (lesson for lesson in catalog.lessons() if lesson.name == sys.argv[1])
    sys.exit("\n".join(faults(lesson)) or None)
