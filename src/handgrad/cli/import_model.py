"""handgrad import: a model from elsewhere as a folder of handgrad's own."""

from pathlib import Path
from typing import Annotated

import typer

from handgrad.cli.busy import busy
from handgrad.cli.info import described
from handgrad.formats import atomic, model_folder, sources


def import_model(
    source: Annotated[
        str,
        typer.Argument(
            metavar="SOURCE",
            help="A Hugging Face folder, a .gguf file, a .bin of llama2.c, or a public model as owner/name.",
        ),
    ],
    run: Annotated[Path, typer.Argument(metavar="FOLDER", help="The new folder, such as runs/smollm2.")],
    tokenizer: Annotated[
        str | None, typer.Option(help="The tokenizer of a llama2.c model, where it is not beside it.")
    ] = None,
) -> None:
    """Make a model from elsewhere one of handgrad's folders: checked, in float32, and ready to use.

    Every command also takes the source itself.

    Example: handgrad import HuggingFaceTB/SmolLM2-135M runs/smollm2
    """
    atomic.free(run)  # before anything is fetched
    with busy("loading the model"):
        model = sources.load(source, tokenizer=tokenizer)
    with busy(f"writing {run}"):
        model_folder.save(model, run)
    print(f"{run}: {described(model.config)}")
