"""The reference engine: the formulas themselves, on NumPy, as they stand.

A training step walks its batch a few sequences at a time, forward and backward, each core its own, and sums
the gradients in order: the arrays of a part stay in the processor's cache, memory does not grow with the
batch, and the number of cores does not change the result. The optimizer passes over the flat buffer in
pieces in the same way.
"""

import numpy as np

from handgrad import parameters as p
from handgrad import tree
from handgrad.engines import memory, parallel
from handgrad.engines.engine import OptimizerSettings, Step, micro_batches, share
from handgrad.model.config import ModelConfig
from handgrad.model.transformer import LanguageModel, Transformer
from handgrad.optim import adamw, clip

MICRO_BATCH_TOKENS = 512
PIECE = 1 << 16
"""Weights the optimizer updates at a time."""


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

    def changed(self) -> None:
        """Call after writing into `weights` from outside: nothing is to be done, they are all there is."""

    def step(
        self,
        token_ids: np.ndarray,
        targets: np.ndarray,
        learning_rate: float,
        rng: np.random.Generator | None = None,
    ) -> Step:
        """One step of AdamW on one batch. Where loss or gradient are not finite, nothing is changed."""
        loss = self.loss_and_gradients(token_ids, targets, rng)
        with np.errstate(all="ignore"):  # what overflows is seen in the numbers returned
            clipped, norm = clip.by_global_norm(self.gradient, self.settings.max_gradient_norm)
        step = Step(loss, float(norm))
        if step.is_finite:
            self._update(clipped, learning_rate)
        return step

    def loss_and_gradients(
        self, token_ids: np.ndarray, targets: np.ndarray, rng: np.random.Generator | None = None
    ) -> float:
        """The batch's mean loss; its gradient is left in `gradients`. Dropout is drawn from `rng`."""
        parts = micro_batches(token_ids, MICRO_BATCH_TOKENS)
        seeds = [None] * len(parts) if rng is None else rng.integers(1 << 63, size=len(parts)).tolist()

        def run(part: slice, seed: int | None) -> tuple[float, p.Transformer]:
            weight = share(targets, part)
            rng = None if seed is None else np.random.default_rng(seed)
            with np.errstate(all="ignore"):
                loss, gradients = self.model.loss_and_gradients(
                    weight, self.weights, token_ids[part], targets[part], rng=rng
                )
            return weight * float(loss), gradients

        self.gradient[:] = 0.0
        loss = 0.0
        for part_loss, gradients in parallel.each(run, parts, seeds):
            loss += part_loss
            for total, gradient in zip(tree.leaves(self.gradients), tree.leaves(gradients), strict=True):
                total += gradient
        return loss

    def loss(self, token_ids: np.ndarray, targets: np.ndarray) -> float:
        """The batch's mean loss without dropout."""

        def run(part: slice) -> float:
            with np.errstate(all="ignore"):
                loss, _ = self.model.forward(self.weights, token_ids[part], targets[part])
            return float(loss) * share(targets, part)

        return sum(parallel.each(run, micro_batches(token_ids, MICRO_BATCH_TOKENS)))

    def _update(self, gradient: np.ndarray, learning_rate: float) -> None:
        settings, moments = self.settings, self.moments

        def run(part: slice) -> None:
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

        for _ in parallel.each(run, [slice(i, i + PIECE) for i in range(0, self.flat.size, PIECE)]):
            pass
        self.moments = moments._replace(step=moments.step + 1)


class Decoding:
    """A text in progress, with the keys and values of all its tokens so far: the KV cache."""

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
