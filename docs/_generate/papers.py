"""The papers of the bibliography, linked where a lesson names them."""

import functools
import re
from pathlib import Path

BIBLIOGRAPHY = Path(__file__).parents[1] / "bibliography.md"
ENTRY = re.compile(r"^- (.+), \d{4}\. \[.+?\]\((\S+)\)$", re.MULTILINE)
QUOTED = re.compile(r'\["[^"]+"\]|"([^"]+)"')  # the first is a link already
ARXIV = re.compile(r"(?<!\[)arXiv:(\d{4}\.\d{4,5})")


def linked(text: str) -> str:
    """`text`, in which each quoted title of a paper, and each number of arXiv's, leads to the paper.

    A title may be the paper's first words.
    """
    return ARXIV.sub(r"[arXiv:\1](https://arxiv.org/abs/\1)", QUOTED.sub(_link, text))


def _link(found: re.Match[str]) -> str:
    if found.group(1) is None:
        return found.group(0)
    title = " ".join(found.group(1).split()).lower().strip(".,")
    begins = re.compile(rf", {re.escape(title)}(?!\w)")
    url = next((url for entry, url in entries() if begins.search(entry)), None)
    return f'["{found.group(1)}"]({url})' if url else found.group(0)


@functools.cache
def entries() -> list[tuple[str, str]]:
    """Authors and title of each paper, in small letters, and where it is."""
    text = BIBLIOGRAPHY.read_text(encoding="utf-8")
    return [(entry.lower(), url) for entry, url in ENTRY.findall(text)]
