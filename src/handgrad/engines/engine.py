"""What all engines share: what training can do, its settings, and how a batch is cut into parts."""

import itertools
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np

from handgrad import parameters as p
from handgrad.model.config import ModelConfig
from handgrad.optim import adamw


@dataclass(frozen=True, kw_only=True)
class OptimizerSettings:
    """AdamW's, and the length to which gradients are clipped."""

    beta1: float = 0.9
    beta2: float = 0.99
    weight_decay: float = 0.1
    max_gradient_norm: float = 1.0


class Step(NamedTuple):
    """What a training step tells: the loss before it, and the gradient's norm before clipping."""

    loss: float
    gradient_norm: float

    @property
    def is_finite(self) -> bool:
        return bool(np.isfinite(self.loss) and np.isfinite(self.gradient_norm))


class Training(Protocol):
    """What every engine's `Training` has."""

    config: ModelConfig
    weights: p.Transformer
    gradients: p.Transformer
    moments: adamw.State

    def changed(self) -> None:
        """Call after writing into `weights` from outside."""

    def step(
        self,
        token_ids: np.ndarray,
        targets: np.ndarray,
        learning_rate: float,
        rng: np.random.Generator | None = None,
    ) -> Step:
        """One step of AdamW on one batch. Where loss or gradient are not finite, nothing is changed."""

    def loss_and_gradients(
        self, token_ids: np.ndarray, targets: np.ndarray, rng: np.random.Generator | None = None
    ) -> float:
        """The batch's mean loss; its gradient is left in `gradients`. Dropout is drawn from `rng`."""

    def loss(self, token_ids: np.ndarray, targets: np.ndarray) -> float:
        """The batch's mean loss without dropout."""


def micro_batches(token_ids: np.ndarray, most_tokens: int, multiple_of: int = 1) -> list[slice]:
    """The batch's sequences in parts as even as can be, of `most_tokens` tokens at most, or one sequence.

    Their number is a multiple of `multiple_of`, or every part is a single sequence.
    """
    n_sequences = len(token_ids)
    n_parts = -(-n_sequences // max(1, most_tokens // token_ids.shape[1]))
    n_parts = min(n_sequences, -(-n_parts // multiple_of) * multiple_of)
    edges = [n_sequences * i // n_parts for i in range(n_parts + 1)]
    return [slice(*pair) for pair in itertools.pairwise(edges)]


def share(targets: np.ndarray, part: slice) -> float:
    """Which share of a batch's targets is in `part`, so that means over parts sum to the mean over the batch.

    Targets of -1 do not count.
    """
    return int(np.count_nonzero(targets[part] != -1)) / max(1, int(np.count_nonzero(targets != -1)))
