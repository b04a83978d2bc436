"""Many runs of one text, each edited otherwise: as batches of a bounded size."""

from collections.abc import Callable, Iterator, Mapping

import numpy as np

from handgrad.model.config import ModelConfig
from handgrad.shapes import Float
from handgrad.trace import edits as edits_
from handgrad.trace import prediction
from handgrad.trace.edits import Edit
from handgrad.trace.prediction import Trace, of_a_run
from handgrad.trace.tapped import Tapped
from handgrad.trace.taps import Taps

BYTES = 256_000_000
"""What a batch may take."""
Report = Callable[[float], None]
"""Is told the share of the runs that is done, after each batch; what it raises ends the work."""


def results(of: Trace, edits: Mapping[str, Edit], n_runs: int) -> Float[np.ndarray, " N"]:
    """The objective of `n_runs` runs of a trace's text at once, whose edits differ along the batch axis.

    They come after those of the trace. Blocks before the first edit are not computed again.
    """
    batch = np.repeat(of.token_ids[None], n_runs, axis=0)
    taps = Taps(edits=edits_.together(of.edits, edits))
    tapped = Tapped.of(of.model.config, taps, known=_known(of, edits))
    logits, _ = (tapped.last if _asks_the_last(of, *edits) else tapped.forward)(of.model.weights, batch)
    return of.objective(logits, batch)


def gradients(of: Trace, edits: Mapping[str, Edit], n_runs: int, site: str) -> Float[np.ndarray, "N *S"]:
    """Likewise, the gradient of each run's objective with respect to what goes on from `site`."""
    batch = np.repeat(of.token_ids[None], n_runs, axis=0)
    taps = Taps(frozenset([site]), edits_.together(of.edits, edits))
    tapped = Tapped.of(of.model.config, taps, learns=False)
    forward = tapped.last if _asks_the_last(of, site, *edits) else tapped.forward
    logits, saved = forward(of.model.weights, batch)
    tapped.backward(of.objective.gradient(logits, batch), saved)
    return taps.gradients[site]


def _asks_the_last(of: Trace, *sites: str) -> bool:
    """Whether the last position's logits are all that counts."""
    return of.objective.target is not None and "logits" not in {*sites, *of.edits}


def _known(of: Trace, edits: Mapping[str, Edit]) -> tuple[int, Float[np.ndarray, "1 T D"]] | None:
    """The first block that the edits change, and its input; None where they change what is before them."""
    layers = [int(name.split(".")[1]) for name in edits if name.startswith("blocks.")]
    return of.input(min(layers)) if layers and len(layers) == len(edits) else None


def chunks(of: Trace, n_runs: int) -> Iterator[slice]:
    """`n_runs` in pieces that take about `BYTES` each, at least one at a time."""
    n_tokens, width = len(of.token_ids), of.model.weights.embedding.dtype.itemsize
    n_logits = 1 if _asks_the_last(of) else n_tokens
    of_one = of_a_run(of.model.config, n_tokens, width, n_logits)
    step = max(1, BYTES // of_one)
    for start in range(0, n_runs, step):
        yield slice(start, min(start + step, n_runs))


def memory(config: ModelConfig, n_tokens: int, *, width: int = 4) -> int:
    """The bytes that `attribute`, `ablate` and `patch` take at most: two traces, and a batch of runs."""
    of_one = of_a_run(config, n_tokens, width)
    return 2 * prediction.memory(config, n_tokens, width=width) + max(BYTES, of_one)


class Progress:
    """Counts the runs that are done."""

    def __init__(self, n_runs: int, report: Report | None):
        self.n_runs, self._done, self._report = n_runs, 0, report

    def add(self, n_runs: int) -> None:
        """So many more."""
        self._done += n_runs
        if self._report is not None:
            self._report(self._done / self.n_runs)
