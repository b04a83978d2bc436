"""A prediction with every value that made it, and the gradient of each."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from handgrad import parameters as p
from handgrad.engines import fits
from handgrad.formats.model_folder import Model
from handgrad.model import transformer
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
from handgrad.trace.tapped import Tapped
from handgrad.trace.taps import Taps

Edits = Mapping[str, Edit | Callable[[np.ndarray], Any]]
HELD_BYTES = 1 << 28
"""What a trace holds of blocks' insides: those asked for last."""
LIVE = 4
"""Of one block's values, how many times over they are held while it is computed, forward or back."""


class Value(NamedTuple):
    """What stood at a site, and how the objective changes with each of its numbers."""

    value: np.ndarray
    gradient: np.ndarray


@dataclass(repr=False)
class Trace:
    """One prediction. `trace[name]` is what stood at a site, and its gradient; arrays have no batch axis.

    Gradients are computed when the first is asked for: nobody who looks at values pays for them. Where all
    that lies inside blocks would take too much memory, a trace keeps the residual stream between blocks, and
    what is around them; what lies inside a block is then computed from these when it is asked for, and the
    blocks asked for last are held. Several threads may ask at once.
    """

    model: Model
    token_ids: Int[np.ndarray, " T"]
    tokens: list[str]
    objective: Objective
    result: float
    """The objective: a loss in nats, or a logit."""
    logits: Float[np.ndarray, "T V"]
    _tapped: Tapped
    _saved: transformer.Saved
    _most: int = HELD_BYTES
    _weight_gradients: p.Transformer | None = None
    _inside: "OrderedDict[tuple[int, bool], dict[str, np.ndarray]]" = field(default_factory=OrderedDict)
    _lock: threading.RLock = field(default_factory=threading.RLock)

    def __post_init__(self) -> None:
        self._hold_all(backward=False)

    @property
    def sites(self) -> list[Site]:
        """All sites, in the order of computation."""
        return sites.of(self.model.config)

    @property
    def names(self) -> list[str]:
        """Their names."""
        return [site.name for site in self.sites]

    def __getitem__(self, name: str) -> Value:
        """`UserError` where there is no site of that name: it lists near ones."""
        return Value(self.value(name), self.gradient(name))

    def value(self, name: str) -> np.ndarray:
        """What went on from the site."""
        return self._find(name, backward=False)

    def gradient(self, name: str) -> np.ndarray:
        """The gradient of the objective with respect to it."""
        return self._find(name, backward=True)

    @property
    def edits(self) -> Mapping[str, Edit]:
        """What was changed on the way forward, by the names of sites."""
        return self._tapped.taps.edits

    def input(self, layer: int) -> tuple[int, Float[np.ndarray, "1 T D"]]:
        """A block's number, and what it was given: enough to begin there."""
        return layer, self._tapped.inputs[layer][0]

    @property
    def weight_gradients(self) -> p.Transformer:
        """The gradients of all weights, as a tree like them: computed when first asked for."""
        with self._lock:
            if self._weight_gradients is None:
                self._weight_gradients = self._backward(Tapped.of(self.model.config, self._taps()))
            return self._weight_gradients

    def next(self, n: int = 10) -> list[tuple[str, float]]:
        """The likeliest next tokens and their probabilities."""
        probs, _ = softmax.forward(self.logits[-1])
        best = np.argsort(-probs, kind="stable")[:n]
        return [(texts.word(self.model, token_id), float(probs[token_id])) for token_id in best]

    def release(self) -> None:
        """Let go of blocks' insides: they are computed again where they are asked for."""
        with self._lock:
            self._inside.clear()
            self._tapped.saved.clear()

    def __repr__(self) -> str:
        return f"Trace of {len(self.tokens)} tokens: {self.objective.kind} {self.result:.4f}"

    def _repr_html_(self) -> str:
        from handgrad.trace import show

        return show.table(self)

    def _find(self, name: str, *, backward: bool) -> np.ndarray:
        if name not in self.names:
            raise sites.unknown(name, self.names)
        taps = self._tapped.taps
        with self._lock:
            if backward and not self._tapped.gradients:
                self._backward(self._tapped)
                self._hold_all(backward=True)
            if not name.startswith("blocks."):
                return (taps.gradients if backward else taps.values)[name][0]
            return self._block(int(name.split(".")[1]), backward)[name]

    def _block(self, layer: int, backward: bool) -> dict[str, np.ndarray]:
        """All that stands inside a block, or all its gradients."""
        if (layer, backward) not in self._inside:
            self._compute(layer, backward)
        self._inside.move_to_end((layer, backward))
        return self._inside[layer, backward]

    def _compute(self, layer: int, backward: bool) -> None:
        taps = self._taps(frozenset(self._names_in(layer)))
        block = self._tapped.tapped_block(layer, taps)
        x, weights = self._tapped.inputs[layer]
        _, saved = block.forward(x, weights)
        if backward:
            block.backward(self._tapped.gradients[layer], saved)
            self._hold((layer, True), taps.gradients)
        self._hold((layer, False), taps.values)

    def _names_in(self, layer: int) -> list[str]:
        return [name for name in self.names if name.startswith(f"blocks.{layer}.")]

    def _hold_all(self, *, backward: bool) -> None:
        """What the taps kept of blocks' insides on the way forward, or back."""
        kept = self._tapped.taps.gradients if backward else self._tapped.taps.values
        for layer in range(self.model.config.n_layers):
            inside = {name: kept.pop(name) for name in self._names_in(layer) if name in kept}
            if inside:
                self._hold((layer, backward), inside)

    def _hold(self, key: tuple[int, bool], arrays: dict[str, np.ndarray]) -> None:
        self._inside[key] = {name: array[0] for name, array in arrays.items()}
        held = [sum(array.nbytes for array in inside.values()) for inside in self._inside.values()]
        while sum(held) > self._most and len(held) > 2:
            self._inside.popitem(last=False)
            held.pop(0)

    def _taps(self, kept: frozenset[str] = frozenset()) -> Taps:
        taps = self._tapped.taps
        return Taps(kept, taps.edits, taps.gradient_edits)

    def _backward(self, tapped: Tapped) -> p.Transformer:
        dlogits = self.objective.gradient(self.logits[None], self.token_ids[None])
        if tapped is not self._tapped:
            _, saved = tapped.forward(self.model.weights, self.token_ids[None])
            return tapped.backward(dlogits, saved)[0]
        return tapped.backward(dlogits, self._saved)[0]


