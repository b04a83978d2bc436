"""What a training run prints: a live line on a terminal, plain lines in a pipe, or JSON."""

import contextlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.padding import Padding
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from handgrad import engines, tree
from handgrad.engines import lora
from handgrad.model.count import count
from handgrad.training import curves, run
from handgrad.training.dial import Reason
from handgrad.training.events import (
    Advised,
    Compiling,
    Evaluated,
    Event,
    Planned,
    Preparing,
    Skipped,
    StepDone,
)
from handgrad.training.run import About
from handgrad.training.run_config import RunConfig

SMOOTHING = 0.9
SAMPLE_LINES = 6


@contextlib.contextmanager
def display(folder: Path, as_json: bool, mesh: str | None = None) -> Iterator[Callable[[Event], None]]:
    """Opens a display; yields the function that events are reported to."""
    about = run.about(folder)
    if as_json:
        print(json.dumps({"event": "start", "folder": str(folder), **_head(about)}), flush=True)
        yield _print_json
        return
    console = Console(highlight=False)
    _print_head(console, folder, about, mesh)
    if console.is_terminal:
        yield from _live(console, about)
    else:
        yield run.print_evaluations
    final = run.about(folder)
    if final.is_finished:
        _print_end(console, folder, final)


@contextlib.contextmanager
def preparing(as_json: bool) -> Iterator[Callable[[Event], None]]:
    """Shows what is done before training begins, and what was chosen for given minutes."""
    console = Console(highlight=False)
    with Console(stderr=True).status("getting ready") as status:

        def report(event: Event) -> None:
            if isinstance(event, Preparing):
                status.update(event.doing)
            elif isinstance(event, Compiling):
                status.update(f"compiling, once for this machine: {event.n} {event.kernel}")
            elif isinstance(event, Planned) and as_json:
                choices = {reason.what: reason.choice for reason in event.reasons}
                print(json.dumps({"event": "plan", **choices}), flush=True)
            elif isinstance(event, Planned):
                console.print(_plan_table(event.reasons))

        yield report


def _plan_table(reasons: list[Reason]) -> Table:
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column()
    for reason in reasons:
        table.add_row(reason.what, f"[bold]{escape(reason.choice)}[/]", f"[dim]{escape(reason.why)}[/]")
    return table


def _head(about: About) -> dict[str, int]:
    config = about.config
    return {
        "parameters": count(config.model).parameters,
        "tokens_per_step": config.recipe.batch_size * config.trained.context_length,
    }


def _print_head(console: Console, folder: Path, about: About, mesh: str | None) -> None:
    config, model, head = about.config, about.config.model, _head(about)
    most = "at most " if config.conversations else ""
    preset, text, where = (f"[bold]{escape(str(what))}[/]" for what in (config.preset, config.text, folder))
    console.print(
        f"{preset}  {head['parameters']:,} parameters, {model.n_layers} layers, {model.n_heads} heads, "
        f"{model.d_model} wide, context {model.context_length}",
        f"{text}  {_read(config)}, {model.vocab_size} different",
        f"{where}  {_length(about)} of {most}{head['tokens_per_step']:,} tokens",
        *([f"begun from [bold]{escape(config.begun_from)}[/]"] if config.begun_from else []),
        *_adaptation(config),
        f"[bold]{config.engine}[/] engine  {engines.get(config.engine, mesh).describe(config.precision)}",
        sep="\n",
        soft_wrap=not console.is_terminal,
    )
    if about.steps_done:
        console.print(f"Going on after step {about.steps_done:,}.")
    baselines = ", ".join(
        f"{name} {loss:.2f} ({config.bits_per_byte(loss):.2f})" for name, loss in config.baselines.items()
    )
    console.print(
        f"[dim]Losses are in nats a token (bits a byte). To beat: {baselines}.[/]\n",
        soft_wrap=not console.is_terminal,
    )


