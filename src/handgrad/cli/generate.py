"""handgrad generate: a trained model continues a prompt, or many."""

import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from handgrad.cli import generated
from handgrad.cli.busy import busy
from handgrad.data import files
from handgrad.errors import UserError, require_known
from handgrad.formats import sources
from handgrad.formats.model_folder import Model
from handgrad.generation import prompts, stream
from handgrad.generation.batch import AT_ONCE, complete, completion
from handgrad.generation.beam import beam_search
from handgrad.generation.request import WHEN_FULL, Request

EARLY_STOPPING: dict[str, bool | str] = {"false": False, "true": True, "never": "never"}
"""As transformers calls them."""
AS_USUAL = {"length_penalty": 1.0, "early_stopping": "false"}
LONGEST_SCHEMA = 1 << 22
"""Bytes."""


_choosing = partial(typer.Option, rich_help_panel="How the next token is chosen")
_ending = partial(typer.Option, rich_help_panel="When the text is over")
_searching = partial(typer.Option, rich_help_panel="Search for the likeliest text")
_computing = partial(typer.Option, rich_help_panel="Who computes, and how fast")
_showing = partial(typer.Option, rich_help_panel="Many prompts, and output for programs")


def generate(
    run: Annotated[str, typer.Argument(metavar="MODEL", help="A run, or any model that handgrad reads.")],
    prompt: Annotated[str | None, typer.Argument(metavar="PROMPT", help="The text to continue.")] = None,
    max_tokens: Annotated[int, _ending(help="Tokens to write at most.")] = 200,
    stop: Annotated[
        list[str] | None,
        _ending(metavar="TEXT", help="Ends the text, and is not part of it. May be repeated."),
    ] = None,
    when_full: Annotated[
        str,
        _ending(
            metavar="|".join(WHEN_FULL),
            help="When the context is full: forget its older half, or end the text.",
        ),
    ] = WHEN_FULL[0],
    temperature: Annotated[float, _choosing(help="0: always the likeliest; 1: as the model has it.")] = 0.8,
    seed: Annotated[int, _choosing(help="The same seed writes the same text.")] = 0,
    top_k: Annotated[int | None, _choosing(help="Choose among the K likeliest tokens.")] = None,
    top_p: Annotated[float | None, _choosing(help="Choose among the likeliest that sum to P.")] = None,
    min_p: Annotated[
        float | None,
        _choosing(help="Choose among those with this share of the likeliest one's probability."),
    ] = None,
    repetition_penalty: Annotated[
        float, _choosing(help="Above 1: tokens of prompt and text become less likely.")
    ] = 1.0,
    presence_penalty: Annotated[
        float, _choosing(help="Taken from the logit of every token written so far.")
    ] = 0.0,
    frequency_penalty: Annotated[float, _choosing(help="Taken from it for every time it was written.")] = 0.0,
    dry_multiplier: Annotated[
        float, _choosing(help="DRY, against long repetitions: 0 turns it off, 0.8 is usual.")
    ] = 0.0,
    dry_base: Annotated[float, _choosing(help="DRY grows by this factor with every token repeated.")] = 1.75,
    dry_allowed_length: Annotated[
        int, _choosing(help="The shortest repetition that DRY counts, in tokens.")
    ] = 2,
    logit_bias: Annotated[
        list[str] | None,
        _choosing(metavar="TOKEN=NUMBER", help="Added to the logit of a token id. May be repeated."),
    ] = None,
    schema: Annotated[
        str | None, _choosing(help="A JSON schema that the text follows, or a file with one.")
    ] = None,
    regex: Annotated[str | None, _choosing(help="A regular expression that the text matches.")] = None,
    beams: Annotated[
        int | None, _searching(help="Follow so many texts at once, and take the likeliest; nothing is drawn.")
    ] = None,
    length_penalty: Annotated[
        float,
        _searching(
            help="Of beams. 1: by the mean log-probability; more favours long texts, less short ones."
        ),
    ] = 1.0,
    early_stopping: Annotated[
        str,
        _searching(
            metavar="|".join(EARLY_STOPPING),
            help="Of beams: whether to stop once so many are finished, or wait for a better one.",
        ),
    ] = "false",
    engine: Annotated[
        str, _computing(help="auto; cpu: fast kernels; xla: JAX; reference: the formulas themselves.")
    ] = stream.AUTO,
    precision: Annotated[
        str, _computing(help="auto, float32, bfloat16; with cpu also int8, and blocks: as a GGUF has them.")
    ] = "auto",
    cache: Annotated[
        str, _computing(help="auto, float32, bfloat16; with cpu also int8: what keys and values are kept in.")
    ] = "auto",
    draft: Annotated[
        str | None, _computing(help="Guess ahead, with the same text in the end: lookup, or a smaller model.")
    ] = None,
    prompts_file: Annotated[
        Path | None,
        _showing(
            "--prompts",
            metavar="FILE",
            help="One prompt a line, or JSON lines with settings of their own; a JSON line answers each.",
        ),
    ] = None,
    at_once: Annotated[int, _showing(help="Of many prompts, how many are written at once.")] = AT_ONCE,
    as_json: Annotated[bool, _showing("--json", help="Print one JSON object instead of the text.")] = False,
    log_probabilities: Annotated[
        int | None,
        _showing(metavar="N", help="With --json: of each token, and of its N likeliest alternatives."),
    ] = None,
) -> None:
    """Continue PROMPT with a model, or every prompt of a file.

    Example: handgrad generate runs/quick-1 "ROMEO:" --temperature 0.7
    """
    settings = {
        "max_tokens": max_tokens, "temperature": temperature, "top_k": top_k, "top_p": top_p, "min_p": min_p,
        "repetition_penalty": repetition_penalty, "presence_penalty": presence_penalty,
        "frequency_penalty": frequency_penalty, "dry_multiplier": dry_multiplier, "dry_base": dry_base,
        "dry_allowed_length": dry_allowed_length,
        "logit_bias": _biases(logit_bias or []), "stop": stop or (), "schema": _schema(schema),
        "regex": regex, "when_full": when_full, "log_probabilities": log_probabilities, "seed": seed,
    }  # fmt: skip
    search = {"length_penalty": length_penalty, "early_stopping": early_stopping}
    _require_one(prompt, prompts_file)
    _require_alone({"--prompts": prompts_file, "--beams": beams, "--draft": draft})
    if beams is None and search != AS_USUAL:
        raise UserError("--length-penalty and --early-stopping are for --beams. Add --beams 4.")
    asked = prompts.read(prompts_file, settings) if prompts_file else None
    request = prompts.request(settings)
    with busy("loading the model"):
        model = sources.load(run)
    where = {"engine": engine, "precision": precision, "cache": cache}
    if asked is not None:
        _many(model, asked, at_once, where)
    elif beams is not None:
        _search(model, prompt or "", request, beams, as_json, search | where)
    else:
        _one(model, prompt or "", request, draft, as_json, where)


