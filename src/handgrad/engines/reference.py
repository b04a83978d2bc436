"""The reference engine: the formulas themselves, on NumPy, as they stand.

A training step cuts its batch into micro-batches, runs each forward and backward on a core of its own, and
sums the gradients in order. So the arrays of a micro-batch stay in the processor's cache, memory does not
grow with the batch, and the number of cores does not change the result. The optimizer walks the flat buffer
in slices in the same way.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from handgrad import parameters as p
from handgrad import tree
from handgrad.counted import Counted
from handgrad.engines import allocator, fits, micro_batches, parallel
from handgrad.engines import texts as in_progress
from handgrad.engines.engine import UNLIMITED, Limits, Memory, OptimizerSettings, State, Step, require_rng
from handgrad.errors import UserError, require_known
from handgrad.kernels import PRECISIONS
from handgrad.model.block import Past
from handgrad.model.config import ModelConfig
from handgrad.model.count import count
from handgrad.model.init import require_weights_of, shapes
from handgrad.model.inputs import require_batch, require_token_ids
from handgrad.model.transformer import LanguageModel, Transformer
from handgrad.optim import adamw, clip, muon

MICRO_BATCH_TOKENS = 512
UPDATE_SLICE = 1 << 16
"""Weights the optimizer updates at a time."""
PROCESS = 85_000_000
"""Bytes of a training process besides its arrays, as measured: Python, NumPy, matplotlib."""


def require(precision: str) -> None:
    """Raise `UserError` for bfloat16: NumPy computes in float32."""
    require_known("precision", precision, PRECISIONS)
    if precision not in ("auto", "float32"):
        raise UserError(f"The reference engine computes in float32. Take --engine cpu for {precision}.")


def describe(precision: str) -> str:
    """What the engine computes with, in words."""
    return "the formulas themselves, float32"


def memory(config: ModelConfig, batch_size: int, precision: str = "auto") -> Memory:
    """What training takes at its peak: weights exactly, activations by the arrays that backward keeps."""
    n_weights, workers = count(config).parameters, min(parallel.n_cores(), batch_size)
    sequences = max(1, min(batch_size, MICRO_BATCH_TOKENS // config.context_length))
    return Memory(
        weights=4 * 3 * n_weights,
        gradients=4 * n_weights * (1 + workers),  # their sum, and one a worker
        panels=0,
        activations=4 * workers * sequences * config.context_length * numbers_a_token(config),
        process=PROCESS,
    )


def available() -> int | None:
    """The machine's memory."""
    return fits.available()


def numbers_a_token(config: ModelConfig) -> int:
    """Numbers that forward and backward hold at their peak for each token of a sequence of full length."""
    heads, kv_width = config.n_heads * config.head_width, config.kv_heads * config.head_width
    probs = config.n_heads * config.context_length
    kept = (3 if config.dropout else 1) * probs  # with dropout, the mask and what is left
    block = 6 * config.d_model + 4 * (heads + kv_width) + (6 if config.gated else 4) * config.ff_width + kept
    return config.n_layers * block + 5 * config.vocab_size + 5 * probs  # while one layer's are made


def training(
    config: ModelConfig,
    state: State,
    settings: OptimizerSettings,
    *,
    precision: str = "auto",
    batch_size: int | None = None,
    compiling: Callable[[str], object] = lambda kernel: None,
) -> "Training":
    """Training by the formulas: nothing is compiled, and any batch size takes the same memory."""
    return Training(config, state, settings)


class Part(NamedTuple):
    """What is updated at a time: a matrix by Muon, or some of a weight's numbers by AdamW."""

    place: slice
    """In the flat buffer."""
    shape: tuple[int, ...]
    by_muon: bool
    decay: float

    def of(self, flat: np.ndarray) -> np.ndarray:
        """Its numbers in a flat buffer: a view."""
        return flat[self.place].reshape(self.shape)


