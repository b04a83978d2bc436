"""handgrad info: what a run, a model, or a preset is and costs."""

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import typer
from rich.console import Console
from rich.table import Table

from handgrad import engines
from handgrad.engines import lora
from handgrad.engines.engine import Memory
from handgrad.errors import UserError
from handgrad.formats import sources
from handgrad.model.config import PRESETS, ModelConfig
from handgrad.model.count import Count, count
from handgrad.training import checkpoint
from handgrad.training import run as runs
from handgrad.training.recipe import RECIPES, Recipe
from handgrad.training.run import About
from handgrad.training.run_config import RunConfig

CHECKPOINT = ("checkpoint", "checkpoint_step")
"""A checkpoint's file and its step, in JSON."""


class Shown(NamedTuple):
    """What there is to show."""

    model: ModelConfig
    recipe: Recipe | None = None
    """None for a model that was saved without."""
    preset: str | None = None
    engine: str = "cpu"
    precision: str = "auto"
    mesh: str | None = None
    run: About | None = None
    checkpoint: tuple[str, int] | None = None
    """Its file and its step, where one was named."""


def info(
    run: Annotated[
        str,
        typer.Argument(
            metavar="MODEL", help=f"A run, any model that handgrad reads, or a preset: {', '.join(PRESETS)}."
        ),
    ],
    mesh: Annotated[
        str | None, typer.Option(help="Devices for xla: memory is that of each. As in train.")
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object instead of a table.")
    ] = False,
) -> None:
    """Show what a run, a model or a preset is: architecture, recipe, cost, and how far it is trained.

    Example: handgrad info runs/quick-1
    """
    what = _found(run)
    if mesh is not None:
        what = what._replace(engine="xla" if what.run is None else what.engine, mesh=mesh)
    cost = count(what.model)
    memory = _memory(what)
    if as_json:
        needed = {**memory._asdict(), "total": memory.total} if memory else None
        print(json.dumps({**_as_json(what), "cost": dataclasses.asdict(cost), "memory": needed}))
        return
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for title, text in _rows(what, cost, memory).items():
        table.add_row(title, text)
    Console(highlight=False, markup=False).print(table)


def described(config: ModelConfig) -> str:
    """A model in a line."""
    return f"{count(config).parameters:,} parameters, {_listed(dataclasses.asdict(config))}"


def _found(name: str) -> Shown:
    if name in PRESETS and not Path(name).is_dir():
        return Shown(PRESETS[name], RECIPES[name], name)
    found = sources.checkpoint_of(name)
    folder = found[0] if found else name
    if not sources.is_run(folder):
        return Shown(sources.read_config(name))
    about = runs.about(folder)
    run = about.config
    named = (found[1], checkpoint.step(found[0] / found[1])) if found else None
    return Shown(run.model, run.recipe, run.preset, run.engine, run.precision, None, about, named)


def _memory(what: Shown) -> Memory | None:
    """What training takes on this machine; None where it is not trained, or not on a processor like this."""
    if what.recipe is None:
        return None
    engine = engines.get(what.engine, what.mesh)
    try:
        engine.require(what.precision)
    except UserError:
        if what.mesh is None:
            return None  # with a mesh, devices may be another machine's
    memory = engine.memory(what.recipe.trained(what.model), what.recipe.batch_size, what.precision)
    rank = what.recipe.lora_rank
    return memory if rank is None else lora.memory(what.model, memory, rank)


def _as_json(what: Shown) -> dict[str, Any]:
    model = dataclasses.asdict(what.model)
    if what.recipe is None:
        return {"model": model}
    if what.run is None:
        return {"preset": what.preset, "model": model, "recipe": dataclasses.asdict(what.recipe)}
    return {
        **what.run.config.to_json(),
        "steps_done": what.run.steps_done,
        **({} if what.checkpoint is None else dict(zip(CHECKPOINT, what.checkpoint, strict=True))),
        "best_validation_loss": what.run.best_validation_loss,
        "best_bits_per_byte": what.run.best_bits_per_byte,
        "finding": what.run.finding and what.run.finding._asdict(),
        "validation_curve": [row._asdict() for row in what.run.evaluations],
    }


def _rows(what: Shown, cost: Count, memory: Memory | None) -> dict[str, str]:
    rows = {} if what.preset is None else {"preset": what.preset}
    if what.run is not None:
        rows |= _progress(what.run)
    if what.checkpoint is not None:
        rows["checkpoint"] = "{}, after step {:,}".format(*what.checkpoint)
    rows["parameters"] = f"{cost.parameters:,}"
    rows["training"] = f"{cost.training_flops_per_token / 1e6:,.1f} MFLOP a token"
    if what.recipe is not None and memory is not None:
        parts = ", ".join(_parts(memory))
        batch = what.recipe.batch_size
        where = "here" if what.mesh is None else f"on each device of {what.mesh}"
        rows["memory to train"] = f"{_megabytes(memory.total)} {where}, in batches of {batch}: {parts}"
    caches = ", ".join(f"{size:,} in {kind}" for kind, size in cost.kv_cache_bytes_per_token.items())
    rows["writing"] = (
        f"{cost.forward_flops_per_token / 1e6:,.1f} MFLOP a token, {_megabytes(cost.weight_bytes, 1)} of "
        f"weights in float32; bytes of KV cache a token: {caches}"
    )
    rows["model"] = _listed(dataclasses.asdict(what.model))
    if what.recipe is not None:
        rows["recipe"] = _listed(dataclasses.asdict(what.recipe))
    return rows


def _progress(run: About) -> dict[str, str]:
    config, best = run.config, run.best_validation_loss
    baselines = [
        ", ".join(f"{name} {measured(loss):.2f}" for name, loss in config.baselines.items())
        for measured in (float, config.bits_per_byte)
    ]
    rows = {"begun from": config.begun_from} if config.begun_from else {}
    rows |= {
        "text": f"{config.text}, {config.n_tokens:,} tokens; to validate: "
        f"{config.validation_tokens:,} tokens, {config.validation_bytes:,} bytes",
        "trained": f"{run.steps_done:,} of {run.expected_steps:,} steps, seed {config.seed}",
        "validation loss": "not evaluated yet" if best is None else f"{_both(config, best)} (best)",
        "baselines": f"{baselines[0]} nats a token\n{baselines[1]} bits a byte",
    }
    if losses := run.losses_before_and_after:
        rows["before, after"] = "{:.4f}, {:.4f} nats a token".format(*losses)
    return rows | ({} if run.finding is None else {"advice": run.finding.sentence})


def _both(config: RunConfig, loss: float) -> str:
    return f"{loss:.4f} nats a token, {config.bits_per_byte(loss):.4f} bits a byte"


def _parts(memory: Memory) -> Iterator[str]:
    names = {"weights": "weights and moments", "panels": "packed weights", "process": "Python"}
    for name, size in memory._asdict().items():
        yield f"{names.get(name, name)} {_megabytes(size)}"


def _megabytes(size: int, digits: int = 0) -> str:
    return f"{size / 1e6:,.{digits}f} MB"


def _listed(options: dict[str, Any]) -> str:
    """Names and values on one line; a table in a table stands in brackets."""
    texts = {
        name: f"({_listed(value)})" if isinstance(value, dict) else value for name, value in options.items()
    }
    return ", ".join(f"{name} {text}" for name, text in texts.items() if text is not None)
