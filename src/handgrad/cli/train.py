"""handgrad train: a text in, a model out, and something to watch meanwhile."""

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from handgrad.cli import options as command_line
from handgrad.cli.explore import beside, require_installed
from handgrad.cli.training_display import display, preparing
from handgrad.data import corpus
from handgrad.engines import xla
from handgrad.engines.processes import ALONE, Processes
from handgrad.errors import UserError
from handgrad.model.config import PRESETS
from handgrad.tokenizer import KINDS
from handgrad.training import run
from handgrad.training.clock import Clock
from handgrad.training.dial import Machine
from handgrad.training.events import Event
from handgrad.training.prepare import Asked, prepare

if TYPE_CHECKING:
    from handgrad.engines.xla.processes import Joined

WHERE = ("mesh", "distributed", "coordinator", "n_processes", "process", "log")
"""Options that say where a run is trained and shown, and nothing of what it is."""


def train(
    context: typer.Context,
    text: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="TEXT",
            help='Text files or folders; "-" is standard input. None: Python\'s own language reference.',
        ),
    ] = None,
    begin_from: Annotated[
        str | None,
        typer.Option(
            "--from", metavar="MODEL", help="Go on from a run or a model: its weights, its tokenizer."
        ),
    ] = None,
    lora: Annotated[
        int | None, typer.Option(metavar="RANK", help="With --from: learn only narrow matrices so wide.")
    ] = None,
    minutes: Annotated[
        float | None,
        typer.Option(help="Choose what makes the most of this time on this machine. Default: 1."),
    ] = None,
    plan: Annotated[bool, typer.Option("--plan", help="Show that choice, and train nothing.")] = False,
    preset: Annotated[
        str | None,
        typer.Option(help=f"Architecture and recipe: {', '.join(PRESETS)}. Then without choice."),
    ] = None,
    steps: Annotated[int | None, typer.Option(help="Training steps.")] = None,
    out: Annotated[Path | None, typer.Option(help="The run's new folder. Default: runs/PRESET-N.")] = None,
    seed: Annotated[int, typer.Option(help="The same seed gives the same model.")] = 1337,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in --out.")] = False,
    tokenizer: Annotated[
        str | None, typer.Option(help=f"{', '.join(KINDS)}. Default: characters, or bpe for long texts.")
    ] = None,
    vocab_size: Annotated[int, typer.Option(help="Tokens of the bpe tokenizer.")] = 1024,
    batch_size: Annotated[int | None, typer.Option(help="Sequences a step.")] = None,
    learning_rate: Annotated[float | None, typer.Option(help="The largest of the schedule.")] = None,
    optimizer: Annotated[
        str | None, typer.Option(help="adamw; or muon, for the matrices of the blocks.")
    ] = None,
    context_length: Annotated[int | None, typer.Option(help="The most tokens attended to.")] = None,
    n_layers: Annotated[int | None, typer.Option(help="Layers.")] = None,
    n_heads: Annotated[int | None, typer.Option(help="Attention heads a layer.")] = None,
    d_model: Annotated[int | None, typer.Option(help="Width of the residual stream.")] = None,
    dropout: Annotated[
        float | None, typer.Option(help="Share of activations dropped while training.")
    ] = None,
    engine: Annotated[
        str, typer.Option(help="cpu: fast kernels; xla: GPUs, with JAX; reference: the formulas themselves.")
    ] = "cpu",
    precision: Annotated[
        str,
        typer.Option(help="float32, bfloat16 (with AMX, or xla), int16 (with AVX2), or auto."),
    ] = "auto",
    mesh: Annotated[
        str | None, typer.Option(help="Devices for xla: data=8, or fsdp=8, or data=4,model=2.")
    ] = None,
    distributed: Annotated[
        bool,
        typer.Option("--distributed", help="This is one of several processes, on one machine or on many."),
    ] = False,
    coordinator: Annotated[
        str | None, typer.Option(help="The first process's HOST:PORT; SLURM, Open MPI, Kubernetes tell it.")
    ] = None,
    n_processes: Annotated[int | None, typer.Option("--processes", help="How many, likewise.")] = None,
    process: Annotated[int | None, typer.Option(help="This one's number from 0, likewise.")] = None,
    eval_every: Annotated[int | None, typer.Option(help="Steps between evaluations.")] = None,
    keep: Annotated[
        str, typer.Option(metavar="N", help="Checkpoints to keep, one an evaluation; or all.")
    ] = "1",
    log: Annotated[
        list[str] | None,
        typer.Option(
            "--log", metavar="WHERE", help="Show losses there, too: tensorboard, wandb. May be repeated."
        ),
    ] = None,
    setting: Annotated[
        list[str] | None,
        typer.Option(
            "--set", help="Any other option of model or recipe: --set activation=silu --set gated=true."
        ),
    ] = None,
    explored: Annotated[
        bool, typer.Option("--explore", help="Serve a page meanwhile that shows the model at work.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print events as JSON, one a line.")] = False,
) -> None:
    """Train a transformer on text, and watch it learn to write.

    Example: handgrad train book.txt --steps 2000 --out runs/book
    """
    named = {
        "minutes": minutes, "steps": steps, "batch_size": batch_size, "learning_rate": learning_rate,
        "eval_every": eval_every, "context_length": context_length, "n_layers": n_layers,
        "n_heads": n_heads, "d_model": d_model, "dropout": dropout, "optimizer": optimizer,
        "lora_rank": lora,
    }  # fmt: skip
    options = {name: value for name, value in named.items() if value is not None} | command_line.settings(
        setting or []
    )
    processes: Processes = ALONE
    if distributed:
        joined = _joined(None if resume else engine, coordinator, n_processes, process)
        processes, mesh = joined, mesh or joined.mesh
    machine = Machine(engine, precision, mesh)
    asked = Asked(preset, seed, tokenizer, vocab_size, machine, options, begin_from, keep, tuple(log or ()))
    if distributed and not resume and asked.configured().recipe.minutes is not None:
        raise UserError(
            "Several processes train for a number of steps, not of minutes: each would measure another "
            "speed. Name --steps, or a --preset with its own."
        )

    def created() -> str:
        texts = corpus.open_corpus(text or [])
        if distributed and out and run.begun(out, texts, asked):
            return str(out)  # a scheduler starts the same command again
        with preparing(as_json) as report:
            return str(run.create(texts, asked, out, report))

    if explored:
        require_installed()
    if plan:
        with preparing(as_json) as report:
            prepare(corpus.open_corpus(text or []), asked, Clock(report))
        return
    folder = _resumed(out, context) if resume else Path(processes.agreed(created))
    shown = display(folder, as_json, mesh) if processes.leads else contextlib.nullcontext(_silent)
    page = beside(folder) if explored and processes.leads else contextlib.nullcontext()
    with page, shown as report:
        done = run.resume(
            folder, mesh=mesh, processes=processes, log=log or () if resume else (), report=report
        )
    if not done and processes.leads:
        again = "" if mesh is None else f" --mesh {mesh}"
        typer.echo(f"Stopped and saved. Go on with: handgrad train --resume --out {folder}{again}", err=True)
    if not done:
        raise typer.Exit(130)


def _joined(
    engine: str | None, coordinator: str | None, n_processes: int | None, process: int | None
) -> "Joined":
    if engine not in (None, "xla"):
        raise UserError(
            f"Several processes train together on the xla engine; this is {engine}. Take --engine xla, or "
            f"leave out --distributed."
        )
    xla.require_jax()
    from handgrad.engines.xla import processes

    return processes.join(coordinator, n_processes, process)


def _silent(event: Event) -> None:
    """Of several processes only the first reports."""


def _resumed(out: Path | None, context: typer.Context) -> Path:
    given = command_line.given(context)
    if out is None:
        raise UserError("--resume goes on with a run, so it needs its folder: --resume --out runs/quick-1.")
    if given - {"resume", "out", "explored", "as_json", *WHERE}:
        raise UserError(
            "--resume goes on exactly as the run began, so it takes no text and no other option than --out, "
            "and where it runs: --mesh, --distributed, --log. Leave them out, or start a new run."
        )
    return out
