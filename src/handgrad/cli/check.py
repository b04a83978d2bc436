"""handgrad check: the proof of every gradient, as a table."""

import json
from collections.abc import Iterator
from typing import Annotated, Any

import numpy as np
import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from handgrad.gradcheck import TOLERANCE, ElementProof
from handgrad.model.cases import names
from handgrad.proof import Result, check_elements, results

SHOWN = 5
"""Elements listed of an array that fails."""


def check(
    name: Annotated[str | None, typer.Argument(help="One op, block or preset. Default: all.")] = None,
    every_element: Annotated[
        bool, typer.Option("--every-element", help="Measure every derivative, and say where one is wrong.")
    ] = False,
    seed: Annotated[int, typer.Option(help="Draws the inputs and directions.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object a row.")] = False,
) -> None:
    """Prove every hand-derived gradient against central differences; exit with 1 if one fails.

    Example: handgrad check layer_norm --every-element
    """
    proved = check_elements(name, seed) if every_element else results(name, seed)
    console = Console(highlight=False)
    last_column = "worst element: derived, measured" if every_element else "worst array"
    table = Table("", "input", "relative error", "verdict", box=None, pad_edge=False)
    table.add_column(last_column, overflow="fold")
    failed, last, n = 0, "", 0
    for result in _watched(proved):
        n, failed = n + 1, failed + (not result.passed)
        if as_json:
            print(json.dumps(_as_json(result)))
            continue
        verdict = Text("proved", "green") if result.passed else Text("WRONG", "bold red")
        name_shown = Text(result.name if result.name != last else "", "bold")
        table.add_row(name_shown, result.input, f"{result.relative_error:.1e}", verdict, _where(result))
        last = result.name
    if not as_json:
        console.print(table)
        verdict_line = f"all below {TOLERANCE:.0e}" if not failed else f"{failed} above {TOLERANCE:.0e}"
        console.print(f"\n{n} gradients of {_count_names(name)}: {verdict_line}", style="bold")
    if failed:
        raise typer.Exit(1)


def _watched(proved: Iterator[Result]) -> Iterator[Result]:
    """The same results; on a terminal, a line says what is proved meanwhile."""
    with Console(stderr=True).status("proving") as status:
        for result in proved:
            status.update(f"proving: {result.name} {result.input}")
            yield result


def _count_names(name: str | None) -> str:
    return name or f"{len(names())} ops, blocks and presets"


def _where(result: Result) -> str:
    if result.elements is None:
        return result.worst
    shown = result.elements.worst(1 if result.passed else SHOWN)
    return "\n".join(_element(result.elements, index) for index in shown)


def _element(proof: ElementProof, index: tuple[int, ...]) -> str:
    place = ", ".join(map(str, index))
    return f"[{place}]: {proof.derived[index]:.9g}, {proof.measured[index]:.9g}"


def _as_json(result: Result) -> dict[str, Any]:
    row: dict[str, Any] = {
        "name": result.name,
        "kind": result.kind,
        "input": result.input,
        "relative_error": result.relative_error,
        "passed": result.passed,
    }
    if result.elements is not None:
        wrong = np.argwhere(~(result.elements.relative_errors <= TOLERANCE))
        row["wrong_elements"] = wrong.tolist()
    return row
