"""Training of LoRA's narrow matrices: any engine computes, in memory of its own, and only they are learned.

The engine is handed the merged weights, W + s A B, and gives their gradients; the op `lora` says what follows
for A and B. So a step costs the products of a whole one: what is saved are two moments for each weight, and
what is kept is a model near the one it began from. Merging reads and writes each adapted matrix once a step.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

import numpy as np

from handgrad import parameters as p
from handgrad import tree
from handgrad.engines.engine import UNLIMITED, Limits, Memory, OptimizerSettings, State, Step
from handgrad.engines.engine import Training as Inner
from handgrad.errors import UserError
from handgrad.model import init as model_init
from handgrad.model.config import ModelConfig
from handgrad.model.init import require_weights_of
from handgrad.ops import lora
from handgrad.optim import adamw, clip


class Settings(NamedTuple):
    """The width of the narrow matrices, and what their product is multiplied with: alpha / rank."""

    rank: int
    alpha: float

    @property
    def scale(self) -> float:
        return self.alpha / self.rank


def shapes(config: ModelConfig, rank: int) -> p.Transformer:
    """The shapes of the narrow matrices, one pair for every matrix of the blocks, in its place.

    Raises `UserError` where they would not be narrow.
    """

    def pair(name: str, weight: np.ndarray) -> p.Adapter | None:
        if not _is_adapted(name, weight):
            return None
        if rank >= min(weight.shape):
            raise UserError(
                f"LoRA's rank is below the width of every matrix; got lora_rank={rank}, and {name} is "
                f"{weight.shape}. Take a smaller one, such as {max(1, min(weight.shape) // 8)}."
            )
        m, n = weight.shape
        return p.Adapter(*(np.broadcast_to(np.float32(0), shape) for shape in ((m, rank), (rank, n))))

    like = model_init.shapes(config)
    pairs = iter([pair(name, weight) for name, weight in tree.named_leaves(like)])
    return tree.map(lambda _: next(pairs), like)


def init(config: ModelConfig, rank: int, seed: int) -> p.Transformer:
    """A with deviation d_in^-1/2, so that x A is as large as x, and B zero: nothing is added yet."""
    rng = np.random.default_rng(seed)
    like = shapes(config, rank)
    _, adapters = tree.pack(like)
    for name, array in tree.named_leaves(adapters):
        if name.endswith(".a"):
            array[...] = rng.standard_normal(array.shape) * len(array) ** -0.5
    return adapters


def memory(config: ModelConfig, inner: Memory, rank: int) -> Memory:
    """What training takes: the weights, once more those that are adapted, and moments of few numbers."""
    like = model_init.shapes(config)
    adapted = sum(weight.size for name, weight in tree.named_leaves(like) if _is_adapted(name, weight))
    weights, adapters = tree.size(like), tree.size(shapes(config, rank))
    return inner._replace(weights=4 * (weights + adapted + 4 * adapters))


def merge(weights: p.Transformer, adapters: p.Transformer, settings: Settings) -> None:
    """Add the narrow matrices' products to the weights, in place."""
    named = dict(tree.named_leaves(weights))
    base = {name: weight for name, weight in named.items() if _is_adapted(name, weight)}
    _merge_into(named, base, adapters, settings.scale)


