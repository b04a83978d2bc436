"""The model that is verified, with what more than one comparison needs."""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

from handgrad import parameters as p
from handgrad import tree
from handgrad.engines import parallel
from handgrad.formats.model_folder import Model
from handgrad.model.config import ModelConfig
from handgrad.model.init import require_weights_of
from handgrad.model.transformer import LanguageModel, Transformer
from handgrad.ops import activation
from handgrad.verify.directions import length, size_of
from handgrad.verify.texts import LARGE, Texts, other_texts, texts_for

Named = dict[str, np.ndarray]
"""Arrays by the names of the weights."""


class Subject(NamedTuple):
    """A model, its weights in float64, and what the formulas make of its texts."""

    model: Model
    weights: p.Transformer
    texts: Texts
    logits: np.ndarray
    """(B, T, V) of the texts whose loss is differentiated."""
    loss: float
    gradients: Named
    sizes: dict[str, float]
    """How far the weights of each array move in one step: see `directions`."""
    lengths: dict[str, float]
    """Of each array's gradient."""
    uncached: Callable[[np.ndarray], np.ndarray]
    """The logits (B, T, V) of other texts, by the formulas without a cache; computed once for each."""

    @property
    def config(self) -> ModelConfig:
        return self.model.config

    @property
    def n_weights(self) -> int:
        return tree.size(self.weights)

    @property
    def length(self) -> float:
        """That of the whole gradient."""
        return float(np.hypot.reduce(list(self.lengths.values())))

    @property
    def is_large(self) -> bool:
        """Whether float64 is too dear where float32 will do."""
        return self.n_weights >= LARGE

    @property
    def has_kinks(self) -> bool:
        """Whether a small step may cross a kink, so that what fails on one text is tried on others."""
        return self.config.activation in activation.KINKED

    def named_weights(self) -> Iterator[tuple[str, np.ndarray]]:
        return tree.named_leaves(self.weights)


def subject_of(model: Model, rng: np.random.Generator) -> Subject:
    """The model with logits, loss and gradient, by the formulas in float64."""
    require_weights_of(model.config, model.weights)
    weights = tree.map(in_float64, model.weights)
    return _reading(model, weights, texts_for(model, rng))


def in_float64(weight: np.ndarray) -> np.ndarray:
    """A float32 weight for the formulas: in one order, in which they add."""
    return np.asarray(weight, np.float32).astype(np.float64, order="C")


def on_another_text(subject: Subject, rng: np.random.Generator) -> Subject:
    """The same model on random token ids."""
    return _reading(subject.model, subject.weights, other_texts(subject.texts, subject.config, rng))


def _reading(model: Model, weights: p.Transformer, texts: Texts) -> Subject:
    loss, gradients = loss_and_gradients(model.config, weights, texts)
    found = logits(model.config, weights, texts.token_ids)
    sizes = {name: size_of(array) for name, array in tree.named_leaves(weights)}
    lengths = {name: length(gradient) for name, gradient in gradients.items()}
    uncached = _remembering(lambda token_ids: logits(model.config, weights, token_ids))
    return Subject(model, weights, texts, found, loss, gradients, sizes, lengths, uncached)


def _remembering(read: Callable[[np.ndarray], np.ndarray]) -> Callable[[np.ndarray], np.ndarray]:
    known: dict[bytes, np.ndarray] = {}

    def remembered(token_ids: np.ndarray) -> np.ndarray:
        key = np.ascontiguousarray(token_ids, np.int64).tobytes()
        if key not in known:
            known[key] = read(token_ids)
        return known[key]

    return remembered


def logits(config: ModelConfig, weights: p.Transformer, token_ids: np.ndarray) -> np.ndarray:
    """The scores (B, T, V) by the formulas, without a cache."""
    with parallel.one_blas_thread():
        return Transformer(config).forward(weights, token_ids)[0]


def loss_and_gradients(config: ModelConfig, weights: p.Transformer, texts: Texts) -> tuple[float, Named]:
    """The loss and its gradient by the formulas."""
    with parallel.one_blas_thread():
        model = LanguageModel(Transformer(config))
        loss, gradients = model.loss_and_gradients(1.0, weights, texts.token_ids, texts.targets)
    return float(loss), dict(tree.named_leaves(gradients))
