"""handgrad chat: a conversation in a terminal; in a pipe, an answer to every line."""

import json
import sys
from typing import Annotated

import typer

from handgrad.cli import chat_terminal
from handgrad.cli.busy import busy
from handgrad.formats import sources
from handgrad.generation.conversation import Conversation
from handgrad.generation.request import Request


def chat(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="A run, or any model that handgrad reads.")],
    system: Annotated[
        str | None, typer.Option(help="An instruction to the model, before all questions.")
    ] = None,
    max_tokens: Annotated[int, typer.Option(help="Tokens that an answer may have.")] = 512,
    temperature: Annotated[float, typer.Option(help="0: always the likeliest token.")] = 0.8,
    top_p: Annotated[float | None, typer.Option(help="Choose among the likeliest that sum to p.")] = 0.95,
    seed: Annotated[int, typer.Option(help="The same seed gives the same answers.")] = 0,
    engine: Annotated[
        str, typer.Option(help="cpu: fast kernels; xla: JAX; reference: the formulas themselves.")
    ] = "cpu",
    precision: Annotated[
        str, typer.Option(help="auto, float32, bfloat16; with cpu also int8, and blocks: as a GGUF has them.")
    ] = "auto",
    cache: Annotated[
        str,
        typer.Option(help="auto, float32, bfloat16; with cpu also int8: what keys and values are kept in."),
    ] = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="In a pipe: one JSON object an answer.")] = False,
) -> None:
    """Talk to a model in the terminal; in a pipe, every line is a question.

    Example: handgrad chat runs/quick-1 --system "Be brief."
    """
    request = Request.of(max_tokens=max_tokens, temperature=temperature, top_p=top_p, seed=seed)
    with busy("loading the model") as compiling:
        conversation = Conversation(
            sources.load(model),
            request,
            system,
            engine=engine,
            precision=precision,
            cache=cache,
            compiling=compiling,
        )
    if sys.stdin.isatty() and sys.stdout.isatty():
        chat_terminal.talk(conversation)
    else:
        _answer_lines(conversation, as_json)


def _answer_lines(conversation: Conversation, as_json: bool) -> None:
    """Every line that is not empty is a question; its answer is printed as it is written."""
    for line in map(str.strip, sys.stdin):
        if not line:
            continue
        text = ""
        for piece in conversation.ask(line):
            text += piece
            if not as_json:
                print(piece, end="", flush=True)
        print(json.dumps({"question": line, "answer": text.rstrip()}) if as_json else "", flush=True)
