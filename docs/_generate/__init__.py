"""A Sphinx extension that writes what the documentation takes from the code, before pages are read.

    lessons      the lessons, executed
    ops          one page an op, from its module
    formulas     where every formula is taught, and where it is written
    commands     the command line, from its own help
    api          the public functions, from their docstrings

All of it lands in docs/generated, which is never committed.
"""

from pathlib import Path
from typing import Any

from _generate import api, commands, formulas, lessons, ops

FOLDER = Path(__file__).parents[1] / "generated"


def setup(app: Any) -> dict[str, Any]:
    """Called by Sphinx."""
    app.connect("builder-inited", lambda _: generate())
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def generate() -> None:
    """Write every generated page."""
    for part in (lessons, ops, formulas, commands, api):
        part.write(FOLDER)
