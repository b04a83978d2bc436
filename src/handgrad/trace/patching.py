r"""Activation patching: what of one text's run, put into another's, carries the answer over.

Take two texts of equal length: "The capital of France is", "The capital of Italy is". Both are run; then the
first is run again for every site and position (or head), with the value that the second one had there.
Where the objective becomes what it is for the second text, there lies what tells them apart (Meng et al.,
2022, arXiv:2202.05262).

The estimate needs three runs instead of one for each number (attribution patching: Nanda, 2023):

$$f(x') - f(x) \approx \sum (x' - x) * \nabla f(x)$$
"""

from collections.abc import Iterable
from typing import Any, Literal, NamedTuple, get_args

import numpy as np

from handgrad.errors import UserError, require_known
from handgrad.formats.model_folder import Model
from handgrad.shapes import Float
from handgrad.trace import runs, sites
from handgrad.trace.edits import Mixed
from handgrad.trace.prediction import Edits, Trace, trace
from handgrad.trace.runs import Progress, Report
from handgrad.trace.sites import Site

Each = Literal["position", "head"]
AXES = {"position": "T", "head": "H"}


class Patched(NamedTuple):
    """What the objective of the first text became."""

    tokens: list[str]
    other_tokens: list[str]
    names: list[str]
    """The sites,"""
    each: Each
    results: Float[np.ndarray, "N P"]
    """and, of each, for every position or head: the objective with the other text's value there."""
    result: float
    """The first text's own objective,"""
    other: float
    """and the second's."""

    @property
    def recovered(self) -> Float[np.ndarray, "N P"]:
        """How far from the first text's objective (0) to the second's (1); NaN where both are the same."""
        distance = self.other - self.result
        return (self.results - self.result) / (distance or np.nan)


def patch(
    model: Model,
    text: Any,
    other: Any,
    target: Any = None,
    *,
    rival: Any = None,
    objective: str | None = None,
    at: str | Iterable[str] | None = None,
    each: Each = "position",
    estimated: bool = False,
    edits: Edits | None = None,
    report: Report | None = None,
) -> Patched:
    """Put what stood in the run of `other` into that of `text`, one position (or head) of one site at a time.

    `at` names sites by patterns, by default the residual stream's or, for heads, "blocks.*.attention.heads".
    `estimated` takes the first-order estimate. `edits` stay in every run of both texts. Memory is bounded;
    `report` is told the share that is done. Raises `UserError` as `trace`, for texts of unequal length, and
    for a site that has no such axis.
    """
    require_known("each", each, get_args(Each))
    default = sites.stream(model.config) if each == "position" else ["blocks.*.attention.heads"]
    found = sites.matching(at or default, model.config)
    _require_axis(found, AXES[each])
    asked: dict[str, Any] = {"target": target, "rival": rival, "objective": objective, "edits": edits}
    ours, theirs = trace(model, text, **asked), trace(model, other, **asked)
    if len(theirs.token_ids) != len(ours.token_ids):
        raise UserError(
            f"Texts of equal length can be patched, position by position; got {len(ours.token_ids)} tokens, "
            f"{ours.tokens}, and {len(theirs.token_ids)}, {theirs.tokens}."
        )
    axes = [site.axes.split().index(AXES[each]) for site in found]
    n_places = len(ours.token_ids) if each == "position" else model.config.n_heads
    progress = Progress(n_places * len(found), report)
    row_of = _estimated if estimated else _measured
    rows = [row_of(ours, theirs, site.name, axis, progress) for site, axis in zip(found, axes, strict=True)]
    names = [site.name for site in found]
    return Patched(ours.tokens, theirs.tokens, names, each, np.stack(rows), ours.result, theirs.result)


def _measured(ours: Trace, theirs: Trace, name: str, axis: int, progress: Progress) -> np.ndarray:
    """What the objective becomes with each place of a site patched."""
    value = theirs.value(name)
    row = np.empty(value.shape[axis])
    for part in runs.chunks(ours, len(row)):
        shape = [part.stop - part.start, *[1] * value.ndim]
        shape[1 + axis] = -1
        here = np.arange(part.start, part.stop)[:, None] == np.arange(len(row))
        row[part] = runs.results(ours, {name: Mixed(here.reshape(shape), value)}, len(here))
        progress.add(len(here))
    return row


def _estimated(ours: Trace, theirs: Trace, name: str, axis: int, progress: Progress) -> np.ndarray:
    """The same to first order."""
    value, gradient = ours[name]
    changes = (theirs.value(name) - value) * gradient
    progress.add(changes.shape[axis])
    return ours.result + changes.sum(axis=tuple(i for i in range(changes.ndim) if i != axis))


def _require_axis(found: list[Site], letter: str) -> None:
    for site in found:
        if letter not in site.axes.split():
            raise UserError(
                f"{site.name} has the axes {site.axes}, none of which is {letter}. Name others: at=."
            )