class Training:
    """Weights, gradient and moments, each one flat float32 buffer, and the steps that change them."""

    steps_ahead = 0

    def __init__(self, config: ModelConfig, state: State, settings: OptimizerSettings):
        allocator.keep_freed()
        self.config, self.settings = config, settings
        self.model = LanguageModel(Transformer(config))
        self.flat, self.weights = tree.pack(shapes(config))
        self.gradient = np.zeros_like(self.flat)
        self.gradients = tree.views(self.gradient, self.weights)
        self._parts = self._cut_into_parts()
        self.load(state)

    def load(self, state: State) -> None:
        """Go on from `state`: its arrays are copied."""
        require_weights_of(self.config, state.weights)
        tree.copy_into(self.weights, state.weights)
        self.moments = adamw.copied(state.moments, like=self.flat)

    def state(self) -> State:
        """Where training stands, in the engine's own arrays."""
        return State(self.weights, self.moments)

    def own(self, n_sequences: int) -> slice:
        """All of them."""
        return slice(n_sequences)

    def step(
        self,
        token_ids: np.ndarray,
        targets: np.ndarray,
        learning_rate: float,
        rng: np.random.Generator | None = None,
        limits: Limits = UNLIMITED,
    ) -> Step:
        """One update from one batch. Beyond `limits`, or where they are not finite, nothing is changed."""
        require_rng(self.config, rng)
        loss, _ = self.loss_and_gradients(token_ids, targets, rng)
        with np.errstate(all="ignore"):  # what overflows is seen in the numbers returned
            clipped, norm = clip.by_global_norm(self.gradient, self.settings.max_gradient_norm)
        step = Step(loss, float(norm))
        if limits.allow(step):
            self._update(clipped, learning_rate)
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
        """The batch's mean loss and its gradient, in the engine's own arrays. Dropout is drawn from `rng`."""
        require_batch(self.config, token_ids, targets)
        parts = micro_batches.cut(token_ids, MICRO_BATCH_TOKENS)
        seed = micro_batches.seed(rng)

        def run(part: slice) -> tuple[float, p.Transformer]:
            weight = micro_batches.counted_share(targets, part)
            rng = None if seed is None else Counted(seed, part.start)
            with np.errstate(all="ignore"):
                loss, gradients = self.model.loss_and_gradients(
                    weight, self.weights, token_ids[part], targets[part], rng=rng
                )
            return weight * float(loss), gradients

        self.gradient[:] = 0.0
        loss = 0.0
        for part_loss, gradients in parallel.each(run, parts):
            loss += part_loss
            for total, gradient in zip(tree.leaves(self.gradients), tree.leaves(gradients), strict=True):
                total += gradient
        return loss, self.gradients

    def loss(self, token_ids: np.ndarray, targets: np.ndarray) -> float:
        """The batch's mean loss without dropout, in nats a token."""
        require_batch(self.config, token_ids, targets)

        def run(part: slice) -> float:
            with np.errstate(all="ignore"):
                loss, _ = self.model.forward(self.weights, token_ids[part], targets[part])
            return float(loss) * micro_batches.counted_share(targets, part)

        return sum(parallel.each(run, micro_batches.cut(token_ids, MICRO_BATCH_TOKENS)))

    def logits(self, token_ids: np.ndarray) -> np.ndarray:
        """The scores (B, T, V) of what comes next, without dropout."""
        require_token_ids(self.config, token_ids)

        def run(part: slice) -> np.ndarray:
            with np.errstate(all="ignore"):
                return self.model.transformer.forward(self.weights, token_ids[part])[0]

        return np.concatenate(list(parallel.each(run, micro_batches.cut(token_ids, MICRO_BATCH_TOKENS))))

    def _cut_into_parts(self) -> list[Part]:
        parts, start = [], 0
        for name, weight in tree.named_leaves(self.weights):
            stop, by_muon = start + weight.size, self.settings.is_muons(name, weight)
            decay, most = self.settings.decay_of(weight), weight.size if by_muon else UPDATE_SLICE
            for first in range(start, stop, most):
                place = slice(first, min(first + most, stop))
                parts.append(Part(place, weight.shape if by_muon else (-1,), by_muon, decay))
            start = stop
        return parts

    def _update(self, gradient: np.ndarray, learning_rate: float) -> None:
        def run(part: Part) -> None:
            update = self._update_by_muon if part.by_muon else self._update_by_adamw
            with np.errstate(all="ignore"):  # the next loss shows it
                update(part, part.of(gradient), learning_rate)

        for _ in parallel.each(run, self._parts):
            pass
        self.moments = self.moments._replace(step=self.moments.step + 1)

    def _update_by_adamw(self, part: Part, gradient: np.ndarray, learning_rate: float) -> None:
        weight, mean, square = map(part.of, (self.flat, self.moments.mean, self.moments.square))
        weight[...], updated = adamw.update(
            weight,
            gradient,
            adamw.State(mean, square, self.moments.step),
            learning_rate=learning_rate,
            beta1=self.settings.beta1,
            beta2=self.settings.beta2,
            weight_decay=part.decay,
        )
        mean[...], square[...] = updated.mean, updated.square

    def _update_by_muon(self, part: Part, gradient: np.ndarray, learning_rate: float) -> None:
        weight, velocity = map(part.of, (self.flat, self.moments.mean))
        weight[...], updated = muon.update(
            weight,
            gradient,
            muon.State(velocity),
            learning_rate=learning_rate * self.settings.matrix_rate,
            beta=self.settings.momentum,
            weight_decay=part.decay,
        )
        velocity[...] = updated.velocity


