r"""From logits to the next token: temperature, top-k, top-p, min-p, and the draw.

$$p_i \propto e^{z_i/\tau}$$

At temperature $\tau = 1$ these are the model's own probabilities. Below 1 the likely tokens become likelier;
at 0 only the likeliest is left (greedy). Then follow, each on what the one before has left, scaled to sum to
one:

- top-k keeps the k likeliest tokens (Fan et al., 2018, arXiv:1805.04833);
- top-p keeps the fewest tokens that together have probability p (Holtzman et al., "The curious case of
  neural text degeneration", 2019, arXiv:1904.09751);
- min-p keeps the tokens that have at least that share of the likeliest one's probability (Nguyen et al.,
  2024, arXiv:2407.01082).

Biases and penalties (`penalties`) come before all of this, and then a constraint: bias, repetition, presence
and frequency, DRY, constraint, temperature, top-k, top-p, min-p.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from handgrad.errors import UserError, require_number, require_whole, shown
from handgrad.generation import penalties
from handgrad.shapes import Bool, Float

SMALLEST, LARGEST = float(np.finfo(np.float32).tiny), 1e300
"""What a temperature above 0 counts as at least, and the largest."""
MOST = 1e6
"""The largest penalty or bias."""


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How to choose the next token. Raises `UserError` for settings that mean nothing."""

    temperature: float = 0.8
    top_k: int | None = None
    top_p: float | None = None
    min_p: float | None = None
    repetition_penalty: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    dry_multiplier: float = 0.0
    """0 turns DRY off; 0.8 is usual."""
    dry_base: float = 1.75
    dry_allowed_length: int = 2
    dry_breakers: tuple[str, ...] = ("\n", ":", '"', "*")
    """Texts whose tokens end a repetition."""
    logit_bias: Mapping[int, float] = field(default_factory=dict)
    """By token id."""

    def __post_init__(self) -> None:
        self._set("temperature", 0.0, LARGEST, "zero (always the likeliest) or above", "0.8")
        if self.top_k is not None:
            object.__setattr__(self, "top_k", require_whole("top_k", self.top_k, least=1))
        if self.top_p is not None:
            self._set(
                "top_p", np.nextafter(0.0, 1.0), 1.0, "a share of probability, above 0, at most 1", "0.9"
            )
        if self.min_p is not None:
            self._set("min_p", 0.0, 1.0, "a share of the likeliest one's probability, from 0 to 1", "0.05")
        self._set("repetition_penalty", 1 / MOST, MOST, "a factor above 0; 1 changes nothing", "1.1")
        for name in ("presence_penalty", "frequency_penalty"):
            self._set(name, -MOST, MOST, "a number that logits lose; 0 changes nothing", "0.5")
        self._set("dry_multiplier", 0.0, MOST, "zero (off) or above", "0.8")
        self._set("dry_base", 1.0, 100.0, "from 1 to 100", "1.75")
        least = require_whole("dry_allowed_length", self.dry_allowed_length, least=1)
        object.__setattr__(self, "dry_allowed_length", least)
        object.__setattr__(self, "logit_bias", _biases(self.logit_bias))

    def _set(self, name: str, low: float, high: float, rule: str, example: str) -> None:
        value = require_number(name, getattr(self, name))
        if not low <= value <= high:
            raise UserError(f"{name} must be {rule}; got {shown(value)}. Try {example}.")
        object.__setattr__(self, name, value)


class Seen(NamedTuple):
    """A text so far, as penalties look at it."""

    token_ids: list[int] = []  # noqa: RUF012 (never changed here)
    n_prompt: int = 0
    """How many of them are the prompt's."""
    breakers: tuple[int, ...] = ()
    """Tokens that end a repetition."""


def distribution(
    logits: Float[np.ndarray, " V"],
    sampling: Sampling,
    seen: Seen = Seen(),  # noqa: B008 (a tuple)
    allowed: Bool[np.ndarray, " V"] | None = None,
) -> Float[np.ndarray, " V"]:
    """The probabilities from which the next token is drawn, in float64.

    Raises `UserError` for logits that are not finite.
    """
    z = adjusted(logits, sampling, seen, allowed)
    if sampling.temperature == 0.0:
        return only(int(np.argmax(z)), len(z))
    z -= z.max()
    z /= max(sampling.temperature, SMALLEST)
    probs = np.exp(z, out=z)
    probs /= probs.sum()
    if sampling.top_k is not None:
        probs = top_k(probs, sampling.top_k)
    if sampling.top_p is not None:
        probs = top_p(probs, sampling.top_p)
    if sampling.min_p is not None:
        probs = min_p(probs, sampling.min_p)
    return probs