def _one(
    model: Model, prompt: str, request: Request, draft: str | None, as_json: bool, where: dict[str, Any]
) -> None:
    other = draft if draft in (None, "lookup") else sources.load(draft)
    with busy("getting ready") as compiling:
        writer, pieces = stream.begun(model, prompt, request, draft=other, compiling=compiling, **where)
    started = time.perf_counter()
    if as_json:
        done = completion(writer, list(pieces))
        print(json.dumps(generated.row(model, prompt, request, done, time.perf_counter() - started)))
        return
    generated.stream(prompt, pieces)
    generated.tell(writer, time.perf_counter() - started)


def _many(model: Model, asked: list[prompts.Asked], at_once: int, where: dict[str, Any]) -> None:
    """A line each, in the order of the file."""
    texts, requests = [each.prompt for each in asked], [each.request for each in asked]
    rows, n_told, output = dict[int, dict[str, Any]](), 0, sys.stdout
    with busy("getting ready") as compiling:
        done = complete(model, texts, requests, at_once=at_once, compiling=compiling, **where)
    started = time.perf_counter()
    with _beside_the_output() as tell:
        for n_done, (number, each) in enumerate(done, 1):
            seconds = time.perf_counter() - started
            rows[number] = generated.row(model, texts[number], requests[number], each, seconds)
            while n_told in rows:
                print(json.dumps(rows.pop(n_told)), file=output, flush=True)
                n_told += 1
            tell(f"{n_done:,} of {len(texts):,} answered")


def _search(
    model: Model, prompt: str, request: Request, beams: int, as_json: bool, how: dict[str, Any]
) -> None:
    if request != Request.of(max_tokens=request.max_tokens, seed=request.seed):
        raise UserError(
            "--beams looks for the likeliest text and draws nothing: it takes --max-tokens, --length-penalty "
            "and --early-stopping. Leave the others out."
        )
    require_known("early stopping", how["early_stopping"], EARLY_STOPPING)
    how["early_stopping"] = EARLY_STOPPING[how["early_stopping"]]
    with busy("getting ready") as compiling:
        found = beam_search(
            model, prompt, n_beams=beams, max_tokens=request.max_tokens, compiling=compiling, **how
        )
    texts = [generated.text(model, beam.token_ids) for beam in found]
    if as_json:
        told = [{"completion": text, "score": beam.score} for text, beam in zip(texts, found, strict=True)]
        print(json.dumps({"prompt": prompt, "beams": told}))
    else:
        generated.stream(prompt, iter(texts[:1]))


@contextmanager
def _beside_the_output() -> Iterator[Callable[[str], object]]:
    """Where progress is told: in the terminal, unless the output itself is there."""
    if sys.stdout.isatty():
        yield lambda progress: None
    else:
        with Console(stderr=True).status("writing") as status:  # it takes sys.stdout for itself
            yield status.update


def _require_one(prompt: str | None, prompts_file: Path | None) -> None:
    if (prompt is None) == (prompts_file is None):
        raise UserError(
            'Give a prompt, or a file of them: handgrad generate MODEL "The ", or --prompts FILE.'
        )


def _require_alone(given: dict[str, Any]) -> None:
    """These are ways of writing, each another one."""
    names = [name for name, value in given.items() if value is not None]
    if len(names) > 1:
        raise UserError(f"{names[0]} and {names[1]} do not go together. Leave one of them out.")


def _schema(given: str | None) -> str | None:
    """A schema as it is, or the text of the file that is named."""
    if given is None or given.lstrip().startswith("{"):
        return given
    return files.read_text(Path(given), LONGEST_SCHEMA)


def _biases(given: list[str]) -> dict[int, float]:
    biases = {}
    for each in given:
        token_id, _, value = each.partition("=")
        try:
            biases[int(token_id)] = float(value)
        except ValueError:
            raise UserError(f"A bias is TOKEN=NUMBER, such as 13=-5; got {each!r}.") from None
    return biases
