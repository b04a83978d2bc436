"""The proof on a model of the user's own, at its real size, with its own weights and text.

Three things are asked of every weight array:

- its gradient, through all layers, is that of the loss: `gradcheck`, one random direction an array;
- its gradient is not zero, unless there is a reason for it;
- one step of training moves it.
"""

import itertools
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from handgrad import gradcheck, tree
from handgrad import parameters as p
from handgrad.data import batches, files, token_file
from handgrad.engines import OptimizerSettings, State, fits, parallel, reference
from handgrad.formats.model_folder import Model
from handgrad.formats.sources import load
from handgrad.model.cases import generator
from handgrad.model.config import ModelConfig
from handgrad.model.count import count
from handgrad.model.init import require_weights_of
from handgrad.model.transformer import LanguageModel, Transformer
from handgrad.ops import activation
from handgrad.training.material import TOKENS

PROVED_TOKENS = 64
"""Tokens of the loss that is differentiated: few, because every array takes four forwards."""
PROVED_TOKENS_WITH_KINKS = 8
"""With a ReLU: each token and unit is a kink that a step may cross."""
TRIES = 6
"""Texts on which an array may fail for a kink nearby. A wrong gradient fails on each."""

BATCH_TOKENS = 1024
"""Tokens in which every weight should take part."""
BYTES_A_WEIGHT = 64
"""Weights and gradients in float64, several times, and a training step."""

LEARNING_RATE = 1e-3
SMALLEST = 1e-9
"""A gradient, clipped, that surely moves a weight: AdamW divides by its size, plus 1e-8."""
ZERO = 1e-12
"""Of the whole gradient's norm: what rounding leaves of a gradient that is zero."""
DECIDES_WHERE_TO_LOOK = re.compile(r"\.attention\.(query|key)(_norm)?\.")


class WeightProof(NamedTuple):
    """The verdict on one weight array."""

    name: str
    """As in checkpoints: `blocks.0.attention.query.weight`."""
    size: int
    """How many weights it holds."""
    relative_error: float
    """Of the gradient along a random direction: see `gradcheck`."""
    n_zero: int
    """Weights whose gradient is zero."""
    why_zero: str
    """Why it must be; empty where there is no reason."""
    n_unmoved: int
    """Weights that have a gradient, and that a step of training left as they were."""

    @property
    def passed(self) -> bool:
        proved = self.relative_error <= gradcheck.TOLERANCE
        return proved and not self.n_unmoved and bool(not self.n_zero or self.why_zero)


def check_model(model: Model | str | Path, *, seed: int = 0) -> list[WeightProof]:
    """Prove a model, or the one in a folder: a verdict on every weight array.

    The text is the run's own where there is one, and random token ids otherwise. Raises `UserError` where
    the folder holds no model.
    """
    return list(weight_proofs(model, seed))


def weight_proofs(model: Model | str | Path, seed: int = 0) -> Iterator[WeightProof]:
    """The verdicts of `check_model`, each as soon as it is reached."""
    rng = generator(seed)
    tokens = None
    if not isinstance(model, Model):
        folder, model = Path(model), load(model)
        tokens = _text(folder, model.config)
    require_weights_of(model.config, model.weights)
    config = model.config.replace(dropout=0.0)
    fits.require(_memory(config), "The proof of this model")
    weights = tree.map(lambda leaf: leaf.astype(np.float64), model.weights)
    token_ids, targets = _batch(config, tokens, BATCH_TOKENS, rng)
    _, gradients = LanguageModel(Transformer(config)).loss_and_gradients(1.0, weights, token_ids, targets)
    unmoved = _unmoved(config, weights, gradients, token_ids, targets)
    norm = float(np.sqrt(sum(np.vdot(g, g) for g in tree.leaves(gradients))))
    with parallel.one_blas_thread():
        for proof, (name, gradient) in zip(
            _proofs(config, weights, tokens, rng), tree.named_leaves(gradients), strict=True
        ):
            n_zero, why = zeros(name, gradient, norm, config, token_ids)
            yield WeightProof(name, gradient.size, proof.relative_error, n_zero, why, unmoved[name])


def _memory(config: ModelConfig) -> int:
    """The bytes that the proof needs at its peak, in the backward of its largest batch."""
    longest = config.replace(context_length=min(config.context_length, BATCH_TOKENS))
    numbers = reference.numbers_a_token(longest) + 5 * config.ff_width  # those of one activation's formula
    return BYTES_A_WEIGHT * count(config).parameters + BATCH_TOKENS * numbers * np.dtype(np.float64).itemsize


