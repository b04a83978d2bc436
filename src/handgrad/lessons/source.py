"""The library's own code, shown in a lesson: never a copy that could differ."""

import inspect
import textwrap
from pathlib import Path
from typing import Any

PACKAGE = Path(__file__).parents[1]


class Source:
    """The code of functions, with file and line."""

    def __init__(self, *objects: Any):
        self.listings = [(_place(thing), textwrap.dedent(inspect.getsource(thing))) for thing in objects]

    def __repr__(self) -> str:
        return "\n\n".join(f"# {place}\n{code}" for place, code in self.listings)

    def _repr_markdown_(self) -> str:
        return "\n\n".join(f"`{place}`\n\n```python\n{code}```" for place, code in self.listings)


def show(*objects: Any) -> Source:
    """The source of functions, classes or modules of the library."""
    return Source(*objects)


def _place(thing: Any) -> str:
    """`ops/sigmoid.py, line 20`."""
    thing = inspect.unwrap(thing)
    path = Path(inspect.getsourcefile(thing) or "")
    where = path.relative_to(PACKAGE) if path.is_relative_to(PACKAGE) else path.name
    line = inspect.getsourcelines(thing)[1]
    return f"{where}, line {line}" if line else f"{where}"
