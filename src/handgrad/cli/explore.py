"""handgrad explore: a page that shows a model at work, forward and backward."""

import contextlib
import importlib.util
import subprocess
import sys
import webbrowser
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from handgrad.cli.busy import busy
from handgrad.errors import UserError

NEEDED = ("fastapi", "uvicorn")
INSTALL = 'The explorer takes FastAPI and uvicorn. Install them: pip install "handgrad[serve]".'


def explore(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="A run, or any model that handgrad reads.")],
    text: Annotated[str, typer.Option(help="What the page begins with.")] = "",
    port: Annotated[int, typer.Option(help="The port; 0: a free one.")] = 8001,
    open_page: Annotated[bool, typer.Option("--open", help="Open the page in a browser.")] = False,
) -> None:
    """See a model at work on a text, forward and backward, on a page of this machine's own.

    Example: handgrad explore runs/quick-1 --text "To be, or not to be"
    """
    require_installed()
    from handgrad.explore import server
    from handgrad.explore.explorer import Explorer
    from handgrad.serve.server import listen

    with listen("127.0.0.1", port) as listening:
        with busy("loading the model"):
            explorer = Explorer(model, text)
        listening.listen()
        url = f"http://localhost:{listening.getsockname()[1]}"
        print(f"A page to explore {model}: {url}  (Ctrl-C stops)", file=sys.stderr)
        if open_page:
            webbrowser.open(url)
        server.serve(explorer, listening)


def require_installed() -> None:
    """Raise `UserError` where what serves the page is missing."""
    if not all(map(importlib.util.find_spec, NEEDED)):
        raise UserError(INSTALL)


@contextlib.contextmanager
def beside(folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A page for the run in `folder`, from a process of its own, as long as the block runs."""
    command = [sys.executable, "-m", "handgrad", "explore", str(folder), "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        try:
            yield process
        finally:
            process.terminate()
