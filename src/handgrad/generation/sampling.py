r"""From logits to the next token: temperature, top-k, top-p, and the draw.

$$p_i \propto e^{z_i/\tau}$$

At temperature $\tau = 1$ these are the model's own probabilities. Below 1 the likely tokens become likelier;
at 0 only the likeliest is left (greedy). Top-k keeps the k likeliest tokens. Top-p keeps the fewest tokens
that together have probability p (Holtzman et al., "The curious case of neural text degeneration", 2019,
arXiv:1904.09751). All others get zero, and the rest is scaled to sum to one.
"""

from dataclasses import dataclass

import numpy as np

from handgrad.errors import UserError, require_number, require_whole, shown

LARGEST = 1e300
"""The largest temperature."""


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How to choose the next token. Raises `UserError` for settings that mean nothing."""

    temperature: float = 0.8
    top_k: int | None = None
    top_p: float | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "temperature", require_number("temperature", self.temperature))
        if not 0.0 <= self.temperature <= LARGEST:
            raise UserError(
                f"temperature must be zero (always the likeliest) or above; got {shown(self.temperature)}. "
                f"Try 0.8."
            )
        if self.top_k is not None:
            object.__setattr__(self, "top_k", require_whole("top_k", self.top_k, least=1))
        if self.top_p is not None:
            object.__setattr__(self, "top_p", require_number("top_p", self.top_p))
            if not 0.0 < self.top_p <= 1.0:
                raise UserError(
                    f"top_p is a share of probability, above 0 and at most 1; got {shown(self.top_p)}. "
                    f"Try 0.9."
                )


def distribution(logits: np.ndarray, sampling: Sampling) -> np.ndarray:
    """The probabilities (V,) from which the next token is drawn, in float64.

    Raises `UserError` for logits that are not finite.
    """
    if not np.isfinite(logits).all():
        raise UserError(
            "A model's logits must be finite; this one's are not: its weights are damaged or far too large. "
            "Take another checkpoint, or train with a lower learning rate."
        )
    if sampling.temperature == 0.0:
        return np.eye(len(logits))[int(np.argmax(logits))]
    z = logits.astype(np.float64)
    probs = np.exp((z - z.max()) / max(sampling.temperature, np.finfo(np.float32).tiny))
    probs /= probs.sum()
    kept = len(probs) if sampling.top_k is None else min(sampling.top_k, len(probs))
    order = np.argsort(-probs, kind="stable")
    if sampling.top_p is not None:
        before = np.cumsum(probs[order]) - probs[order]  # probability of all likelier tokens
        kept = min(kept, int(np.sum(before < sampling.top_p)))
    probs[order[kept:]] = 0.0
    return probs / probs.sum()


def draw(probs: np.ndarray, rng: np.random.Generator) -> int:
    """A token drawn from `probs`."""
    return int(rng.choice(len(probs), p=probs))
