"""The index of formulas: each leads to the lesson that derives it, to its page, and to its line of source.

The table is `formula_table`; tests/docs keep it whole: headings exist, names resolve, and no op is missing.
"""

import importlib
import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from _generate import pages
from _generate.formula_table import SECTIONS, Formula
from handgrad.lessons import catalog

HEAD = """# Index of formulas

Every formula, as its docstring has it: the lesson that derives it, its page with code, proof and cost, and
the lines of the source. A formula without a page is no op; its link leads to the code itself.

"""


SOURCES = """---
orphan: true
---

# Source

What the index of formulas leads to, and has no page of its own.

"""


def write(folder: Path) -> None:
    """`generated/formulas.md`, and `generated/sources.md` for code that has no page of its own."""
    text = HEAD
    for section, formulas in SECTIONS.items():
        rows = [[f.name, f"${latex(f)}$", lesson_link(f), source_links(f)] for f in formulas]
        head = ["name", "formula", "derived in lesson", "written in"]
        if any(map(ops_of, formulas)):
            head.insert(3, "page")
            for row, formula in zip(rows, formulas, strict=True):
                row.insert(3, op_links(formula))
        table = pages.table(head, rows)
        text += f"## {section}\n\n{pages.cards(table)}\n\n"
    pages.write(folder / "formulas.md", text)
    pages.write(folder / "sources.md", source_page())


def latex(formula: Formula) -> str:
    """The formula as the docstring of its source has it, its equations one below the other."""
    displays = [pages.equations(" ".join(row.split())) for row in pages.DISPLAY.findall(written(formula))]
    shown = displays[0]
    if formula.parts:
        shown = [next(e for row in displays for e in row if e.startswith(part)) for part in formula.parts]
    return pages.stacked([equation.rstrip(",;.") for equation in shown])


def written(formula: Formula) -> str:
    """The docstring of the formula's first source or, where that has no formula, of its module."""
    module, _, name = (formula.written_in or formula.sources[0]).partition(":")
    home = importlib.import_module(f"handgrad.{module}")
    docs = inspect.getdoc(getattr(home, name)) or "", inspect.getdoc(home) or ""
    return next(doc for doc in docs if pages.DISPLAY.search(doc))


def source_page() -> str:
    """The modules that formulas lead to and that are no ops."""
    names = sorted({s.partition(":")[0] for f in every() for s in f.sources if not s.startswith("ops.")})
    text = SOURCES
    for module in names:
        things = sorted(
            {s.partition(":")[2] for f in every() for s in f.sources if s.startswith(f"{module}:")}
        )
        text += f"## `{module.replace('.', '/')}.py`\n\n"
        for thing in things:
            options = f":pyobject: {thing}\n:linenos:\n:lineno-match:\n:name: {label(module, thing)}"
            path = module.replace(".", "/")
            text += f"```{{literalinclude}} /../src/handgrad/{path}.py\n{options}\n```\n\n"
    return text


def every() -> Iterator[Formula]:
    for formulas in SECTIONS.values():
        yield from formulas


def lesson_link(formula: Formula, folder: str = "") -> str:
    """To the section that derives it; `folder` leads from the page to `generated`."""
    lesson = catalog.find(formula.lesson)
    return (
        f"[{lesson.number}. {formula.heading}]({folder}lessons/{lesson.name}.ipynb#{anchor(formula.heading)})"
    )


def anchor(heading: str) -> str:
    """What MyST makes of a heading, as GitHub does."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def op_links(formula: Formula) -> str:
    """To the pages of its ops."""
    return ", ".join(f"[`{op}`](ops/{op}.md)" for op in sorted(ops_of(formula)))


def ops_of(formula: Formula) -> set[str]:
    modules = (source.partition(":")[0] for source in formula.sources)
    return {module.removeprefix("ops.") for module in modules if module.startswith("ops.")}


def source_links(formula: Formula) -> str:
    """To each of its lines; a file is named once."""
    links, before = [], ""
    for source in formula.sources:
        module, _, thing = source.partition(":")
        line = inspect.getsourcelines(resolve(source))[1]
        path = "" if module == before else f"{module.replace('.', '/')}.py"
        links.append(f"[`{path}:{line}`](#{label(module, thing)})")
        before = module
    return ", ".join(links)


def label(module: str, thing: str) -> str:
    return f"{module.removeprefix('ops.').replace('.', '-')}-{thing}"


def resolve(source: str) -> Any:
    module, _, name = source.partition(":")
    return getattr(importlib.import_module(f"handgrad.{module}"), name)
