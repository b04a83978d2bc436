"""handgrad explore: a page that shows a model at work, forward and backward."""

import sys
import webbrowser
from typing import Annotated

import typer

from handgrad.cli.busy import busy
from handgrad.errors import UserError

INSTALL = 'The explorer takes FastAPI and uvicorn. Install them: pip install "handgrad[serve]".'


def explore(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="A run, or any model that handgrad reads.")],
    text: Annotated[str, typer.Option(help="What the page begins with.")] = "",
    port: Annotated[int, typer.Option(help="The port; 0: a free one.")] = 8001,
    open_page: Annotated[
        bool, typer.Option("--open/--no-open", help="Open the page in the browser that is there.")
    ] = False,
) -> None:
    """See a model at work on a text, forward and backward, on a page of this machine's own.

    Example: handgrad explore runs/quick-1 --text "To be, or not to be"
    """
    try:
        from handgrad.explore import server
        from handgrad.explore.explorer import Explorer
        from handgrad.serve.server import listen
    except ModuleNotFoundError as error:
        raise UserError(INSTALL) from error
    with listen("127.0.0.1", port) as listening:
        with busy("loading the model"):
            explorer = Explorer(model, text)
        listening.listen()
        url = f"http://localhost:{listening.getsockname()[1]}"
        print(f"A page to explore {model}: {url}", "Ctrl-C stops.", sep="\n", file=sys.stderr)
        if open_page:
            webbrowser.open(url)
        server.serve(explorer, listening)
