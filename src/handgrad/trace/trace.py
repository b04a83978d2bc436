"""A prediction with every value that made it, and the gradient of each."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from handgrad import parameters as p
from handgrad.engines import fits
from handgrad.formats.model_folder import Model
from handgrad.model.config import ModelConfig
from handgrad.model.count import count
from handgrad.model.init import require_weights_of
from handgrad.ops import softmax
from handgrad.shapes import Float, Int
from handgrad.trace import edits as edits_
from handgrad.trace import objective as objectives
from handgrad.trace import sites
from handgrad.trace import text as texts
from handgrad.trace.edits import Edit
from handgrad.trace.objective import Objective
from handgrad.trace.sites import Site
from handgrad.trace.taps import Tapped, Taps

Edits = Mapping[str, Edit | Callable[[np.ndarray], Any]]
EVERYTHING = "*"
LIVE = 4
"""Of one block's values, how many times over they are held while it is computed, forward or back."""


class Value(NamedTuple):
    """What stood at a site, and how the objective changes with each of its numbers."""

    value: np.ndarray
    gradient: np.ndarray


@dataclass(frozen=True, repr=False)
class Trace:
    """One prediction. `trace[name]` is what stood at a site; arrays have no batch axis."""

    model: Model
    token_ids: Int[np.ndarray, " T"]
    tokens: list[str]
    objective: Objective
    result: float
    """The objective: a loss in nats, or a logit."""
    logits: Float[np.ndarray, "T V"]
    sites: list[Site]
    """Those that were kept, in the order of computation."""
    weight_gradients: p.Transformer | None
    """A tree like the weights; None unless asked for."""
    _values: dict[str, np.ndarray] = field(default_factory=dict)
    _gradients: dict[str, np.ndarray] = field(default_factory=dict)

    @property
    def names(self) -> list[str]:
        """The names of the sites that were kept, in the order of computation."""
        return [site.name for site in self.sites]

    def __getitem__(self, name: str) -> Value:
        """`UserError` where nothing of that name was kept: it lists near ones."""
        if name not in self._values:
            raise sites.unknown(name, self.names)
        return Value(self._values[name], self._gradients[name])

    def next(self, n: int = 10) -> list[tuple[str, float]]:
        """The likeliest next tokens and their probabilities."""
        probs, _ = softmax.forward(self.logits[-1])
        best = np.argsort(-probs, kind="stable")[:n]
        return [(texts.word(self.model, token_id), float(probs[token_id])) for token_id in best]

    def __repr__(self) -> str:
        return f"Trace of {len(self.tokens)} tokens: {self.result:.4f}, {len(self.sites)} sites"

    def _repr_html_(self) -> str:
        from handgrad.trace import show

        return show.table(self)


def trace(
    model: Model,
    text: Any,
    target: Any = None,
    *,
    rival: Any = None,
    objective: str | None = None,
    keep: str | Iterable[str] = EVERYTHING,
    edits: Edits | None = None,
    gradient_edits: Edits | None = None,
    weights: bool = False,
) -> Trace:
    """Run a text through `model` and back, and keep what stood at every site, and its gradient.

    The text is a string or token ids (T,). What is differentiated, see `objective`: without a `target` the
    loss of the text itself; with one, a token as text or id, the loss of its coming next, or by
    `objective="logit"` its logit; with a `rival` the difference of both logits.

    `keep` names the sites to keep, by patterns such as "blocks.*.attention.probs"; all take memory in
    proportion to layers, heads and the square of the text's length. `edits` change values by the names of
    their sites, `gradient_edits` gradients (see `edits`, or give a function); what is kept is what went on
    from there. `weights` asks for the gradients of the weights too.

    Raises `UserError` for a text that the model cannot read, for a name that no site has, for an edit that
    does not fit, and for what would not fit into memory.
    """
    config = model.config
    require_weights_of(config, model.weights)
    read = texts.read(model, text)
    asked = objectives.of(model, len(read.token_ids), target, rival, objective)
    kept = sites.matching(keep, config)
    n_bytes = memory(config, len(read.token_ids), keep, weights=weights)
    fits.require(n_bytes, "This trace", "Take a shorter text, or keep less: keep='blocks.0.*'.")
    taps = Taps(frozenset(site.name for site in kept), of(edits, config), of(gradient_edits, config))
    tapped = Tapped.of(config, taps, learns=weights)
    logits, saved = tapped.forward(model.weights, read.token_ids[None])
    result = asked(logits, read.token_ids[None])
    (gradients,) = tapped.backward(asked.gradient(logits, read.token_ids[None]), saved)
    return Trace(
        model,
        *read,
        asked,
        float(result[0]),
        logits[0],
        kept,
        gradients if weights else None,
        {name: value[0] for name, value in taps.values.items()},
        {name: gradient[0] for name, gradient in taps.gradients.items()},
    )


def memory(
    config: ModelConfig,
    n_tokens: int,
    keep: str | Iterable[str] = EVERYTHING,
    *,
    weights: bool = False,
    width: int = 4,
) -> int:
    """The bytes that a trace takes at most, for numbers of `width` bytes; nothing is computed."""
    kept = sum(_size(site, config, n_tokens) for site in sites.matching(keep, config))
    block = sum(
        _size(site, config, n_tokens) for site in sites.of(config) if site.name.startswith("blocks.0.")
    )
    outside = 4 * n_tokens * config.vocab_size + (config.n_layers + 2) * n_tokens * config.d_model
    table = config.vocab_size * config.d_model  # the gradient of the embedding, which every backward makes
    one_hot = n_tokens * config.vocab_size
    learned = (
        count(config).parameters
        if weights
        else 2 * table + count(config).parameters // max(config.n_layers, 1)
    )
    return width * (2 * kept + LIVE * block + outside + one_hot + learned)


def of(edits: Edits | None, config: ModelConfig) -> dict[str, Edit]:
    """Edits by name; `UserError` where no site has such a name."""
    names = [site.name for site in sites.of(config)]
    for name in edits or {}:
        if name not in names:
            raise sites.unknown(name, names)
    return {name: edits_.of(edit) for name, edit in (edits or {}).items()}


def _size(site: Site, config: ModelConfig, n_tokens: int) -> int:
    return int(np.prod(sites.shape(site, config, n_tokens)))
