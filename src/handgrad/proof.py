"""The proof of all that is here: every op, every kind of block, every preset, one verdict an input.

An op's input is judged by the worst of the op's cases. The weights of a block or a preset are one input of
many arrays: the verdict is that of the worst array, and names it.
"""

import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from handgrad import gradcheck
from handgrad.gradcheck import TOLERANCE, ElementProof
from handgrad.model.cases import Case, Kind, every_case, generator


class Result(NamedTuple):
    """The verdict on one input."""

    name: str
    """Of the op, block or preset."""
    kind: Kind
    input: str
    relative_error: float
    worst: str = ""
    """The array with this error, where the input is a tree of arrays."""
    elements: ElementProof | None = None
    """Every derivative, where every one was measured."""

    @property
    def passed(self) -> bool:
        return self.relative_error <= TOLERANCE


def results(name: str | None = None, seed: int = 0) -> Iterator[Result]:
    """Prove everything, or what `name` names, by random directions (see `gradcheck` for what that proves)."""
    worst: dict[tuple[str, str], Result] = {}
    for case in every_case(name, seed):
        if worst and next(iter(worst))[0] != case.name:
            yield from worst.values()
            worst = {}
        for proof in gradcheck.check(case.op, case.inputs, generator(seed)):
            _keep_worst(worst, case, proof.input, proof.relative_error)
    yield from worst.values()


def check_elements(name: str | None = None, seed: int = 0) -> Iterator[Result]:
    """Prove everything, or what `name` names, derivative by derivative."""
    for case in every_case(name, seed):
        for proof in gradcheck.check_elements(case.op, case.inputs, generator(seed)):
            error = float(np.max(np.nan_to_num(proof.relative_errors, nan=np.inf), initial=0.0))
            yield Result(case.name, case.kind, proof.input, error, elements=proof)


def check(name: str | None = None, *, seed: int = 0, every_element: bool = False) -> list[Result]:
    """The proof of every gradient, or of those of one op, block or preset, as a list of verdicts."""
    return list(check_elements(name, seed) if every_element else results(name, seed))


def _keep_worst(worst: dict[tuple[str, str], Result], case: Case, path: str, error: float) -> None:
    name, _, rest = path.partition(".")
    group = path if case.kind == "op" else name
    known = worst.get((case.name, group))
    if known is None or _size(error) > _size(known.relative_error):
        worst[case.name, group] = Result(case.name, case.kind, group, error, rest if group == name else "")


def _size(error: float) -> float:
    """Of an error, for comparison: a NaN is the worst."""
    return math.inf if math.isnan(error) else error
