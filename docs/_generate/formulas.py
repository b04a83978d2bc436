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

Every formula: where it is derived, its page with code and proof, and the line of the source where it stands.

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
        rows = [[f.name, f"${f.latex}$", lesson_link(f), sources(f)] for f in formulas]
        table = pages.table(["", "formula", "derived in", "written in"], rows)
        text += f"## {section}\n\n:::{{container}} stacked\n{table}\n:::\n\n"
    pages.write(folder / "formulas.md", text)
    pages.write(folder / "sources.md", source_page())


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


def lesson_link(formula: Formula) -> str:
    lesson = catalog.find(formula.lesson)
    return f"[{lesson.number}. {formula.heading}](lessons/{lesson.name}.ipynb#{anchor(formula.heading)})"


def anchor(heading: str) -> str:
    """What MyST makes of a heading, as GitHub does."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def sources(formula: Formula) -> str:
    """A link to each line, and to the page of every op among them."""
    ops = {
        source.partition(":")[0].removeprefix("ops.")
        for source in formula.sources
        if source.startswith("ops.")
    }
    links = [source_link(source) for source in formula.sources]
    return ", ".join([*links, *(f"[page](ops/{op}.md)" for op in sorted(ops))])


def source_link(source: str) -> str:
    module, _, thing = source.partition(":")
    path, line = f"{module.replace('.', '/')}.py", inspect.getsourcelines(resolve(source))[1]
    return f"[`{path}:{line}`](#{label(module, thing)})"


def label(module: str, thing: str) -> str:
    return f"{module.removeprefix('ops.').replace('.', '-')}-{thing}"


def resolve(source: str) -> Any:
    module, _, name = source.partition(":")
    return getattr(importlib.import_module(f"handgrad.{module}"), name)
