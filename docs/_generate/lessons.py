"""The lessons, executed from top to bottom; one that did not change keeps its last outputs.

The build fails where an exercise does not tell right from wrong (`trials`).
"""

import hashlib
import os
import re
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from _generate import pages, papers, trials
from handgrad.lessons import catalog, course_map

SOURCES = Path(__file__).parents[2] / "src" / "handgrad"
TIMED = ("19_speed",)
"""Those that measure times: each runs alone."""
LONGEST = "15_training"
"""The longest of those that look into the small model; of the others, the last ones are long."""
TRAIN = [sys.executable, "-c", "from handgrad.lessons import practice; practice.model()"]
"""Trains the small model that several lessons look into."""
HEAD = """# Lessons

From one slope to a transformer that writes: {n} notebooks. You derive, run, check, see and change every
part, with the library's real code. You need some Python, and the idea of a derivative, which lesson 2
explains.

Read them here from the first to the last, with their outputs. To run and change them as notebooks of your
own, in a checkout of the project:

```sh
make lessons
```

or, where the library is installed with `pip install '.[lessons]'`, `handgrad lessons`. The exercises at the
end of each lesson judge your answers; ours are folded away.

"""


def write(folder: Path) -> None:
    """`generated/lessons/NN_topic.ipynb` for every lesson, and their index."""
    target = folder / "lessons"
    target.mkdir(parents=True, exist_ok=True)
    work = folder / "work"
    lessons = catalog.lessons()
    for page in {*target.glob("*.ipynb")} - {target / f"{lesson.name}.ipynb" for lesson in lessons}:
        page.unlink()  # of a lesson that has another name now
    changed = [lesson for lesson in lessons if not is_executed(lesson, target)]
    if changed:
        work.mkdir(exist_ok=True)
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            model = pool.submit(subprocess.run, TRAIN, cwd=work, check=True, stdout=sys.stderr)

            def execute(lesson: catalog.Lesson) -> None:
                if _looks_into_the_model(lesson):
                    model.result()
                _execute(lesson, target, work)

            others = [lesson for lesson in reversed(changed) if lesson.name not in TIMED]
            others.sort(key=lambda lesson: (_looks_into_the_model(lesson), lesson.name != LONGEST))
            list(pool.map(execute, others))
        for lesson in changed:
            if lesson.name in TIMED:
                _execute(lesson, target, work)
    rows = [[f"[{x.number}. {x.title}](lessons/{x.name}.ipynb)", x.goal] for x in lessons]
    table = pages.cards(pages.table(["lesson", "afterwards you can"], rows))
    index = HEAD.format(n=len(lessons)) + table
    tree = pages.toctree([f"lessons/{lesson.name}" for lesson in lessons], options=":hidden:")
    pages.write(folder / "lessons.md", f"{index}\n\n{tree}\n")


def _looks_into_the_model(lesson: catalog.Lesson) -> bool:
    return "practice." in lesson.path.read_text(encoding="utf-8")


def _execute(lesson: catalog.Lesson, target: Path, work: Path) -> None:
    import nbformat

    begun = time.perf_counter()
    notebook, faults = trials.run(lesson, work)
    faults += [f"{share} % of a peak" for share in shares_of_peaks(notebook) if share > 100.0]
    if faults:
        raise catalog.LessonError(f"Lesson {lesson.number}: " + "; ".join(faults))
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            cell.source = papers.linked(pages.folded(cell.source))
        for alt in alts(cell):
            cell.metadata["mystnb"] = {"image": {"alt": alt}}
    if "course_map.here(" not in "".join(cell.source for cell in notebook.cells):  # else it is shown already
        notebook.cells[0].source = with_map(notebook.cells[0].source, lesson.number)
    nbformat.write(notebook, target / f"{lesson.name}.ipynb")
    _mark(lesson, target).write_text(_digest(lesson.path))
    print(f"lesson {lesson.number} executed in {time.perf_counter() - begun:.0f} s", file=sys.stderr)


def alts(cell: Any) -> list[str]:
    """What a cell's pictures say that is seen on them."""
    shown = [output.get("metadata", {}).get("image/png", {}) for output in cell.get("outputs", [])]
    return [size["alt"] for size in shown if size.get("alt")]


def with_map(text: str, number: int) -> str:
    """A lesson's beginning, with the map of the course after its goal."""
    goal = re.search(r"^\*After this lesson .+?\.\*$", text, re.MULTILINE | re.DOTALL)
    at = goal.end() if goal else len(text)
    drawn = f'<div class="map">{course_map.here(number).svg()}</div>'
    return f"{text[:at]}\n\n{drawn}{text[at:]}"


def shares_of_peaks(notebook: Any) -> list[float]:
    """What a lesson prints of rates and their peaks, in percent: none may be above."""
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    text = "\n".join(str(output.get("text", "")) for output in outputs)
    return [float(share) for share in re.findall(r"([\d.]+) ?% of the peak", text)]


def is_executed(lesson: catalog.Lesson, target: Path) -> bool:
    """Whether the lesson's page in `target` is what it is today, and its exercises tell right from wrong."""
    mark = _mark(lesson, target)
    return mark.exists() and mark.read_text() == _digest(lesson.path)


def _mark(lesson: catalog.Lesson, target: Path) -> Path:
    """Holds the digest of what was executed."""
    return target / f".{lesson.name}.digest"


def _digest(path: Path) -> str:
    """The digest of the lesson, and of all that it may show or run."""
    digest = hashlib.sha256(path.read_bytes())
    digest.update((trials.WRONG / path.name).read_bytes())
    for source in (Path(trials.__file__), *sorted(SOURCES.rglob("*.py"))):
        digest.update(source.read_bytes())
    return digest.hexdigest()