def draw(probs: Float[np.ndarray, " V"], rng: np.random.Generator) -> int:
    """A token drawn from `probs`: the first whose probability, with that of all before it, exceeds a random
    number."""
    edges = np.cumsum(probs)
    edges /= edges[-1]
    return int(np.searchsorted(edges, rng.random(), side="right"))


def only(token_id: int, vocab_size: int) -> Float[np.ndarray, " V"]:
    """All probability for one token."""
    probs = np.zeros(vocab_size)
    probs[token_id] = 1.0
    return probs


def top_k(probs: Float[np.ndarray, " V"], k: int) -> Float[np.ndarray, " V"]:
    """The k likeliest tokens; of equally likely ones, those of lower ids."""
    if k >= len(probs):
        return probs
    least = np.partition(probs, -k)[-k]
    kept = probs > least
    kept[np.flatnonzero(probs == least)[: k - int(kept.sum())]] = True
    return _scaled(np.where(kept, probs, 0.0))


def top_p(probs: Float[np.ndarray, " V"], p: float) -> Float[np.ndarray, " V"]:
    """The fewest tokens that together have probability p: those whose likelier ones do not reach it."""
    falling = np.sort(probs[probs > 0])[::-1]
    likelier = np.cumsum(falling) - falling
    return top_k(probs, int(np.sum(likelier < p)))


def min_p(probs: Float[np.ndarray, " V"], share: float) -> Float[np.ndarray, " V"]:
    """The tokens that have at least `share` of the likeliest one's probability."""
    return _scaled(np.where(probs >= share * probs.max(), probs, 0.0))


def adjusted(
    logits: Float[np.ndarray, " V"],
    sampling: Sampling,
    seen: Seen = Seen(),  # noqa: B008 (a tuple)
    allowed: Bool[np.ndarray, " V"] | None = None,
) -> Float[np.ndarray, " V"]:
    """The logits (float64, a copy) before temperature: after bias, penalties and the constraint."""
    require_finite(logits)
    z = penalized(logits.astype(np.float64), sampling, seen)
    return z if allowed is None else np.where(allowed, z, -np.inf)


def penalized(logits: Float[np.ndarray, " V"], sampling: Sampling, seen: Seen) -> Float[np.ndarray, " V"]:
    """The logits after bias and penalties."""
    s = sampling
    if s.logit_bias:
        logits = penalties.bias(logits, s.logit_bias)
    if s.repetition_penalty != 1.0:
        logits = penalties.repetition(logits, seen.token_ids, s.repetition_penalty)
    if s.presence_penalty or s.frequency_penalty:
        written = seen.token_ids[seen.n_prompt :]
        logits = penalties.presence_and_frequency(logits, written, s.presence_penalty, s.frequency_penalty)
    if s.dry_multiplier:
        logits = penalties.dry(
            logits, seen.token_ids, multiplier=s.dry_multiplier, base=s.dry_base,
            allowed_length=s.dry_allowed_length, breakers=seen.breakers,
        )  # fmt: skip
    return logits


def log_probabilities(logits: Float[np.ndarray, " V"]) -> Float[np.ndarray, " V"]:
    """The model's own, in nats: of its logits as they are, before any setting."""
    z = logits.astype(np.float64) - logits.max()
    return z - np.log(np.sum(np.exp(z)))


def require_finite(logits: Float[np.ndarray, " V"]) -> None:
    """Raise `UserError` for logits that are not finite."""
    if not (np.isfinite(logits.max()) and np.isfinite(logits.min())):  # a NaN is both of them
        raise UserError(
            "A model's logits must be finite; this one's are not: its weights are damaged or far too large. "
            "Take another checkpoint, or train with a lower learning rate."
        )


def _scaled(probs: Float[np.ndarray, " V"]) -> Float[np.ndarray, " V"]:
    return probs / probs.sum()


def _biases(given: Mapping[int, float]) -> dict[int, float]:
    """Biases by token id; `UserError` where they are something else."""
    if not isinstance(given, Mapping):
        raise UserError(f"logit_bias are numbers by token id, such as {{13: -5.0}}; got {shown(given)}.")
    biases = {}
    for token_id, value in given.items():
        number = require_number(f"logit_bias of token {shown(token_id)}", value)
        if not -MOST <= number <= MOST:
            raise UserError(
                f"logit_bias of token {shown(token_id)} must be finite; got {shown(value)}. Try -100."
            )
        if isinstance(token_id, str) and token_id.isdecimal():  # as JSON has it
            token_id = int(token_id)
        biases[require_whole("logit_bias: a token id", token_id)] = float(number)
    return biases
