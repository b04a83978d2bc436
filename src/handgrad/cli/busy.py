"""What a terminal shows while one waits: beside the output, and gone with the wait."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.text import Text


@contextmanager
def busy(doing: str) -> Iterator[Callable[[str], object]]:
    """Show what is being done; yields what to tell the names of kernels that are compiled meanwhile."""
    with Console(stderr=True).status(Text(doing)) as status:
        yield lambda kernel: status.update(Text(f"compiling kernels, once on this machine: {kernel}"))
