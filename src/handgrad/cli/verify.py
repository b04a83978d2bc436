"""handgrad verify: a model's own numbers, compared with what they must equal, as a table."""

import contextlib
import json
import math
from collections.abc import Iterator
from typing import Annotated

import typer
from rich.console import Console
from rich.padding import Padding
from rich.text import Text

from handgrad import engines
from handgrad.cli.busy import busy
from handgrad.formats.model_folder import Model
from handgrad.formats.sources import load
from handgrad.model.count import count
from handgrad.verify import Check, checks, memory
from handgrad.verify.gradients import NONE_IS_ZERO

NAME, NUMBER = 46, 8
"""Widths of the table's columns."""


def verify(
    run: Annotated[str, typer.Argument(metavar="MODEL", help="A run, or any model that handgrad reads.")],
    engine: Annotated[str, typer.Option(help="Compared with the formulas: cpu or xla.")] = "cpu",
    seed: Annotated[int, typer.Option(help="Draws texts and directions.", min=0)] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object a row.")] = False,
) -> None:
    """Verify a model on its own weights; exit with 1 if a comparison fails.

    Compared are writing with and without the KV cache, kernels and formulas,
    gradients and measured slopes, exported files and the model. The formulas
    themselves are proved by handgrad check.

    Example: handgrad verify runs/quick-1
    """
    console = Console(highlight=False)
    with busy("loading the model"):
        model = load(run)
    if not as_json:
        console.print(_about(run, model, engine), soft_wrap=True)
    shown = console if console.is_terminal else Console(stderr=True)  # two would write over each other
    with contextlib.nullcontext() if as_json else shown.status("") as status:
        found = checks(
            model, engine=engine, seed=seed, report=status.update if status else lambda doing: None
        )
        verdicts = list(_as_json(found) if as_json else _as_table(found, console))
    failed = sum(not check.passed for check in verdicts)
    if not as_json:
        n = sum(not check.left_out for check in verdicts)
        console.print(f"\n{n} comparisons: {f'{failed} fail' if failed else 'all hold'}", style="bold")
    if failed:
        raise typer.Exit(1)


def _about(run: str, model: Model, engine: str) -> Text:
    numbers = count(model.config)
    n_bytes = memory(model.config, engines.get(engine))
    size = f"{numbers.parameters:,} weights in {model.config.n_layers} layers"
    return Text.assemble((f"{run}: {size}", "bold"), f"; takes up to {n_bytes / 1e9:.1f} GB of memory")


def _as_json(found: Iterator[Check]) -> Iterator[Check]:
    for check in found:
        told = {**check._asdict(), "measured": _finite(check.measured), "passed": check.passed}
        print(json.dumps(told), flush=True)
        yield check


def _finite(x: float) -> float | None:
    """A number as JSON has it: None where it is infinite or none."""
    return x if math.isfinite(x) else None


def _as_table(found: Iterator[Check], console: Console) -> Iterator[Check]:
    """A line for each comparison as it is made; below it, once, the reason for its bound."""
    group, said = "", set[str]()
    for check in found:
        if check.group != group:
            head = f"{check.group:{NAME + 2}}  {'measured':>{NUMBER}}  {'at most':>{NUMBER}}"
            console.print(Text(f"\n{head}", "bold"), soft_wrap=True)
            group = check.group
        console.print(_line(check), soft_wrap=True)
        remarks = [check.facts] * (not check.passed or check.name == NONE_IS_ZERO)
        if check.reason and check.reason not in said:
            remarks.append(f"at most: {check.reason}")
            said.add(check.reason)
        for remark in filter(None, [check.left_out, *remarks]):
            _print_below(remark, console)
        yield check


def _print_below(remark: str, console: Console) -> None:
    """Indented; on a terminal, in lines that fit."""
    text = Text(remark, "dim")
    if console.is_terminal:
        console.print(Padding(text, (0, 0, 0, 4), expand=False))
    else:
        console.print(Text("    ").append_text(text), soft_wrap=True)


def _line(check: Check) -> Text:
    numbers = ("", "") if check.left_out else (_number(check.measured), _number(check.bound))
    columns = "  ".join(f"{number:>{NUMBER}}" for number in numbers)
    return Text.assemble(f"  {check.name:{NAME}}  {columns}  ", _verdict(check))


def _number(x: float) -> str:
    return f"{x:,.0f}" if abs(x) < 1e8 and x == int(x) else f"{x:.1e}"


def _verdict(check: Check) -> Text:
    if check.left_out:
        return Text("left out", "yellow")
    return Text("holds", "green") if check.passed else Text("FAILS", "bold red")
