"""handgrad generate: a trained model continues a prompt."""

import json
import sys
import time
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from handgrad.formats import model_folder
from handgrad.generation.request import Request
from handgrad.generation.sampling import Sampling
from handgrad.generation.stream import stream


def generate(
    run: Annotated[Path, typer.Argument(help="The folder of a run or a model.")],
    prompt: Annotated[str, typer.Argument(help="The text to continue.")],
    max_tokens: Annotated[int, typer.Option(help="Tokens to write.")] = 200,
    temperature: Annotated[
        float, typer.Option(help="0: always the likeliest; 1: as the model has it.")
    ] = 0.8,
    top_k: Annotated[int | None, typer.Option(help="Choose among the k likeliest tokens.")] = None,
    top_p: Annotated[float | None, typer.Option(help="Choose among the likeliest that sum to p.")] = None,
    engine: Annotated[
        str, typer.Option(help='"reference", the formulas; "cpu", kernels, for long texts; "xla", JAX.')
    ] = "reference",
    seed: Annotated[int, typer.Option(help="The same seed writes the same text.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead of text.")] = False,
) -> None:
    """Continue PROMPT with a trained model.

    Example: handgrad generate runs/nano-1 "ROMEO:" --temperature 0.7
    """
    sampling = Sampling(temperature=temperature, top_k=top_k, top_p=top_p)
    model = model_folder.load(run)
    with Console(stderr=True).status("reading the prompt") as status:
        pieces = stream(
            model,
            prompt,
            Request(max_tokens=max_tokens, sampling=sampling, seed=seed),
            engine=engine,
            compiling=lambda kernel: status.update(f"compiling {kernel}"),
        )
    if as_json:
        started = time.perf_counter()
        completion = "".join(pieces)
        seconds = time.perf_counter() - started
        print(json.dumps({"prompt": prompt, "completion": completion, "seed": seed, "seconds": seconds}))
        return
    sys.stdout.write(prompt)
    for piece in pieces:
        sys.stdout.write(piece)
        sys.stdout.flush()
    sys.stdout.write("\n")
