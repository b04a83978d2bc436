r"""The gradient of a model's loss, proved on its own weights by random projection, in float64.

$$\langle\nabla L, v\rangle = \frac{d}{dt}\,L(w + t v)\Big|_{t=0}$$

The left side is the gradient that backward returns. The right side needs no derivation: it is measured by
central differences of the loss. First v moves all weights at once. Then it moves one part at a time, so that
a wrong gradient is named: each array of a small model; some layers of a large one, and where these fail each
of their arrays.
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

from handgrad import gradcheck
from handgrad.engines import parallel
from handgrad.model_proof import zeros
from handgrad.verify import directions
from handgrad.verify.check import Check
from handgrad.verify.stream import LAYER, Stream
from handgrad.verify.subject import Subject, on_another_text

GROUP = "gradients, float64"
NONE_IS_ZERO = "every weight has a gradient"
TOLERANCE = 1e-7
"""The largest difference that passes, in units of the gradient along its arrays."""
STEPS = (1e-3, 1e-4, 1e-5)
"""How far weights are moved, in shares of their size. Where the loss bends, a shorter step is tried."""
ROUNDINGS = 64
"""How many roundings of the loss a measurement may have suffered: a finer slope cannot be told."""
TRIES = 4
"""Texts tried where the loss has kinks: a wrong gradient fails on each."""
MOST_VISITS = 4_000_000_000
"""Weights visited to prove every array; where there would be more, every layer is proved,"""
MOST_GROUPS = 12
"""or layers together, in so many groups."""

REASON = "a measured slope loses less than that; one array that is 1 % off differs by far more"


class Projection(NamedTuple):
    """Both sides along one direction."""

    derived: float
    measured: float
    size: float
    """The unit of their difference."""

    @property
    def error(self) -> float:
        return abs(self.derived - self.measured) / self.size


class Prover:
    """Projects the gradient of one loss on random directions."""

    def __init__(self, subject: Subject, rng: np.random.Generator):
        self.subject, self.rng = subject, rng
        self.stream = Stream(subject.config, subject.weights, subject.texts)
        rounding = ROUNDINGS * np.finfo(np.float64).eps * max(1.0, abs(subject.loss))
        self.finest = rounding / STEPS[0] / TOLERANCE

    def project(self, names: list[str]) -> Projection:
        """Both sides where the arrays of these names move, at the first step at which they agree."""
        found = self._project(names)
        for _ in range(TRIES - 1 if self.subject.has_kinks else 0):
            if found.error <= TOLERANCE:
                break
            found = Prover(on_another_text(self.subject, self.rng), self.rng)._project(names)
        return found

    def _project(self, names: list[str]) -> Projection:
        shapes = {name: gradient.shape for name, gradient in self.subject.gradients.items()}
        chosen = {name: directions.draw(shapes[name], self.subject.sizes[name], self.rng) for name in names}
        for step in STEPS:
            found = self._along(chosen, step)
            if found.error <= TOLERANCE:
                break
        return found

    def _along(self, chosen: dict[str, directions.Direction], step: float) -> Projection:
        gradients = self.subject.gradients
        derived = sum(direction.slope(gradients[name]) for name, direction in chosen.items())
        size = np.hypot.reduce([d.size * self.subject.lengths[name] for name, d in chosen.items()])
        losses = parallel.each(lambda n: self.stream.loss(chosen, n * step), gradcheck.POINTS)
        measured = float(gradcheck.slope(list(losses), step))
        return Projection(derived, measured, max(float(size), abs(measured), self.finest))


def gradients_are_right(
    subject: Subject, rng: np.random.Generator, report: Callable[[str], object]
) -> Iterator[Check]:
    """The gradient along a direction of all weights, and of every part; and no weight without a gradient."""
    prover, names = Prover(subject, rng), list(subject.gradients)
    report("the gradient of all weights")
    error = prover.project(names).error
    yield _verdict("derived = measured, all weights at once", error, f"{len(names)} arrays")
    parts = _parts(subject)
    errors = {}
    for part, arrays in parts.items():
        report(f"the gradient of {part}")
        errors[part] = prover.project(arrays).error
    yield _worst_of(prover, parts, errors)
    yield _none_is_zero(subject)


def _worst_of(prover: Prover, parts: dict[str, list[str]], errors: dict[str, float]) -> Check:
    """The verdict on all parts; what fails is named as narrowly as can be."""
    wrong = [part for part, error in errors.items() if not error <= TOLERANCE]
    arrays = [name for part in wrong for name in parts[part]]
    found = {name: prover.project([name]).error for name in arrays}
    named = [name for name, error in found.items() if not error <= TOLERANCE] or wrong
    what = "part" if any(len(arrays) > 1 for arrays in parts.values()) else "array"
    facts = f"wrong: {_listed(named)}" if wrong else f"{len(parts)} parts: {_listed(list(parts))}"
    return _verdict(f"derived = measured, {what} by {what}", max(errors.values()), facts)


def _verdict(name: str, error: float, facts: str) -> Check:
    return Check(GROUP, name, error, TOLERANCE, "of the gradient's length", REASON, facts)


def _none_is_zero(subject: Subject) -> Check:
    """How many weights have no gradient and no reason for it."""
    norm, unexplained = subject.length, 0
    wrong: list[str] = []
    reasons: dict[str, int] = {}
    for name, gradient in subject.gradients.items():
        n, why = zeros(name, gradient, norm, subject.config, subject.texts.token_ids)
        if n and not why:
            wrong.append(name)
            unexplained += n
        elif n:
            reasons[why] = reasons.get(why, 0) + n
    explained = "; ".join(f"{n:,} without: {why}" for why, n in reasons.items())
    return Check(
        GROUP, NONE_IS_ZERO, unexplained, 0, "weights",
        "a weight without a gradient cannot learn; where one must be zero, the reason is said",
        f"none in {_listed(wrong)}" if wrong else explained,
    )  # fmt: skip


def _parts(subject: Subject) -> dict[str, list[str]]:
    """Arrays that move together, by what they are called: each alone, or some layers'."""
    names = list(subject.gradients)
    visits = len(gradcheck.POINTS) * len(names) * subject.n_weights
    if visits <= MOST_VISITS:
        return {name: [name] for name in names}
    together = -(-subject.config.n_layers // MOST_GROUPS)
    parts: dict[str, list[str]] = {}
    for name in names:
        layer = LAYER.match(name)
        parts.setdefault(_group(int(layer[1]), together) if layer else name, []).append(name)
    return parts


def _group(layer: int, together: int) -> str:
    first = layer - layer % together
    return f"layer {first}" if together == 1 else f"layers {first} to {first + together - 1}"


def _listed(names: list[str]) -> str:
    return ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")
