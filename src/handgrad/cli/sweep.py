"""handgrad sweep: the same training with other numbers, and which of them learn best."""

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from handgrad.cli import options
from handgrad.errors import UserError
from handgrad.model.config import PRESETS
from handgrad.tokenizer import KINDS
from handgrad.training.events import Compiling, Evaluated, Event, Preparing, StepDone
from handgrad.training.sweeps import over as values
from handgrad.training.sweeps import sweep as sweeps
from handgrad.training.sweeps.events import TrialBegun, TrialDone, listed, outcome, shown
from handgrad.training.sweeps.pictures import PICTURE
from handgrad.training.sweeps.record import TRIALS, Record
from handgrad.training.sweeps.sweep import Report, Sweep

ONLY_WITH_RESUME = {"resume", "out", "as_json"}


def sweep(
    context: typer.Context,
    text: Annotated[
        list[str] | None,
        typer.Argument(metavar="TEXT", help="Text files or folders. None: Python's own language reference."),
    ] = None,
    over: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=VALUES",
            help="What to try: d_model=64,128 or learning_rate=1e-3:3e-2:log. May be repeated.",
        ),
    ] = None,
    trials: Annotated[
        int | None, typer.Option(help="Runs to make. Default: 12, or as many as a list has values.")
    ] = None,
    early_stopping: Annotated[
        bool, typer.Option(help="Stop a run that is worse than half of those before.")
    ] = True,
    minutes: Annotated[float | None, typer.Option(help="Time for each run. Default: 1.")] = None,
    steps: Annotated[int | None, typer.Option(help="Or its training steps.")] = None,
    preset: Annotated[
        str | None, typer.Option(help=f"Architecture and recipe: {', '.join(PRESETS)}.")
    ] = None,
    begin_from: Annotated[
        str | None, typer.Option("--from", metavar="MODEL", help="Go on from a run or a model, as in train.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="The sweep's new folder. Default: sweeps/PRESET-N.")
    ] = None,
    seed: Annotated[int, typer.Option(help="The same for all runs.")] = 1337,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the sweep in --out.")] = False,
    tokenizer: Annotated[str | None, typer.Option(help=f"{', '.join(KINDS)}. As in train.")] = None,
    vocab_size: Annotated[int, typer.Option(help="Tokens of the bpe tokenizer.")] = 1024,
    engine: Annotated[str, typer.Option(help="cpu, xla or reference. As in train.")] = "cpu",
    precision: Annotated[str, typer.Option(help="As in train.")] = "auto",
    setting: Annotated[
        list[str] | None,
        typer.Option("--set", help="Any option of model or recipe, for all runs: --set dropout=0.1."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print events as JSON, one a line.")] = False,
) -> None:
    """Find the options that learn best: train once for each of some values, and compare.

    Example: handgrad sweep book.txt --over learning_rate=1e-3:3e-2:log --over d_model=64,128 --minutes 0.5
    """
    folder = _resumed(out, context) if resume else None
    named = {"minutes": minutes, "steps": steps}
    common = {name: it for name, it in named.items() if it is not None} | options.settings(setting or [])
    if folder is None:
        with _display(as_json) as report:
            folder = sweeps.create(
                text or [], over=values.split(over or []), trials=trials, early_stopping=early_stopping,
                begin_from=begin_from, preset=preset, out=out, seed=seed, tokenizer=tokenizer,
                vocab_size=vocab_size, engine=engine, precision=precision, report=report, **common,
            )  # fmt: skip
    try:
        with _display(as_json) as report:
            done = sweeps.resume_sweep(folder, report=report)
    except KeyboardInterrupt:
        typer.echo(f"Stopped and saved. Go on with: handgrad sweep --resume --out {folder}", err=True)
        raise typer.Exit(130) from None
    if as_json:
        best = None if done.best is None else str(done.best)
        print(json.dumps({"event": "end", "folder": str(folder), "best": best}), flush=True)
    else:
        _print_end(done)


def _resumed(out: Path | None, context: typer.Context) -> Path:
    given = options.given(context)
    if out is None:
        raise UserError(
            "--resume goes on with a sweep, so it needs its folder: --resume --out sweeps/quick-1."
        )
    if given - ONLY_WITH_RESUME:
        raise UserError(
            "--resume goes on exactly as the sweep began, so it takes no text and no other option than "
            "--out. Leave them out, or start a new sweep."
        )
    return out


@contextlib.contextmanager
def _display(as_json: bool) -> Iterator[Report]:
    """A line for each trial; on a terminal, below it, what the present one does."""
    console = Console(highlight=False)
    if as_json:
        yield _print_json
        return
    if not console.is_terminal:
        yield sweeps.print_trials
        return
    with console.status("getting ready") as status:
        head = ""

        def report(event: Event | TrialBegun | TrialDone) -> None:
            nonlocal head
            if isinstance(event, TrialDone):
                console.print(str(event), markup=False)
            elif isinstance(event, TrialBegun):
                head = f"trial {event.trial.number} of {event.n_trials}  {listed(event.trial.options)}  "
                status.update(Text(head))
            elif (doing := _doing(event)) is not None:
                status.update(Text(head + doing))

        yield report


def _doing(event: Event) -> str | None:
    if isinstance(event, Preparing):
        return event.doing
    if isinstance(event, Compiling):
        return f"compiling: {event.n} {event.kernel}"
    if isinstance(event, StepDone):
        return f"step {event.step:,} of {event.expected_steps:,}  loss {event.loss:.3f}"
    return None


def _print_json(event: Event | TrialBegun | TrialDone) -> None:
    if isinstance(event, TrialDone):
        trial = event.trial
        row: dict[str, Any] = {"trial": trial.number, "options": trial.options, "state": trial.state}
        row |= {"loss": trial.loss, "bits_per_byte": trial.bits_per_byte, "steps": trial.steps}
        print(json.dumps({"event": "trial", **row, "is_best": event.is_best}), flush=True)
    elif isinstance(event, Evaluated):
        print(json.dumps({"event": "evaluation", **event._asdict()}), flush=True)


def _print_end(done: Sweep) -> None:
    console = Console(highlight=False)
    console.print()
    console.print(_table(done.record))
    lines = ["", *done.record.hints] if done.record.hints else []
    lines += [f"\nPicture: {done.folder / PICTURE}", f"Table: {done.folder / TRIALS}"]
    if done.best is not None:
        lines.append(f'Let the best one write: handgrad generate {done.best} "The "')
    console.print(*lines, sep="\n", soft_wrap=True, markup=False)


def _table(record: Record) -> Table:
    table = Table(box=None, pad_edge=False)
    table.add_column("trial", justify="right")
    for name in record.over:
        table.add_column(name, justify="right")
    for name in ("loss", "bits a byte", "steps", "seconds"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("")
    for it in record.ranked:
        numbers = ["" if n is None else f"{n:.3f}" for n in (it.loss, it.bits_per_byte)]
        done = [*numbers, f"{it.steps:,}", f"{it.seconds:.0f}"] if it.loss is not None else [""] * 4
        is_best = record.best is not None and it.number == record.best.number
        finished = "best" if is_best else ""
        note = finished if it.state == "finished" else outcome(it, False) if it.loss is None else it.state
        row = [str(it.number), *(shown(it.options.get(name)) for name in record.over), *done, note]
        table.add_row(*map(Text, row), style="bold" if is_best else None)
    return table
