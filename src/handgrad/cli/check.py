"""handgrad check: the proof of every gradient, or of a model's own, as a table."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, TypeVar

import numpy as np
import typer
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from handgrad.errors import UserError
from handgrad.gradcheck import TOLERANCE, ElementProof
from handgrad.model.cases import names
from handgrad.model_proof import WeightProof, weight_proofs
from handgrad.proof import Result, check_elements, results

SHOWN = 5
"""Elements listed of an array that fails."""

Verdict = TypeVar("Verdict", Result, WeightProof)


def check(
    name: Annotated[
        str | None,
        typer.Argument(metavar="NAME", help="One op, block or preset, or any model. Default: all."),
    ] = None,
    every_element: Annotated[
        bool, typer.Option("--every-element", help="Measure every derivative, and say where one is wrong.")
    ] = False,
    seed: Annotated[int, typer.Option(help="Draws the inputs and directions.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object a row.")] = False,
) -> None:
    """Compare every hand-derived gradient with central differences; exit with 1 if one fails.

    "Proved" means: the two agree at the inputs tried, along random directions. How sharp that is, in figures:
    python -m pydoc handgrad.gradcheck

    Of a model, every weight must also have a gradient, and be moved by a step of training.

    Example: handgrad check layer_norm --every-element
    """
    if name is not None and _is_source(name):
        if every_element:
            raise UserError("A model is proved along random directions. Leave out --every-element.")
        passed = _show_model(weight_proofs(name, seed), as_json)
    else:
        passed = _show(name, check_elements(name, seed) if every_element else results(name, seed), as_json)
    if not passed:
        raise typer.Exit(1)


def _is_source(name: str) -> bool:
    return name not in names() and (Path(name).exists() or len(Path(name).parts) > 1)


def _show(name: str | None, proved: Iterator[Result], as_json: bool) -> bool:
    """Print the verdicts; whether all passed."""
    console = Console(highlight=False)
    table = Table("", "input", "relative error", "verdict", "worst", box=None, pad_edge=False)
    table.columns[-1].overflow = "fold"
    failed, last, n = 0, "", 0
    for result in _watched(proved):
        n, failed = n + 1, failed + (not result.passed)
        if as_json:
            print(json.dumps(_as_json(result)))
            continue
        name_shown = Text(result.name if result.name != last else "", "bold")
        table.add_row(
            name_shown, result.input, f"{result.relative_error:.1e}", _verdict(result), _where(result)
        )
        last = result.name
    if not as_json:
        console.print(table)
        bound, wraps = f"{TOLERANCE:.0e}", not console.is_terminal
        verdict_line = f"{failed} above {bound}" if failed else f"all relative errors below {bound}"
        console.print(
            f"\n{n} gradients of {_count_names(name)}: {verdict_line}", style="bold", soft_wrap=wraps
        )
    return not failed


def _show_model(proved: Iterator[WeightProof], as_json: bool) -> bool:
    """Print the verdicts on a model's weights; whether all passed."""
    proofs = []
    for proof in _watched(proved):
        proofs.append(proof)
        if as_json:
            print(json.dumps({**proof._asdict(), "passed": proof.passed}))
    if not as_json:
        _print_model(proofs)
    return all(proof.passed for proof in proofs)


def _print_model(proofs: list[WeightProof]) -> None:
    """A line for each array, and one below it for a remark: beside it there is no room on a terminal."""
    console = Console(highlight=False)
    names, sizes = [proof.name for proof in proofs], [f"{proof.size:,}" for proof in proofs]
    name_width, size_width = max(map(len, ["weights", *names])), max(map(len, ["number", *sizes]))
    head = f"{'weights':{name_width}}  {'number':>{size_width}}  relative error  verdict"
    console.print(Text(head, "bold"), soft_wrap=True)
    for proof, size in zip(proofs, sizes, strict=True):
        line = f"{proof.name:{name_width}}  {size:>{size_width}}  {proof.relative_error:<14.1e}  "
        console.print(Text.assemble(line, _verdict(proof)), soft_wrap=True)
        if remark := _remark(proof):
            console.print(Padding(Text(remark, "dim"), (0, 0, 0, 2), expand=False))
    failed = sum(not proof.passed for proof in proofs)
    verdict_line = f"all relative errors below {TOLERANCE:.0e}; a step moves every weight that has a gradient"
    verdict_line = f"{failed} arrays wrong" if failed else verdict_line
    what = f"{sum(proof.size for proof in proofs):,} weights in {len(proofs)} arrays"
    console.print(f"\n{what}: {verdict_line}", style="bold", soft_wrap=not console.is_terminal)


def _watched(proved: Iterator[Verdict]) -> Iterator[Verdict]:
    """The same verdicts; on a terminal, a line names the last while the next is computed."""
    with Console(stderr=True).status("proving") as status:
        for result in proved:
            status.update(f"proved: {result.name} {getattr(result, 'input', '')}")
            yield result


def _verdict(result: Result | WeightProof) -> Text:
    return Text("proved", "green") if result.passed else Text("WRONG", "bold red")


def _count_names(name: str | None) -> str:
    return name or f"{len(names())} ops, blocks and presets"


def _where(result: Result) -> str:
    if result.elements is None:
        return result.worst
    shown = result.elements.worst(1 if result.passed else SHOWN)
    return "\n".join(_element(result.elements, index) for index in shown)


def _element(proof: ElementProof, index: tuple[int, ...]) -> str:
    place = ", ".join(map(str, index))
    return f"[{place}]: derived {proof.derived[index]:.9g}, measured {proof.measured[index]:.9g}"


def _remark(proof: WeightProof) -> str:
    zero = f"{proof.n_zero:,} without gradient: {proof.why_zero or 'no reason known'}"
    unmoved = f"{proof.n_unmoved:,} not moved by a step"
    return "; ".join([zero] * bool(proof.n_zero) + [unmoved] * bool(proof.n_unmoved))


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