class Training:
    """An engine's training, with LoRA's matrices in the weights' place. It is an `engine.Training`."""

    def __init__(self, inner: Inner, state: State, optimizer: OptimizerSettings, settings: Settings):
        """`state`: the weights to begin from, which stay as they are, and the matrices."""
        assert state.adapters is not None
        self.inner, self.optimizer, self.scale = inner, optimizer, settings.scale
        self.config, self.steps_ahead = inner.config, 0
        self.flat, self.adapters = tree.pack(state.adapters)
        self.gradient = np.zeros_like(self.flat)
        named = tree.named_leaves(state.weights)
        self._base = {name: weight.copy() for name, weight in named if _is_adapted(name, weight)}
        self.load(state)

    def load(self, state: State) -> None:
        """Go on from the matrices and moments of `state`; its weights follow from those begun from."""
        assert state.adapters is not None
        require_weights_of(self.config, state.weights)
        tree.copy_into(self.adapters, state.adapters)
        self.moments = adamw.copied(state.moments, like=self.flat)
        self._merge()

    def state(self) -> State:
        """The merged weights, the matrices, and their moments."""
        return State(self.inner.state().weights, self.moments, self.adapters)

    def own(self, n_sequences: int) -> slice | np.ndarray:
        return self.inner.own(n_sequences)

    def step(
        self,
        token_ids: np.ndarray,
        targets: np.ndarray,
        learning_rate: float,
        rng: np.random.Generator | None = None,
        limits: Limits = UNLIMITED,
    ) -> Step:
        """One update of the matrices. Beyond `limits`, or where they are not finite, nothing is changed."""
        loss, gradients = self.inner.loss_and_gradients(token_ids, targets, rng)
        with np.errstate(all="ignore"):  # what overflows is seen in the numbers returned
            self._collect(gradients)
            clipped, norm = clip.by_global_norm(self.gradient, self.optimizer.max_gradient_norm)
        step = Step(loss, float(norm))
        if limits.allow(step):
            self.flat[...], self.moments = adamw.update(
                self.flat,
                clipped,
                self.moments,
                learning_rate=learning_rate,
                beta1=self.optimizer.beta1,
                beta2=self.optimizer.beta2,
                weight_decay=self.optimizer.weight_decay,
            )
            self._merge()
        return step

    def begin(
        self,
        token_ids: np.ndarray,
        targets: np.ndarray,
        learning_rate: float,
        rng: np.random.Generator | None = None,
        limits: Limits = UNLIMITED,
    ) -> Callable[[], Step]:
        """A step that is done."""
        step = self.step(token_ids, targets, learning_rate, rng, limits)
        return lambda: step

    def loss_and_gradients(
        self, token_ids: np.ndarray, targets: np.ndarray, rng: np.random.Generator | None = None
    ) -> tuple[float, p.Transformer]:
        """Those of the merged weights."""
        return self.inner.loss_and_gradients(token_ids, targets, rng)

    def loss(self, token_ids: np.ndarray, targets: np.ndarray) -> float:
        return self.inner.loss(token_ids, targets)

    def logits(self, token_ids: np.ndarray) -> np.ndarray:
        return self.inner.logits(token_ids)

    def _collect(self, gradients: p.Transformer) -> None:
        """The gradients of the matrices from those of the merged weights."""
        of_weights = dict(tree.named_leaves(gradients))
        of_matrices = dict(tree.named_leaves(tree.views(self.gradient, self.adapters)))
        for name, (a, b) in _pairs(self.adapters, self._base).items():
            da, db = lora.backward(of_weights[name], lora.Saved(a, b, self.scale))
            of_matrices[f"{name}.a"][...] = da
            of_matrices[f"{name}.b"][...] = db

    def _merge(self) -> None:
        weights = self.inner.state().weights  # its own arrays
        with np.errstate(all="ignore"):  # the next loss shows it
            _merge_into(dict(tree.named_leaves(weights)), self._base, self.adapters, self.scale)
        self.inner.load(State(weights))


def _merge_into(
    merged: Mapping[str, np.ndarray], base: Mapping[str, np.ndarray], adapters: p.Transformer, scale: float
) -> None:
    for name, (a, b) in _pairs(adapters, base).items():
        merged[name][...] = lora.forward(a, b, weight=base[name], scale=scale)[0]


def _pairs(adapters: p.Transformer, names: Iterable[str]) -> dict[str, p.Adapter]:
    """The two matrices of each adapted weight, by its name."""
    named = dict(tree.named_leaves(adapters))
    return {name: p.Adapter(named[f"{name}.a"], named[f"{name}.b"]) for name in names}


def _is_adapted(name: str, weight: np.ndarray) -> bool:
    return name.startswith("blocks.") and weight.ndim == 2
