"""What rounding may do to a model's numbers: the model itself is asked.

Every weight is moved by a small share of itself, at random, and the formulas in float64 compute again. How
far logits and gradients move says how sensitive this model is to rounding. An engine rounds not the weights
alone but every product and sum, so it may be off by some multiple of that.
"""

from typing import NamedTuple

import numpy as np

from handgrad import parameters as p
from handgrad import tree
from handgrad.verify import directions
from handgrad.verify.directions import length
from handgrad.verify.subject import Subject, logits, loss_and_gradients

SHARE = 2.0**-14
"""By which weights are moved at most: so little that results move in proportion."""
DRAWS = 4
"""Random moves of a small model: an array of few numbers may happen to react little to one of them."""


class Precision(NamedTuple):
    """How coarsely an engine computes."""

    unit: float
    """The largest error of one rounding, as a share of the number."""
    multiple: int
    """How many times as far off as by one rounding of each weight results may be,"""
    of_formulas: int
    """or gradients as the formulas are by their own rounding, in proportion to the unit: models whose stream
    has a few huge numbers magnify that more."""


PRECISIONS = {
    "float64": Precision(2.0**-53, 64, 64),
    "float32": Precision(2.0**-24, 64, 64),
    "bfloat16": Precision(2.0**-9, 16, 4),
    "int16": Precision(2.0**-12, 32, 32),
    "int8": Precision(2.0**-8, 12, 0),
    "blocks": Precision(2.0**-8, 12, 0),
    "a cache in bfloat16": Precision(2.0**-9, 16, 0),
    "a cache in int8": Precision(2.0**-8, 24, 0),
}
"""The largest multiples measured over small models of all kinds were 11 in float32, where long sums are added
one by one, 9 in bfloat16, 7 in int16, whose unit holds for the largest number of a row only, and 4 in int8
and blocks, whose unit holds for the largest of 32: nobody trains in them. A cache in int8 reached 11: its
unit holds for a head's largest. Of the formulas' own rounding they were 11, 1 and 7, with SmolLM2."""


class Sensitivity(NamedTuple):
    """How far results move where each weight moves by its own size, at random."""

    logits: float
    """In units of `apart`."""
    loss: float
    """By the gradient, in nats."""
    gradients: dict[str, float]
    """The length of each array's change."""
    own: dict[str, float]
    """The same by the formulas in float32, per unit: they round every product and sum."""


def bound(precision: str, moves: float) -> float:
    """How far off a result may be that moves by `moves` where each weight moves by its own size."""
    unit, multiple, _ = PRECISIONS[precision]
    return unit * multiple * moves


def gradient_bound(precision: str, moves: Sensitivity, name: str) -> float:
    """The same for the gradient of one array."""
    unit, _, of_formulas = PRECISIONS[precision]
    return max(bound(precision, moves.gradients[name]), unit * of_formulas * moves.own[name])


def loss_bound(precision: str, moves: Sensitivity, spread: float) -> float:
    """The same for the loss, which also grows by the square of what logits of deviation `spread` are off."""
    unit, multiple, _ = PRECISIONS[precision]
    return multiple * (unit * moves.loss + (unit * moves.logits * spread) ** 2)


def reason(precision: str) -> str:
    """The bound in words."""
    return f"{PRECISIONS[precision].multiple} times what rounding each weight once does to this model"


def sensitivity(subject: Subject, rng: np.random.Generator) -> Sensitivity:
    """Measured once for all precisions; of a small model, the largest of some draws."""
    draws = [_draw(subject, rng) for _ in range(1 if subject.is_large else DRAWS)]
    lengths = {name: max(draw.gradients[name] for draw in draws) for name in subject.gradients}
    most = max(draw.logits for draw in draws)
    return Sensitivity(most, _of_the_loss(subject), lengths, _in_float32(subject))


def _of_the_loss(subject: Subject) -> float:
    """What independent moves of all weights, each by its own size, do to the loss; at least the loss itself,
    which is rounded too."""
    products = [length(w * subject.gradients[name]) for name, w in subject.named_weights()]
    return float(np.hypot.reduce([subject.loss, *products]))


def gradient_reason(precision: str) -> str:
    """That of a gradient in words."""
    _, multiple, of_formulas = PRECISIONS[precision]
    return (
        f"{multiple} times what rounding each weight once does, or {of_formulas} times the formulas' rounding"
    )


class Draw(NamedTuple):
    """How far results moved, for each unit that weights were moved by."""

    logits: float
    gradients: dict[str, float]


def _draw(subject: Subject, rng: np.random.Generator) -> Draw:
    """In float32 where the model is large: what that rounds is a hundredth of what the moves do."""
    dtype = np.float32 if subject.is_large else np.float64

    def moved(array: np.ndarray) -> np.ndarray:
        return (array * (1.0 + SHARE * directions.draw(array.shape, 1.0, rng).share())).astype(dtype)

    weights = tree.map(moved, subject.weights)
    found = logits(subject.config, weights, subject.texts.token_ids)
    return Draw(apart(found, subject.logits) / SHARE, _gradients_moved(subject, weights, SHARE))


def _in_float32(subject: Subject) -> dict[str, float]:
    weights = tree.map(np.float32, subject.weights)
    return _gradients_moved(subject, weights, PRECISIONS["float32"].unit)


def _gradients_moved(subject: Subject, weights: p.Transformer, share: float) -> dict[str, float]:
    _, gradients = loss_and_gradients(subject.config, weights, subject.texts)
    return {name: length(g - subject.gradients[name]) / share for name, g in gradients.items()}


def apart(found: np.ndarray, expected: np.ndarray) -> float:
    """The largest difference of two arrays of logits, in units of their standard deviation."""
    if found.shape != expected.shape:
        return np.inf
    spread = float(np.std(expected)) or 1.0
    return float(np.max(np.abs(found - expected))) / spread
