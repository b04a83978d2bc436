"""handgrad plot: the losses of runs over each other, or what one run did to its layers."""

from pathlib import Path
from typing import Annotated

import typer

from handgrad.training import curves


def plot(
    runs: Annotated[
        list[str], typer.Argument(metavar="RUN...", help="Folders of runs, also while they train.")
    ],
    show: Annotated[
        str,
        typer.Option(help="losses of all runs; or layers: what one run did to each of its layers."),
    ] = "losses",
    by: Annotated[
        str, typer.Option(help=f"What they are drawn against: {', '.join(curves.ALONG)}.")
    ] = "steps",
    out: Annotated[
        Path | None, typer.Option(help="The picture: .png or .svg. Default: curves.png or layers.png.")
    ] = None,
) -> None:
    """Draw the training and validation losses of runs over each other, or the layers of one.

    Example: handgrad plot runs/quick-1 runs/quick-2 --by seconds
    """
    typer.echo(curves.plot(runs, show=show, by=by, out=out))
