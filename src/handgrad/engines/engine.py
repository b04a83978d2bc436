"""What every engine offers: the protocols, and the values that pass through them.

An engine is a module. `Engine` says which functions it has; `handgrad.engines` lists all engines. Arrays that
come in are checked at this door, before anything is computed (`model.inputs`). Arrays that go out are
NumPy's.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, Protocol, get_args

import numpy as np

from handgrad import parameters as p
from handgrad.model.config import ModelConfig
from handgrad.optim import adamw

Optimizer = Literal["adamw", "muon"]
OPTIMIZERS: tuple[str, ...] = get_args(Optimizer)


@dataclass(frozen=True, kw_only=True)
class OptimizerSettings:
    """AdamW's settings, Muon's, and the length to which gradients are clipped."""

    optimizer: Optimizer = "adamw"
    """muon: for the matrices of the blocks, and AdamW for all else."""
    beta1: float = 0.9
    beta2: float = 0.99
    momentum: float = 0.9
    """Muon's."""
    matrix_rate: float = 1.0
    """Muon's learning rate, as a multiple of AdamW's, which a step is told."""
    weight_decay: float = 0.1
    max_gradient_norm: float = 1.0

    def decay_of(self, weight: Any) -> float:
        """How much a weight decays: matrices do, biases and norms do not."""
        return self.weight_decay if weight.ndim >= 2 else 0.0

    def is_muons(self, name: str, weight: Any) -> bool:
        """Whether Muon updates the weight of that name, else AdamW does."""
        return self.optimizer == "muon" and weight.ndim == 2 and name.startswith("blocks.")


class State(NamedTuple):
    """All that training carries from one step to the next."""

    weights: p.Transformer
    moments: adamw.State | None = None
    """Flat, in the order of the weights. None before the first step: both are zero. Where Muon updates a
    matrix, its velocity lies in the place of the mean, and the squares stay zero. With adapters, theirs."""
    adapters: p.Transformer | None = None
    """What LoRA learns: an `Adapter` in the place of every weight that it is added to, and nothing elsewhere.
    See `engines.lora`."""


class Step(NamedTuple):
    """The loss before a training step, and the gradient's norm before clipping."""

    loss: float
    gradient_norm: float

    @property
    def is_finite(self) -> bool:
        return bool(np.isfinite(self.loss) and np.isfinite(self.gradient_norm))


class Limits(NamedTuple):
    """The largest loss and the largest norm of a gradient with which a step changes anything."""

    loss: float = math.inf
    gradient_norm: float = math.inf

    def allow(self, step: Step) -> bool:
        """Whether `step` is applied: what is not finite never is."""
        return step.is_finite and step.loss <= self.loss and step.gradient_norm <= self.gradient_norm


UNLIMITED = Limits()


class Memory(NamedTuple):
    """The memory that training takes at its peak, in bytes."""

    weights: int
    """Weights and the optimizer's two moments."""
    gradients: int
    """One a worker."""
    panels: int
    """The weights, packed as products read them."""
    activations: int
    """Of a micro-batch, and scratch, for every worker."""
    process: int
    """Python and its libraries."""

    @property
    def total(self) -> int:
        return sum(self)


def require_rng(config: ModelConfig, rng: np.random.Generator | None) -> None:
    """Raise `ValueError` where a step would drop nothing, though the model asks for dropout."""
    if config.dropout and rng is None:
        raise ValueError(
            f"A training step with dropout {config.dropout:g} needs the generator `rng` to draw it from; "
            "without dropout: config.replace(dropout=0.0)"
        )


