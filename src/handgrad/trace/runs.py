"""Many runs of one text, each edited otherwise: as batches of a bounded size."""

from collections.abc import Iterator, Mapping

import numpy as np

from handgrad.formats.model_folder import Model
from handgrad.shapes import Float, Int
from handgrad.trace.edits import Edit
from handgrad.trace.objective import Objective
from handgrad.trace.prediction import of_a_run
from handgrad.trace.taps import Tapped, Taps

BYTES = 256_000_000
"""What a batch may take."""


def results(
    model: Model,
    token_ids: Int[np.ndarray, " T"],
    objective: Objective,
    edits: Mapping[str, Edit],
    n_runs: int,
) -> Float[np.ndarray, " N"]:
    """The objective of `n_runs` runs at once, whose edits differ along the batch axis."""
    batch = np.repeat(token_ids[None], n_runs, axis=0)
    logits, _ = Tapped.of(model.config, Taps(edits=edits)).forward(model.weights, batch)
    return objective(logits, batch)


def gradients(
    model: Model,
    token_ids: Int[np.ndarray, " T"],
    objective: Objective,
    edits: Mapping[str, Edit],
    n_runs: int,
    site: str,
) -> Float[np.ndarray, "N *S"]:
    """Likewise, the gradient of each run's objective with respect to what goes on from `site`."""
    batch = np.repeat(token_ids[None], n_runs, axis=0)
    taps = Taps(frozenset([site]), edits)
    tapped = Tapped.of(model.config, taps, learns=False)
    logits, saved = tapped.forward(model.weights, batch)
    tapped.backward(objective.gradient(logits, batch), saved)
    return taps.gradients[site]


def chunks(model: Model, n_tokens: int, n_runs: int) -> Iterator[slice]:
    """`n_runs` in pieces that take about `BYTES` each, at least one at a time."""
    of_one = of_a_run(model.config, n_tokens, model.weights.embedding.dtype.itemsize)
    step = max(1, BYTES // of_one)
    for start in range(0, n_runs, step):
        yield slice(start, min(start + step, n_runs))
