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
from handgrad.trace.prediction import trace
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
) -> Patched:
    """Put what stood in the run of `other` into that of `text`, one position (or head) of one site at a time.

    `at` names sites by patterns, by default the residual stream's or, for heads, "blocks.*.attention.heads".
    `estimated` takes the first-order estimate. Memory is bounded. Raises `UserError` as `trace`, for texts of
    unequal length, and for a site that has no such axis.
    """
    require_known("each", each, get_args(Each))
    default = sites.stream(model.config) if each == "position" else ["blocks.*.attention.heads"]
    found = sites.matching(at or default, model.config)
    _require_axis(found, AXES[each])
    names = [site.name for site in found]
    asked: dict[str, Any] = {"target": target, "rival": rival, "objective": objective}
    ours, theirs = trace(model, text, **asked), trace(model, other, **asked)
    n_tokens = len(ours.token_ids)
    if len(theirs.token_ids) != n_tokens:
        raise UserError(
            f"Texts of equal length can be patched, position by position; got {n_tokens} tokens, "
            f"{ours.tokens}, and {len(theirs.token_ids)}, {theirs.tokens}."
        )
    rows = []
    for site in found:
        axis, value = site.axes.split().index(AXES[each]), ours.value(site.name)
        if estimated:
            changes = (theirs.value(site.name) - value) * ours.gradient(site.name)
            others = tuple(i for i in range(changes.ndim) if i != axis)
            rows.append(ours.result + changes.sum(axis=others))
            continue
        row = np.empty(value.shape[axis])
        for part in runs.chunks(model, n_tokens, len(row)):
            shape = [part.stop - part.start, *[1] * value.ndim]
            shape[1 + axis] = -1
            here = np.arange(part.start, part.stop)[:, None] == np.arange(len(row))
            edit = Mixed(here.reshape(shape), theirs.value(site.name))
            row[part] = runs.results(model, ours.token_ids, ours.objective, {site.name: edit}, len(here))
        rows.append(row)
    return Patched(ours.tokens, theirs.tokens, names, each, np.stack(rows), ours.result, theirs.result)


def _require_axis(found: list[Site], letter: str) -> None:
    for site in found:
        if letter not in site.axes.split():
            raise UserError(
                f"{site.name} has the axes {site.axes}, none of which is {letter}. Name others: at=."
            )