class Training(Protocol):
    """A model in training. Token ids and targets are integers (B, T); a target of -1 does not count."""

    config: ModelConfig
    steps_ahead: int
    """Steps to begin before the loss of an earlier one is asked for: more than 0 keep a device busy."""

    def load(self, state: State) -> None:
        """Go on from `state`: its arrays are copied."""

    def state(self) -> State:
        """Where training stands. The arrays may be the engine's own: read them before the next step."""

    def own(self, n_sequences: int) -> slice | np.ndarray:
        """Which sequences of a batch this process computes: what it is handed as the others is not read."""

    def step(
        self,
        token_ids: np.ndarray,
        targets: np.ndarray,
        learning_rate: float,
        rng: np.random.Generator | None = None,
        limits: Limits = UNLIMITED,
    ) -> Step:
        """One update from one batch. Beyond `limits`, or where they are not finite, nothing is changed.

        Dropout is drawn from `rng`; `ValueError` where there is dropout and no `rng`.
        """

    def begin(
        self,
        token_ids: np.ndarray,
        targets: np.ndarray,
        learning_rate: float,
        rng: np.random.Generator | None = None,
        limits: Limits = UNLIMITED,
    ) -> Callable[[], Step]:
        """A step that may still be computed: call what is returned for its loss and norm."""

    def loss_and_gradients(
        self, token_ids: np.ndarray, targets: np.ndarray, rng: np.random.Generator | None = None
    ) -> tuple[float, p.Transformer]:
        """The batch's mean loss and its gradient. Dropout is drawn from `rng`.

        The gradient's arrays may be the engine's own: read them before the next call.
        """

    def loss(self, token_ids: np.ndarray, targets: np.ndarray) -> float:
        """The batch's mean loss without dropout, in nats a token."""

    def logits(self, token_ids: np.ndarray) -> np.ndarray:
        """The scores (B, T, V) of what comes next, without dropout."""


class Decoding(Protocol):
    """Texts in progress, each with its tokens' keys and values: the KV cache."""

    config: ModelConfig
    lengths: np.ndarray
    """(n_texts,) tokens in each text's cache."""

    def read(
        self, pieces: Sequence[np.ndarray], texts: Sequence[int] | None = None, *, every: bool = False
    ) -> np.ndarray:
        """Read the ids pieces[i] (T_i,) at the end of text texts[i], by default i.

        Returns the logits (len(pieces), V) of what follows each piece; with `every`, of what follows each of
        its tokens, one piece after the other: (sum of T_i, V).
        """

    def cut(self, text: int, length: int) -> None:
        """Keep the first `length` tokens of a text; 0 empties it."""


class Engine(Protocol):
    """A module that trains models and writes with them."""

    def require(self, precision: str) -> None:
        """Raise `UserError` unless this machine computes in `precision`."""

    def describe(self, precision: str) -> str:
        """What it computes with, and why, in words."""

    def memory(self, config: ModelConfig, batch_size: int, precision: str = "auto") -> Memory:
        """What training will take on this machine, from numbers alone: nothing is allocated."""

    def available(self) -> int | None:
        """The bytes of memory that there are for it; None where the system does not say."""

    def training(
        self,
        config: ModelConfig,
        state: State,
        settings: OptimizerSettings,
        *,
        precision: str = "auto",
        batch_size: int | None = None,
        compiling: Callable[[str], object] = lambda kernel: None,
    ) -> Training:
        """Training, ready for its first step with `batch_size` sequences; other sizes work too.

        `compiling` is told the name of every kernel that has to be compiled.
        """

    def decoding(
        self,
        config: ModelConfig,
        weights: p.Transformer,
        *,
        n_texts: int = 1,
        capacity: int | None = None,
        precision: str = "auto",
        cache: str = "auto",
        blocks: Mapping[str, p.Blocks] | None = None,
        compiling: Callable[[str], object] = lambda kernel: None,
    ) -> Decoding:
        """`n_texts` empty texts, each with room for `capacity` tokens, by default the model's whole context.

        `precision` is that of weights and products, `cache` what keys and values are kept in. `blocks` are
        matrices as a quantized file holds them, by the dotted names of the weights, for engines that multiply
        with them as they are. `compiling` is told the name of every kernel that has to be compiled.
        """

    def cache_bytes(
        self,
        config: ModelConfig,
        weights: p.Transformer,
        *,
        n_texts: int = 1,
        capacity: int | None = None,
        precision: str = "auto",
        cache: str = "auto",
        blocks: Mapping[str, p.Blocks] | None = None,
    ) -> int:
        """The memory that keys and values of such a decoding take at most: nothing is allocated."""
