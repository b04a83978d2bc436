"""`%again`: an exercise's cell, run with this one word in it, gets back what stood there at first.

Jupyter tells with each cell that it runs the cell's id. The ids of answers' cells are those that
`catalog.as_notebook` gives them.
"""

import re
import sys
from typing import Any

from handgrad.lessons import catalog

WORD = "again"
ANSWER = re.compile(r'^# %% tags=\["exercise"\]\n(.*?)(?=^# %%)', re.MULTILINE | re.DOTALL)


def register() -> None:
    """Make the word known, where this is a notebook's or IPython's process."""
    if "IPython" in sys.modules and (shell := sys.modules["IPython"].get_ipython()):
        shell.register_magic_function(lambda line: _again(shell), magic_name=WORD)


def _again(shell: Any) -> None:
    cell = shell.get_parent().get("metadata", {}).get("cellId", "") if hasattr(shell, "get_parent") else ""
    first = original(cell)
    if first is None:
        print(
            f"%{WORD} brings back what an exercise's cell was at first, run in that cell in Jupyter. A whole "
            "lesson: handgrad lessons --reset 3, for lesson 3; yours is kept."
        )
    else:
        shell.set_next_input(first, replace=True)
        print("As at first. Undo (Ctrl-Z in the cell) brings yours back.")


def original(cell: str) -> str | None:
    """What stands at first in the answer's cell of that id; None if there is no such cell."""
    found = re.fullmatch(r"lesson-(\d+)-answer-(\d+)", cell)
    numbers = tuple(map(int, found.groups())) if found else None
    for lesson in catalog.lessons():
        for number, code in enumerate(ANSWER.findall(lesson.path.read_text(encoding="utf-8")), start=1):
            if (lesson.number, number) == numbers:
                return str(code).strip()
    return None