def decoding(
    config: ModelConfig,
    weights: p.Transformer,
    *,
    n_texts: int = 1,
    capacity: int | None = None,
    precision: str = "auto",
    cache: str = "auto",
    blocks: Mapping[str, p.Blocks] | None = None,
    compiling: Callable[[str], object] = lambda kernel: None,
) -> "Decoding":
    """Empty texts, in the precision of the weights: blocks are not looked at, nothing is compiled."""
    require(precision)
    in_progress.require_cache(cache, weights.embedding.dtype.name)
    return Decoding(config, weights, n_texts, capacity)


def cache_bytes(
    config: ModelConfig,
    weights: p.Transformer,
    *,
    n_texts: int = 1,
    capacity: int | None = None,
    precision: str = "auto",
    cache: str = "auto",
    blocks: Mapping[str, p.Blocks] | None = None,
) -> int:
    """The memory that keys and values of a decoding take when its texts are full."""
    in_progress.require_cache(cache, weights.embedding.dtype.name)
    return in_progress.cache_bytes(config, n_texts, capacity, weights.embedding.dtype.itemsize)


class Decoding:
    """Texts in progress, with the keys and values of their tokens so far: the KV cache."""

    def __init__(
        self, config: ModelConfig, weights: p.Transformer, n_texts: int = 1, capacity: int | None = None
    ):
        require_weights_of(config, weights)
        n_texts, self.capacity = in_progress.require_room(config, n_texts, capacity)
        self.config, self.weights = config, weights
        self.model = Transformer(config)
        self.lengths = np.zeros(n_texts, np.int64)
        self.past: list[list[Past] | None] = [None] * n_texts

    def read(
        self, pieces: Sequence[np.ndarray], texts: Sequence[int] | None = None, *, every: bool = False
    ) -> np.ndarray:
        """Read each piece at the end of its text; return the logits (n, V) of what follows, as `Decoding` in
        `engine` has it."""
        pieces, numbers = in_progress.require_pieces(self.config, pieces, texts, self.lengths, self.capacity)
        return np.concatenate([self._read(*each, every) for each in zip(pieces, numbers, strict=True)])

    def cut(self, text: int, length: int) -> None:
        """Keep the first `length` tokens of a text."""
        in_progress.require_cut(self.lengths, text, length)
        past = self.past[text]
        self.past[text] = [(k[:, :, :length], v[:, :, :length]) for k, v in past] if past and length else None
        self.lengths[text] = length

    def _read(self, piece: np.ndarray, text: int, every: bool) -> np.ndarray:
        x, saved = self.model.hidden(self.weights, piece[None], past=self.past[text])
        self.past[text] = [
            (block.attention.attention.k, block.attention.attention.v) for block in saved.blocks
        ]
        self.lengths[text] += len(piece)
        logits, _ = self.model.head(x if every else x[:, -1:], self.weights)
        return logits[0]
