"""Writing pages: only those that changed, so that Sphinx reads only these again."""

import re
from collections.abc import Sequence
from pathlib import Path

WIDE = 40
"""Characters of LaTeX from which on several formulas in a row are set one below the other."""

DISPLAY = re.compile(r"\$\$(.+?)\$\$", re.DOTALL)
"""A row of formulas in Markdown."""


def write(path: Path, text: str) -> None:
    """`text` at `path`, unless it is there already."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists() or path.read_text(encoding="utf-8") != text:
        path.write_text(text, encoding="utf-8")


def table(head: Sequence[str], rows: Sequence[Sequence[str]], *, numbers: Sequence[str] = ()) -> str:
    """A Markdown table; columns of `numbers`, by their heads, are set to the right."""
    rules = ["---:" if name in numbers else "---" for name in head]
    lines = [head, rules, *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def cards(table: str) -> str:
    """The table, each of whose rows becomes a card on a phone."""
    return f":::{{container}} stacked\n{table}\n:::"


def toctree(names: Sequence[str], *, options: str = ":maxdepth: 1") -> str:
    """A table of contents of pages in the same folder."""
    return f"```{{toctree}}\n{options}\n\n" + "\n".join(names) + "\n```"


def folded(markdown: str) -> str:
    """The text, its wide rows of formulas set as lines below each other, so that they fit on a phone."""

    def fold(match: re.Match[str]) -> str:
        latex = " ".join(match[1].split())
        parts = equations(latex)
        if len(latex) < WIDE or len(parts) < 2:
            return match[0]
        return f"$$\n{stacked(parts)}\n$$"

    return DISPLAY.sub(fold, markdown)


def stacked(equations: Sequence[str]) -> str:
    """Equations one below the other, as LaTeX."""
    rows = " \\\\[0.5em] ".join(f"& {equation}" for equation in equations)
    return f"\\begin{{aligned}} {rows} \\end{{aligned}}"


def equations(latex: str) -> list[str]:
    """What stands between the wide spaces of a row, outside of braces and environments."""
    parts, depth, begin = [], 0, 0
    for match in re.finditer(r"\\[{}]|\\begin(?![a-z])|\\end(?![a-z])|[{}]|\\q?quad(?![a-z])", latex):
        depth += {"{": 1, "}": -1, "\\begin": 1, "\\end": -1}.get(match[0], 0)
        if match[0] in ("\\quad", "\\qquad") and depth == 0:
            parts.append(latex[begin : match.start()].strip())
            begin = match.end()
    return [part for part in (*parts, latex[begin:].strip()) if part]