def trace(
    model: Model,
    text: Any,
    target: Any = None,
    *,
    rival: Any = None,
    objective: str | None = None,
    edits: Edits | None = None,
    gradient_edits: Edits | None = None,
    hold: int | None = None,
) -> Trace:
    """Run a text through `model`, ready to say what stood at every site, and what its gradient is.

    The text is a string or token ids (T,). What is differentiated, see `objective`: without a `target` the
    loss of the text itself; with one, a token as text or id, the loss of its coming next, or by
    `objective="logit"` its logit; with a `rival` the difference of both logits.

    `edits` change values by the names of their sites, `gradient_edits` gradients (see `edits`, or give a
    function); what a trace then shows is what went on from there. `hold` is how many bytes of blocks' insides
    are held once they were asked for, by default `HELD_BYTES`.

    Raises `UserError` for a text that the model cannot read, for a name that no site has, for an edit that
    does not fit, and for what would not fit into memory.
    """
    config = model.config
    require_weights_of(config, model.weights)
    read = texts.read(model, text)
    asked = objectives.of(model, len(read.token_ids), target, rival, objective)
    most = HELD_BYTES if hold is None else hold
    n_bytes = memory(config, len(read.token_ids), width=model.weights.embedding.dtype.itemsize, hold=most)
    fits.require(n_bytes, "This trace", "Take a shorter text.")
    keeps = insides(config, len(read.token_ids), model.weights.embedding.dtype.itemsize) <= most
    names = [site.name for site in sites.of(config)]
    kept = frozenset(name for name in names if keeps or not name.startswith("blocks."))
    taps = Taps(kept, _of(edits, config), _of(gradient_edits, config))
    tapped = Tapped.of(config, taps, learns=False, keeps=keeps)
    logits, saved = tapped.forward(model.weights, read.token_ids[None])
    result = float(asked(logits, read.token_ids[None])[0])
    return Trace(model, *read, asked, result, logits[0], tapped, saved, most)


def memory(config: ModelConfig, n_tokens: int, *, width: int = 4, hold: int | None = None) -> int:
    """The bytes that a trace takes at most, for numbers of `width` bytes; nothing is computed."""
    most = HELD_BYTES if hold is None else hold
    return min(most, insides(config, n_tokens, width)) + of_a_run(config, n_tokens, width)


def insides(config: ModelConfig, n_tokens: int, width: int) -> int:
    """The bytes of all that stands inside blocks, and of its gradients."""
    inside = [site for site in sites.of(config) if site.name.startswith("blocks.")]
    return 2 * width * sum(_size(site, config, n_tokens) for site in inside)


def of_a_run(config: ModelConfig, n_tokens: int, width: int, n_logits: int | None = None) -> int:
    """The bytes that one way forward and back takes, with logits for all positions or `n_logits` of them."""
    inside = [site for site in sites.of(config) if site.name.startswith("blocks.0.")]
    block = sum(_size(site, config, n_tokens) for site in inside)
    stream = 2 * (config.n_layers + 3) * n_tokens * config.d_model
    logits = 5 * (n_tokens if n_logits is None else n_logits) * config.vocab_size
    table = 3 * config.vocab_size * config.d_model  # gradients of embedding and head, which a backward makes
    of_a_block = count(config).parameters // config.n_layers
    return width * (LIVE * block + stream + logits + table + of_a_block)


def _of(edits: Edits | None, config: ModelConfig) -> dict[str, Edit]:
    names = [site.name for site in sites.of(config)]
    for name in edits or {}:
        if name not in names:
            raise sites.unknown(name, names)
    return {name: edits_.of(edit) for name, edit in (edits or {}).items()}


def _size(site: Site, config: ModelConfig, n_tokens: int) -> int:
    return int(np.prod(sites.shape(site, config, n_tokens)))
