"""handgrad plot: the losses of runs over each other."""

from pathlib import Path
from typing import Annotated

import typer

from handgrad.training import curves


def plot(
    runs: Annotated[
        list[str], typer.Argument(metavar="RUN...", help="Folders of runs, also while they train.")
    ],
    by: Annotated[
        str, typer.Option(help=f"What losses are drawn against: {', '.join(curves.ALONG)}.")
    ] = "steps",
    out: Annotated[Path, typer.Option(help="The picture: .png or .svg.")] = Path("curves.png"),
) -> None:
    """Draw the training and validation losses of runs over each other.

    Example: handgrad plot runs/quick-1 runs/quick-2 --by seconds
    """
    typer.echo(curves.plot(runs, by=by, out=out))
