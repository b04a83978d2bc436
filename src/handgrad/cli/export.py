"""handgrad export: a model for transformers, llama.cpp, and what is built on them."""

from pathlib import Path
from typing import Annotated

import typer

from handgrad.cli.busy import busy
from handgrad.formats import sources
from handgrad.formats.exports import TARGETS
from handgrad.formats.exports import export as export_model


def export(
    run: Annotated[str, typer.Argument(metavar="MODEL", help="A run, or any model that handgrad reads.")],
    path: Annotated[Path, typer.Argument(metavar="PATH", help="The new folder, or the new .gguf file.")],
    to: Annotated[
        str, typer.Option(metavar="|".join(TARGETS), help="Hugging Face's folder, or llama.cpp's file.")
    ],
    type: Annotated[
        str | None, typer.Option(help="F32, F16 or BF16; in gguf also Q8_0, Q4_0, Q4_K, Q6_K.")
    ] = None,
) -> None:
    """Write a model as a Hugging Face folder or a GGUF file.

    Example: handgrad export runs/llama-1 llama.gguf --to gguf --type Q8_0
    """
    with busy("loading the model"):
        model = sources.load(run)
    with busy(f"writing {path}"):
        export_model(model, path, to=to, type=type and type.upper())
    print(path)
