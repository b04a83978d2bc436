"""The papers of the bibliography, linked where a lesson names them."""

import functools
import re
from pathlib import Path

BIBLIOGRAPHY = Path(__file__).parents[1] / "bibliography.md"
ENTRY = re.compile(r"^- (.+), \d{4}\. \[.+?\]\((\S+)\)$", re.MULTILINE)
QUOTED = re.compile(r'"([^"]{8,160})"')


def linked(text: str) -> str:
    """`text`, in which each quoted title of a paper leads to the paper."""
    return QUOTED.sub(_link, text)


def _link(found: re.Match[str]) -> str:
    title = " ".join(found.group(1).split()).lower().strip(".,")
    url = next((url for entry, url in entries() if title in entry), None)
    return f'["{found.group(1)}"]({url})' if url else found.group(0)


@functools.cache
def entries() -> list[tuple[str, str]]:
    """Authors and title of each paper, in small letters, and where it is."""
    text = BIBLIOGRAPHY.read_text(encoding="utf-8")
    return [(entry.lower(), url) for entry, url in ENTRY.findall(text)]
