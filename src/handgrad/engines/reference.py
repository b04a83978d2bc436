"""The reference engine: the formulas themselves, on NumPy. Slow enough to read, fast enough to train small
models.

A training step walks its batch a few sequences at a time, forward and backward, and sums the gradients: the
arrays of one part stay in the processor's cache, and memory does not grow with the batch. The optimizer
passes over the flat buffer in pieces for the same reason.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from handgrad import parameters as p
from handgrad import tree
from handgrad.engines import memory
from handgrad.model.config import ModelConfig
from handgrad.model.transformer import LanguageModel, Transformer
from handgrad.optim import adamw, clip
from handgrad.shapes import UniformSource

MICRO_BATCH_TOKENS = 1024
PIECE = 1 << 15
"""Weights the optimizer updates at a time."""


@dataclass(frozen=True, kw_only=True)
class OptimizerSettings:
    """AdamW's, and the length to which gradients are clipped."""

    beta1: float = 0.9
    beta2: float = 0.99
    weight_decay: float = 0.1
    max_gradient_norm: float = 1.0


class Step(NamedTuple):
    """What a training step tells: the loss before it, in nats a token, and the gradient's norm before
    clipping."""

    loss: float
    gradient_norm: float

    @property
    def is_finite(self) -> bool:
        return bool(np.isfinite(self.loss) and np.isfinite(self.gradient_norm))


class Training:
    """Weights, gradient and moments, each one flat float32 buffer, and the steps that change them."""

    def __init__(self, config: ModelConfig, weights: p.Transformer, settings: OptimizerSettings):
        memory.keep_freed()
        self.config, self.settings = config, settings
        self.model = LanguageModel(Transformer(config))
        self.flat, self.weights = tree.pack(weights)
        self.gradient = np.zeros_like(self.flat)
        self.gradients = tree.views(self.gradient, self.weights)
        self.moments = adamw.init(self.flat)
        self.decay = np.empty_like(self.flat)  # matrices decay, biases and norms do not
        for decay in tree.leaves(tree.views(self.decay, self.weights)):
            decay[...] = settings.weight_decay if decay.ndim >= 2 else 0.0

    def step(
        self, token_ids: np.ndarray, targets: np.ndarray, learning_rate: float, rng: UniformSource | None
    ) -> Step:
        """One step of AdamW on one batch. Where loss or gradient are not finite, nothing is changed."""
        with np.errstate(all="ignore"):  # what overflows is seen in the numbers returned
            loss = self.loss_and_gradients(token_ids, targets, rng)
            clipped, norm = clip.by_global_norm(self.gradient, self.settings.max_gradient_norm)
            step = Step(loss, float(norm))
            if step.is_finite:
                self._update(clipped, learning_rate)
        return step

    def loss_and_gradients(
        self, token_ids: np.ndarray, targets: np.ndarray, rng: UniformSource | None = None
    ) -> float:
        """The batch's mean loss; its gradient is left in `gradients`."""
        self.gradient[:] = 0.0
        loss = 0.0
        n_sequences = max(1, MICRO_BATCH_TOKENS // token_ids.shape[1])
        for first in range(0, len(token_ids), n_sequences):
            part = slice(first, first + n_sequences)
            share = len(token_ids[part]) / len(token_ids)
            part_loss, saved = self.model.forward(self.weights, token_ids[part], targets[part], rng=rng)
            (gradients,) = self.model.backward(share, saved)
            loss += share * float(part_loss)
            for total, gradient in zip(tree.leaves(self.gradients), tree.leaves(gradients), strict=True):
                total += gradient
        return loss

    def loss(self, token_ids: np.ndarray, targets: np.ndarray) -> float:
        """The batch's mean loss without dropout."""
        with np.errstate(all="ignore"):
            return float(self.model.forward(self.weights, token_ids, targets)[0])

    def _update(self, gradient: np.ndarray, learning_rate: float) -> None:
        settings, moments = self.settings, self.moments
        for first in range(0, self.flat.size, PIECE):
            part = slice(first, first + PIECE)
            self.flat[part], updated = adamw.update(
                self.flat[part],
                gradient[part],
                adamw.State(moments.mean[part], moments.square[part], moments.step),
                learning_rate=learning_rate,
                beta1=settings.beta1,
                beta2=settings.beta2,
                weight_decay=self.decay[part],
            )
            moments.mean[part], moments.square[part] = updated.mean, updated.square
        self.moments = moments._replace(step=moments.step + 1)


class Decoding:
    """A text in progress: the keys and values of all its tokens so far (the KV cache), so that each is read
    once."""

    def __init__(self, config: ModelConfig, weights: p.Transformer):
        self.config, self.weights = config, weights
        self.model = Transformer(config)
        self.past: list[tuple[np.ndarray, np.ndarray]] | None = None

    @property
    def n_tokens(self) -> int:
        """How many tokens the cache holds."""
        return self.past[0][0].shape[2] if self.past else 0

    def read(self, token_ids: np.ndarray) -> np.ndarray:
        """Read more tokens; return the logits (V,) of what comes next."""
        logits, saved = self.model.forward(self.weights, token_ids[None, :], past=self.past)
        self.past = [(block.attention.attention.k, block.attention.attention.v) for block in saved.blocks]
        return logits[0, -1]

    def forget(self) -> None:
        """Empty the cache."""
        self.past = None