def _adaptation(config: RunConfig) -> list[str]:
    """What LoRA learns, and the memory that it takes."""
    rank, recipe = config.recipe.lora_rank, config.recipe
    if rank is None:
        return []
    whole = engines.get(config.engine).memory(config.trained, recipe.batch_size, config.precision)
    n_learned = tree.size(lora.shapes(config.model, rank))
    megabytes = lora.memory(config.model, whole, rank).total / 1e6
    return [f"LoRA  rank {rank}: {n_learned:,} numbers are learned, in {megabytes:,.0f} MB of memory"]


def _read(config: RunConfig) -> str:
    conversations = f"{config.conversations:,} conversations, " if config.conversations else ""
    return f"{conversations}{config.n_tokens:,} tokens"


def _length(about: About) -> str:
    recipe = about.config.recipe
    if recipe.minutes is None:
        return f"{recipe.steps:,} steps"
    return f"{recipe.duration}, about {about.expected_steps:,} steps"


def _print_json(event: Event) -> None:
    names = {Evaluated: "evaluation", Advised: "advice", Skipped: "skipped"}
    if isinstance(event, Evaluated | Advised | Skipped):
        print(json.dumps({"event": names[type(event)], **event._asdict()}), flush=True)


def _live(console: Console, about: About) -> Iterator[Callable[[Event], None]]:
    columns = (
        BarColumn(bar_width=None),
        MofNCompleteColumn(),
        TextColumn("{task.fields[status]}"),
        TimeRemainingColumn(),
    )
    losses = [row.validation_loss for row in about.evaluations]
    with Progress(*columns, console=console, expand=True) as progress:
        task = progress.add_task(
            "train",
            total=about.expected_steps,
            completed=about.steps_done,
            status="getting ready",
        )
        validation = f"{losses[-1]:.3f}" if losses else "-"
        smooth: dict[str, float] = {}

        def report(event: Event) -> None:
            nonlocal validation
            if isinstance(event, Compiling):
                status = f"compiling: {event.n} {event.kernel}"
                progress.update(task, status=status)
            elif isinstance(event, StepDone):
                for name, value in (("loss", event.loss), ("speed", event.tokens_per_second)):
                    smooth[name] = SMOOTHING * smooth.get(name, value) + (1 - SMOOTHING) * value
                status = (
                    f"loss {smooth['loss']:.3f}  validation {validation}  {smooth['speed']:,.0f} tokens/s"
                )
                progress.update(task, completed=event.step, total=event.expected_steps, status=status)
            elif isinstance(event, Skipped):
                console.print(str(event), style="yellow", markup=False)
            elif isinstance(event, Advised):
                console.print(f"{event}\n", style="yellow", markup=False)
            elif isinstance(event, Evaluated):
                validation = f"{event.validation_loss:.3f}"
                console.print(str(event), markup=False)
                console.print(Padding(Text(_excerpt(event.sample), style="cyan"), (0, 0, 1, 4)))

        yield report


def _excerpt(sample: str) -> str:
    """The first lines that are not empty."""
    lines = [line for line in sample.splitlines() if line.strip()]
    return "\n".join(lines[:SAMPLE_LINES])


def _print_end(console: Console, folder: Path, about: About) -> None:
    seconds, best = about.progress.seconds, about.best_validation_loss
    if best is None:
        return
    loss = f"{best:.3f} nats a token, {about.config.bits_per_byte(best):.3f} bits a byte"
    tuned = ""
    if losses := about.losses_before_and_after:
        before, after = losses
        tuned = f" Whole validation text: {before:.3f} before, {after:.3f} after."
    console.print(
        f"\nTrained in {seconds:,.0f} s; best validation loss {loss}.{tuned}",
        f"Curve: {folder / curves.LOSS}",
        f"Talk to it: handgrad chat {folder}"
        if about.config.conversations
        else f'Let it write: handgrad generate {folder} "The "',
        sep="\n",
        soft_wrap=True,
        markup=False,
    )
    if about.finding:
        console.print(about.finding.sentence, style="yellow", markup=False, soft_wrap=not console.is_terminal)