def _proofs(
    config: ModelConfig, weights: p.Transformer, tokens: np.ndarray | None, rng: np.random.Generator
) -> Iterator[gradcheck.Proof]:
    """A verdict on every array; what fails is tried on other texts."""
    model = LanguageModel(Transformer(config))
    n_tokens = PROVED_TOKENS_WITH_KINKS if config.activation in activation.KINKED else PROVED_TOKENS

    def proofs(only: set[str] | None = None) -> Iterator[gradcheck.Proof]:
        token_ids, targets = _batch(config, tokens, n_tokens, rng)
        inputs = {"weights": weights, "token_ids": token_ids, "targets": targets}
        return gradcheck.proofs(model, inputs, rng, directions=1, only=only)

    for proof in proofs():
        others = (next(proofs({proof.input})) for _ in range(TRIES - 1))
        yield next((tried for tried in itertools.chain([proof], others) if tried.passed), proof)


def _batch(
    config: ModelConfig, tokens: np.ndarray | None, n_tokens: int, rng: np.random.Generator
) -> batches.Batch:
    """About `n_tokens` tokens of the text, or random ones, in sequences as long as the model reads."""
    length = min(config.context_length, n_tokens)
    batch_size = max(1, n_tokens // length)
    if tokens is None or len(tokens) <= length:
        drawn = rng.integers(config.vocab_size, size=(batch_size, length + 1))
        return drawn[:, :-1], drawn[:, 1:]
    return batches.draw(tokens, batch_size, length, rng)


def _text(folder: Path, config: ModelConfig) -> np.ndarray | None:
    path = folder / TOKENS
    return token_file.read(path, config.vocab_size) if files.exists(path) else None


def _unmoved(
    config: ModelConfig,
    weights: p.Transformer,
    gradients: p.Transformer,
    token_ids: np.ndarray,
    targets: np.ndarray,
) -> dict[str, int]:
    """How many weights of each array a step of training leaves as they were, though they have a gradient."""
    settings = OptimizerSettings()
    training = reference.training(config, State(weights), settings)
    before = tree.map(np.copy, training.state().weights)
    step = training.step(token_ids, targets, LEARNING_RATE)
    smallest = SMALLEST * max(1.0, step.gradient_norm / settings.max_gradient_norm)
    arrays = zip(
        tree.named_leaves(gradients), tree.leaves(before), tree.leaves(training.state().weights), strict=True
    )
    return {name: int(np.sum((np.abs(g) > smallest) & (old == new))) for (name, g), old, new in arrays}


def zeros(
    name: str, gradient: np.ndarray, norm: float, config: ModelConfig, token_ids: np.ndarray
) -> tuple[int, str]:
    """How many weights of an array have no gradient, and why, where there is a reason."""
    zero = np.abs(gradient) <= ZERO * norm if name.endswith("key.bias") else gradient == 0.0
    reason = ""
    if config.vocab_size == 1:
        reason = "one token: there is nothing to predict"
    elif config.context_length == 1 and np.all(zero) and DECIDES_WHERE_TO_LOOK.search(name):
        reason = "one position: there is nowhere else to look"
    elif name.endswith("key.bias") and np.all(zero):
        reason = "softmax does not see what all keys share"
    elif name == "embedding" and not np.any(zero[np.unique(token_ids)]):
        reason = "tokens that the batch does not have"
    elif name == "positions" and not np.any(zero[: token_ids.shape[1]]):
        reason = "positions after the text"
    elif config.activation in activation.SILENT and _of_some_units(name, zero):
        reason = "units that no token turns on"
    elif name.endswith("alpha") and _of_some_units(name, zero):
        reason = "units that no token makes negative"
    return int(np.sum(zero)), reason if np.any(zero) else ""


def _of_some_units(name: str, zero: np.ndarray) -> bool:
    """Whether the zeros are all that some, not all, units of a feed-forward block have."""
    units = zero.T if name.endswith("down.weight") else zero
    off = np.all(units, axis=0) if units.ndim == 2 else units
    return (
        "feed_forward" in name
        and not np.all(off)
        and np.array_equal(units, np.broadcast_to(off, units.shape))
    )
