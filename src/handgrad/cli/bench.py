"""handgrad bench: what this machine can do, what the engine makes of it, and how a peer compares."""

import dataclasses
import json
from collections.abc import Callable
from typing import Annotated, Any, TypeVar, cast

import typer
from rich.console import Console

from handgrad.cli import bench_tables
from handgrad.engines import fits
from handgrad.engines.engine import OPTIMIZERS, Optimizer, OptimizerSettings
from handgrad.errors import UserError, require_known, require_whole
from handgrad.model.config import PRESETS
from handgrad.training.recipe import RECIPES

Result = TypeVar("Result")


def bench(
    preset: Annotated[str, typer.Option(help=f"The model: {', '.join(PRESETS)}.")] = "nano",
    batch_size: Annotated[
        int | None, typer.Option(min=1, help="Sequences a step. Default: the recipe's; a peer's: several.")
    ] = None,
    precision: Annotated[
        str,
        typer.Option(help="float32, bfloat16 (AMX), int16 (AVX2), or auto. A peer: all it has."),
    ] = "auto",
    optimizer: Annotated[
        str, typer.Option(help=f"{', '.join(OPTIMIZERS)}. Against a peer: adamw.")
    ] = "adamw",
    steps: Annotated[
        int | None, typer.Option(min=1, help="Steps to time; against a peer, steps of a turn.")
    ] = None,
    dropout: Annotated[
        float | None, typer.Option(help="Share of activations dropped. Default: the preset's; gpt2: none.")
    ] = None,
    against: Annotated[
        str | None, typer.Option(help="torch: the same model in PyTorch, turn by turn with ours.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead of tables.")] = False,
) -> None:
    """Measure this machine, where a training step's time goes, and how fast training is on it.

    Example: handgrad bench --preset baby --against torch
    """
    from handgrad.benchmark import against as peers  # they import Numba, which takes half a second
    from handgrad.benchmark import measurement, workload

    config = workload.model(preset, dropout)
    options: dict[str, Any] = {
        "batch_size": batch_size or RECIPES[preset].batch_size,
        "precision": precision,
        **({} if steps is None else {"n_steps": steps}),
    }
    if steps is not None:
        require_whole("steps", steps, least=1)
    require_known("optimizer", optimizer, OPTIMIZERS)
    if against is not None and optimizer != "adamw":
        raise UserError(f"Beside {against} both train with adamw. Leave out --optimizer {optimizer}.")
    settings = OptimizerSettings(optimizer=cast(Optimizer, optimizer))
    fits.require_training(config, options["batch_size"], "cpu", precision)
    console = Console(highlight=False, markup=False)
    about = {"preset": preset, "machine": measurement.describe_machine(), "model": dataclasses.asdict(config)}
    if against is None:
        measured = _watched(
            lambda report: measurement.measure(config, **options, settings=settings, report=report)
        )
        if as_json:
            print(json.dumps({**about, **bench_tables.measurement_json(measured)}))
        else:
            bench_tables.print_measurement(console, about, measured)
        return
    peers.require(against, preset)
    variants = peers.torch_variants([batch_size] if batch_size else peers.PEER_BATCHES[preset])
    compared = _watched(lambda report: peers.compare(config, variants, **options, report=report))
    if as_json:
        print(json.dumps({**about, **bench_tables.comparison_json(compared)}))
    else:
        bench_tables.print_comparison(console, about, compared)


def _watched(run: Callable[[Callable[[str], object]], Result]) -> Result:
    """What `run` returns; on a terminal, a line says meanwhile what it reports."""
    with Console(stderr=True, highlight=False).status("starting") as status:
        return run(status.update)
