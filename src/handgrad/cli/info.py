"""handgrad info: what a run, or a preset, is and costs."""

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from handgrad import engines
from handgrad.engines.engine import Memory
from handgrad.model.config import PRESETS, ModelConfig
from handgrad.model.count import Count, count
from handgrad.training import run as runs
from handgrad.training.recipe import RECIPES


def info(
    run: Annotated[str, typer.Argument(help=f"The folder of a run, or a preset: {', '.join(PRESETS)}.")],
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object instead of a table.")
    ] = False,
) -> None:
    """Show what a run or a preset is: architecture, recipe, cost, and how far it is trained.

    Example: handgrad info runs/nano-1
    """
    about = runs.about(run) if run not in PRESETS or Path(run).is_dir() else _preset(run)
    config = ModelConfig(**about["model"])
    cost = count(config)
    memory = engines.get("cpu").memory(config, about["recipe"]["batch_size"])
    if as_json:
        needed = {**memory._asdict(), "total": memory.total}
        print(json.dumps({**about, "cost": dataclasses.asdict(cost), "memory": needed}))
        return
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for title, text in _rows(about, cost, memory).items():
        table.add_row(title, text)
    Console(highlight=False, markup=False).print(table)


def _preset(name: str) -> dict[str, Any]:
    return {
        "preset": name,
        "model": dataclasses.asdict(PRESETS[name]),
        "recipe": dataclasses.asdict(RECIPES[name]),
    }


def _rows(about: dict[str, Any], cost: Count, memory: Memory) -> dict[str, str]:
    rows = {"preset": about.get("preset", "-")}
    if "steps_done" in about:
        best = about["best_validation_loss"]
        rows["text"] = f"{about['text']}, {about['n_tokens']:,} tokens"
        rows["trained"] = (
            f"{about['steps_done']:,} of {about['recipe']['steps']:,} steps, seed {about['seed']}"
        )
        rows["validation loss"] = (
            f"{best:.4f} nats a token (best)" if best is not None else "not evaluated yet"
        )
        rows["baselines"] = ", ".join(f"{name} {loss:.3f}" for name, loss in about["baselines"].items())
    return {
        **rows,
        "parameters": f"{cost.parameters:,}",
        "training": f"{cost.training_flops_per_token / 1e6:,.1f} MFLOP a token",
        "memory to train": f"{_megabytes(memory.total)} here, in batches of "
        f"{about['recipe']['batch_size']}: " + ", ".join(_parts(memory)),
        "writing": f"{cost.forward_flops_per_token / 1e6:,.1f} MFLOP a token, "
        f"{cost.weight_bytes / 1e6:,.1f} MB of weights, {cost.kv_cache_bytes_per_token:,} bytes of KV cache "
        f"a token",
        "model": _listed(about["model"]),
        "recipe": _listed(about["recipe"]),
    }


def _parts(memory: Memory) -> Iterator[str]:
    names = {"weights": "weights and moments", "panels": "packed weights", "process": "Python"}
    for name, size in memory._asdict().items():
        yield f"{names.get(name, name)} {_megabytes(size)}"


def _megabytes(size: int) -> str:
    return f"{size / 1e6:,.0f} MB"


def _listed(options: dict[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in options.items() if value is not None)
