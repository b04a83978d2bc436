"""handgrad lessons: from one slope to a transformer, in notebooks of your own."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from handgrad.lessons import catalog


def lessons(
    folder: Annotated[
        Path, typer.Argument(metavar="FOLDER", help="Where your copies are; yours are never overwritten.")
    ] = Path("my-lessons"),
    as_list: Annotated[bool, typer.Option("--list", help="Say which lessons there are, and stop.")] = False,
    run: Annotated[
        int | None,
        typer.Option(help="Run this lesson from top to bottom as on a page, without Jupyter's window."),
    ] = None,
    start: Annotated[int | None, typer.Option(help="The lesson to open.", show_default="the first")] = None,
    reset: Annotated[
        int | None, typer.Option(help="Copy this lesson anew; yours stays beside it, under another name.")
    ] = None,
    browser: Annotated[bool, typer.Option(help="Open a browser; else print the address.")] = True,
    as_json: Annotated[bool, typer.Option("--json", help="With --list: one JSON object a line.")] = False,
) -> None:
    """Learn how a transformer works: notebooks that derive, run, check and draw every formula.

    Copies the lessons into FOLDER and opens JupyterLab there.

    Example: handgrad lessons --start 11
    """
    if as_list:
        _print_list(as_json)
    elif run is not None:
        _run(catalog.find(run))
    elif reset is not None:
        lesson = catalog.find(reset)
        kept = catalog.reset(lesson, folder)
        said = f"; yours is now {kept}" if kept else ""
        print(f"Lesson {lesson.number} is as it was at first, in {folder}{said}.")
    else:
        _open(folder, catalog.lessons()[0] if start is None else catalog.find(start), browser)


def _print_list(as_json: bool) -> None:
    if as_json:
        for lesson in catalog.lessons():
            row = {"number": lesson.number, "title": lesson.title, "goal": lesson.goal, "path": lesson.path}
            print(json.dumps(row, default=str))
        return
    table = Table("", "lesson", "afterwards you can", box=None, pad_edge=False)
    for lesson in catalog.lessons():
        table.add_row(str(lesson.number), f"[bold]{lesson.title}[/]", lesson.goal)
    Console(highlight=False).print(table)


def _run(lesson: catalog.Lesson) -> None:
    begun = time.perf_counter()
    with _progress(lesson) as report:
        try:
            catalog.run(lesson, report)
        except catalog.LessonError as error:
            typer.echo(f"handgrad: {error}", err=True)  # the cell and its traceback, in lines
            raise typer.Exit(2) from None
    seconds = time.perf_counter() - begun
    print(f"Lesson {lesson.number}, {lesson.title}, runs from top to bottom: {seconds:.0f} s.")


@contextmanager
def _progress(lesson: catalog.Lesson) -> Iterator[Any]:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(f"lesson {lesson.number}: {lesson.title}", total=None)
        yield lambda cell, n_cells: progress.update(task, completed=cell, total=n_cells)


def _open(folder: Path, lesson: catalog.Lesson, browser: bool) -> None:
    catalog.require("jupyterlab")
    catalog.copy(folder)
    page = f"/lab/tree/{lesson.name}.ipynb"
    print(
        f"Your lessons are in {folder}. Jupyter opens lesson {lesson.number}; Ctrl-C here ends it.",
        flush=True,
    )
    places = [f"--ServerApp.root_dir={folder.resolve()}", f"--LabApp.default_url={page}"]
    quiet = "--log-level=WARN"  # of its hundred lines, the address is what one needs: that is always said
    command = [sys.executable, "-m", "jupyterlab", quiet, *places]
    if not browser:
        command.append("--no-browser")
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        command.append("--allow-root")  # a container's only user
    sys.exit(subprocess.call(command, env={**os.environ, **catalog.ENVIRONMENT}))
