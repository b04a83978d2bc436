r"""How much each number of a site, so each token of a text, counts for the objective $f$.

- Gradient times input: $x * \nabla f(x)$, the first-order estimate of what would be lost were $x$ zero.
- Integrated gradients (Sundararajan, Taly & Yan, 2017, arXiv:1703.01365), along the line from a baseline $b$:

$$(x - b) * \int_0^1 \nabla f\big(b + s\,(x-b)\big)\,ds$$

  whose sum is $f(x) - f(b)$. The integral is Gauss and Legendre's sum of `steps` gradients; `missing` says
  what it misses.

The baseline of the embeddings is their mean over the vocabulary: a token of which nothing is known. Zeros are
none for a model with norms, which make anything near zero large: there the integral takes thousands of steps.

On a linear $f$ both sum to $f(x) - f(b)$ exactly, with $b = 0$ for the first.
"""

from typing import Any, Literal, NamedTuple, get_args

import numpy as np

from handgrad.errors import require_count, require_known
from handgrad.formats.model_folder import Model
from handgrad.shapes import Float
from handgrad.trace import edits as edits_
from handgrad.trace import runs, sites
from handgrad.trace.prediction import Edits, Trace, trace
from handgrad.trace.runs import Progress, Report

Method = Literal["gradient x input", "integrated gradients"]
EMBEDDING = "embedding"
STEPS = 128


class Attribution(NamedTuple):
    """What counted."""

    tokens: list[str]
    by_token: Float[np.ndarray, " T"]
    """The sum of each position's numbers."""
    values: np.ndarray
    """One for each number of the site."""
    result: float
    """The objective of the text,"""
    baseline: float
    """and that of the baseline."""

    @property
    def missing(self) -> float:
        """By how much the sum is off the difference of both: of integrated gradients, nearly zero."""
        return float(self.by_token.sum()) - (self.result - self.baseline)

    def _repr_html_(self) -> str:
        from handgrad.trace import show

        return show.coloured(self.tokens, self.by_token)


def attribute(
    model: Model,
    text: Any,
    target: Any = None,
    *,
    rival: Any = None,
    objective: str | None = None,
    method: Method = "integrated gradients",
    site: str = EMBEDDING,
    baseline: Any = None,
    steps: int = STEPS,
    edits: Edits | None = None,
    report: Report | None = None,
) -> Attribution:
    """What each token of `text` counts for the objective: see `trace` for what it and `edits` may be.

    `site` is whose numbers count, `baseline` what stands there instead: by default the mean embedding, and
    zeros at other sites. `report` is told the share that is done. Raises `UserError` as `trace`.
    """
    return of(
        trace(model, text, target, rival=rival, objective=objective, edits=edits),
        method, site, baseline=baseline, steps=steps, report=report,
    )  # fmt: skip


def of(
    at: Trace,
    method: Method = "integrated gradients",
    site: str = EMBEDDING,
    *,
    baseline: Any = None,
    steps: int = STEPS,
    report: Report | None = None,
) -> Attribution:
    """The same of what was traced: its edits stay."""
    require_known("method", method, get_args(Method))
    steps = require_count("steps", steps)
    value, gradient = at[site]
    base = _baseline(at.model, site, baseline, value)
    (below,) = runs.results(at, {site: edits_.replace(base)}, 1)
    if method == "integrated gradients":
        gradient = _mean_gradient(at, site, value, base, Progress(steps, report))
    values = (value - base) * gradient
    axis = _axes(at.model, site).index("T")
    others = tuple(i for i in range(values.ndim) if i != axis)
    return Attribution(at.tokens, values.sum(axis=others), values, at.result, float(below))


def _axes(model: Model, site: str) -> list[str]:
    return next(one.axes.split() for one in sites.of(model.config) if one.name == site)


def _baseline(model: Model, site: str, given: Any, value: np.ndarray) -> np.ndarray:
    if given is None:
        given = _mean_embedding(model) if site == EMBEDDING else 0.0
    return np.broadcast_to(np.asarray(given, value.dtype), value.shape)


def _mean_embedding(model: Model) -> Float[np.ndarray, " D"]:
    scale = model.config.d_model**0.5 if model.config.scale_embedding else 1.0
    return scale * model.weights.embedding.mean(axis=0)


def _mean_gradient(
    at: Trace, site: str, value: np.ndarray, base: np.ndarray, progress: Progress
) -> np.ndarray:
    """The gradient's mean on the way from `base` to `value`."""
    places, weights = np.polynomial.legendre.leggauss(progress.n_runs)
    places, weights = ((it / 2).astype(value.dtype) for it in (places + 1.0, weights))
    total = np.zeros_like(value)
    for part in runs.chunks(at, progress.n_runs):
        shares = places[part].reshape(-1, *[1] * value.ndim)
        on_the_way = edits_.replace(base + shares * (value - base))
        found = runs.gradients(at, {site: on_the_way}, len(shares), site)
        total += np.tensordot(weights[part], found, axes=1)
        progress.add(len(shares))
    return total
