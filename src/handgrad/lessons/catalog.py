"""The lessons: which there are, how they are copied as notebooks, and how one is run.

A lesson is a file `NN_topic.py` in jupytext's percent form; its first heading is its title. Copies are
notebooks (.ipynb). Copying and running need the extra `[lessons]`.
"""

import itertools
import os
import re
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from handgrad.errors import UserError
from handgrad.formats import atomic
from handgrad.lessons import knobs

INSTALLED = Path(__file__).parent / "notebooks"
IN_THE_REPOSITORY = Path(__file__).parents[3] / "lessons"
TITLE = re.compile(r"^# # (\d+)\. (.+)$", re.MULTILINE)
GOAL = re.compile(r"\*After this lesson you can (.+?)\.\*")
OURS = "# our answer"
"""The first line of each of our solutions in a notebook: Jupyter shows it of a cell that is folded away."""
ENVIRONMENT = {"OPENBLAS_NUM_THREADS": "1"}
"""The environment of a process that runs a lesson. Products of a few numbers gain nothing from BLAS threads,
which wait by spinning: on a busy machine they made a lesson six times as long."""


class Lesson(NamedTuple):
    number: int
    title: str
    goal: str
    """What one can do afterwards: completes "After this lesson you can"."""
    path: Path

    @property
    def name(self) -> str:
        """The file's name without its ending: `04_perceptron`."""
        return self.path.stem


class LessonError(Exception):
    """A lesson stopped with an error; the text says in which cell."""


def lessons() -> list[Lesson]:
    """Every lesson, in order."""
    folder = INSTALLED if INSTALLED.is_dir() else IN_THE_REPOSITORY
    return [_read(path) for path in sorted(folder.glob("[0-9][0-9]_*.py"))]


def find(number: int) -> Lesson:
    """The lesson of that number; `UserError` if there is none."""
    known = {lesson.number: lesson for lesson in lessons()}
    if number not in known:
        raise UserError(f"There is no lesson {number}; there are {', '.join(map(str, known))}.")
    return known[number]


def copy(folder: Path) -> list[Path]:
    """Write every lesson into `folder` as a notebook; one that is there already stays as it is."""
    require("jupytext")
    import jupytext

    paths = [folder / f"{lesson.name}.ipynb" for lesson in lessons()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for lesson, path in zip(lessons(), paths, strict=True):
            if not path.exists():
                atomic.write_text(path, jupytext.writes(as_notebook(lesson), fmt="ipynb"))
    except OSError as error:
        raise UserError(f"The lessons cannot be copied to {folder}: {error.strerror}.") from None
    return paths


def reset(lesson: Lesson, folder: Path) -> Path | None:
    """Copy one lesson anew. What stood in its place is kept under another name, which is returned."""
    path, kept = folder / f"{lesson.name}.ipynb", None
    if path.exists():
        numbers = itertools.count(1)
        kept = next(it for n in numbers if not (it := folder / f"{lesson.name}-before-{n}.ipynb").exists())
        path.rename(kept)
    copy(folder)
    return kept


def as_notebook(lesson: Lesson) -> Any:
    """The lesson as an nbformat notebook, for the kernel that every Jupyter has.

    The cells of its answers have ids by which `%again` knows them: `lesson-13-answer-2`.
    """
    import jupytext

    notebook = jupytext.read(lesson.path)
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    answers = (cell for cell in notebook.cells if "exercise" in cell.metadata.get("tags", []))
    for number, cell in enumerate(answers, start=1):
        cell.id = f"lesson-{lesson.number}-answer-{number}"
    for cell in notebook.cells:
        if "solution" in cell.metadata.get("tags", []):
            cell.source = f"{OURS}\n{cell.source}"
    return notebook


def run(
    lesson: Lesson,
    report: Callable[[int, int], None] = lambda cell, n_cells: None,
    *,
    folder: Path | None = None,
    notebook: Any = None,
) -> Any:
    """Execute the lesson from top to bottom in `folder`, and return the notebook with its outputs.

    It runs as on a page: every setting of every knob is drawn, and there are no widgets. nbclient would
    answer a widget's messages on the socket on which it waits for the cell's end, and on a busy machine it
    would miss that end ([nbclient 312](https://github.com/jupyter/nbclient/issues/312)).

    `report` gets the number of cells done and the number of all. Without a folder the lesson runs in a
    temporary one. `notebook` is executed in the place of the lesson as it stands. Raises `LessonError` where
    a cell raises.
    """
    if folder is None:
        with tempfile.TemporaryDirectory() as temporary:
            return run(lesson, report, folder=Path(temporary), notebook=notebook)
    require("nbclient")
    from nbclient import NotebookClient
    from nbclient.exceptions import CellExecutionError
    from traitlets.config import Config

    folder.mkdir(parents=True, exist_ok=True)
    notebook = notebook or as_notebook(lesson)
    n_cells = len(notebook.cells)
    with tempfile.TemporaryDirectory(prefix="handgrad-", ignore_cleanup_errors=True) as sockets:
        client = NotebookClient(
            notebook,
            config=Config(KernelManager=connection(Path(sockets))),
            timeout=300,
            extra_arguments=["--log-level=ERROR"],  # a kernel warns of who else might be on this machine
            resources={"metadata": {"path": str(folder)}},
            on_cell_complete=lambda cell, cell_index: report(cell_index + 1, n_cells),
        )
        try:
            return client.execute(env={**os.environ, **ENVIRONMENT, knobs.ON_A_PAGE: "1"})
        except CellExecutionError as error:
            raise LessonError(f"Lesson {lesson.number} stopped: {error}") from None


def connection(folder: Path) -> dict[str, str]:
    """How a kernel manager of Jupyter's is to talk to its kernel: through sockets in `folder`.

    Ports are free when a manager picks them, and may be another process's when the kernel binds them:
    "Address already in use", and the kernel dies. Windows has only ports.
    """
    return {} if os.name == "nt" else {"transport": "ipc", "ip": str(folder / "kernel")}


def require(package: str) -> None:
    """Raise `UserError` unless `package`, one of the extra `[lessons]`, is installed."""
    try:
        __import__(package)
    except ImportError:
        raise UserError(
            "The lessons open in Jupyter, which is not installed. Install it: pip install 'handgrad[lessons]'"
        ) from None


def _read(path: Path) -> Lesson:
    text = path.read_text(encoding="utf-8")
    title, goal = TITLE.search(text), GOAL.search(re.sub(r"\s*\n#\s*", " ", text))
    if not title or not goal:
        raise ValueError(
            f"{path} has no title (# 4. The perceptron) or goal (*After this lesson you can ...*)"
        )
    return Lesson(int(title[1]), title[2], goal[1], path)
