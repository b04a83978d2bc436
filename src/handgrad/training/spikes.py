r"""Steps that stand out are not applied: a batch of garbage, a gradient that would throw the weights about.

A step is applied where its loss and its gradient's norm are at most

$$\mu + z\,\max(\sigma, \epsilon\,\mu)$$

with the mean and the standard deviation of the last 128 steps before it, and $z$ the recipe's `skip_spikes`.
Skipped steps are among those 128: where losses stay high, that is what they are now, and training goes on.
Without a step out of line, none is changed.

As OLMo's SkipStepOptimizer does it, there with $z = 6$ (OLMo et al., "2 OLMo 2 furious", 2024,
arXiv:2501.00656). A gradient that stands out shows in the loss only a step later, so both are looked at.
"""

from collections.abc import Sequence
from itertools import islice

import numpy as np

from handgrad.engines.engine import UNLIMITED, Limits
from handgrad.training.metrics import Row, StepRow

STEPS, LEAST = 128, 64
"""The steps that are looked at, and how many there must be."""
LARGEST = float(np.finfo(np.float32).max)
LEAST_DEVIATION = 0.01
"""As a share of the mean: where numbers hardly vary, what varies a little more is no spike."""


def limits(rows: Sequence[Row], known: int, deviations: float | None) -> Limits:
    """The limits of the next step, from the rows of steps up to the number `known`."""
    if deviations is None:
        return UNLIMITED
    steps = (row for row in reversed(rows) if isinstance(row, StepRow) and row.step <= known)
    last = list(islice(steps, STEPS))
    if len(last) < LEAST:
        return UNLIMITED
    return Limits(
        _limit([row.loss for row in last], deviations),
        _limit([row.gradient_norm for row in last], deviations),
    )


def _limit(numbers: list[float], deviations: float) -> float:
    """In float32's precision: every engine compares with the same number."""
    mean, deviation = float(np.mean(numbers)), float(np.std(numbers))
    return float(np.float32(min(mean + deviations * max(deviation, LEAST_DEVIATION * mean), LARGEST)))
