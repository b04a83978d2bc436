"""The CPU engine: the same model, its ops replaced by kernels.

A step cuts its batch into micro-batches and deals them out to workers, one a core. A worker has an arena and
a gradient of its own, so workers wait for each other once a step, to sum the gradients: on small models,
synchronizing inside every layer costs more than the layer. The price is one gradient a worker. The optimizer
then walks the weights slice by slice, and packs each slice for the next step's products while it is in the
processor's cache.

All memory is allocated when training is set up. The same seed gives the same losses, bit for bit, for the
same number of workers.
"""

import itertools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from handgrad import parameters as p
from handgrad import tree
from handgrad.counted import Counted
from handgrad.engines import cpu_cache, cpu_memory, cpu_muon, cpu_weights, micro_batches, parallel, reference
from handgrad.engines.cpu_writing import Decoding
from handgrad.engines.engine import UNLIMITED, Limits, Memory, OptimizerSettings, State, Step, require_rng
from handgrad.errors import require_known
from handgrad.kernels import cache as compiled
from handgrad.kernels import machine, optimizer
from handgrad.kernels import precision as precisions
from handgrad.kernels.arena import Arena, aligned, padded
from handgrad.kernels.twins import Twins
from handgrad.kernels.workspace import NONE, Weight, Workspace
from handgrad.model.config import ModelConfig
from handgrad.model.init import require_weights_of, shapes
from handgrad.model.inputs import require_batch, require_token_ids
from handgrad.model.transformer import LanguageModel, Transformer
from handgrad.optim import adam, adamw

SLICE = 1 << 17
"""Weights the optimizer updates, and packs, at a time."""

DEFAULTS = OptimizerSettings()
available = reference.available


def require(precision: str) -> None:
    """Raise `UserError` unless this machine computes in `precision`."""
    precisions.kernels_for(precision)


def describe(precision: str) -> str:
    """The precision and why, numbers in a vector, and threads."""
    return f"{precisions.reason(precision)}; {machine.LANES} numbers a vector, {parallel.n_cores()} threads"


def memory(config: ModelConfig, batch_size: int, precision: str = "auto") -> Memory:
    """What training takes at its peak, counted array by array."""
    return cpu_memory.predict(config, batch_size, precision, parallel.n_cores())


def training(
    config: ModelConfig,
    state: State,
    settings: OptimizerSettings,
    *,
    precision: str = "auto",
    batch_size: int | None = None,
    compiling: Callable[[str], object] = lambda kernel: None,
) -> "Training":
    """Training on this machine's kernels, which are compiled once: `compiling` is told their names."""
    compile_kernels(config, precision, compiling, settings)
    return Training(config, state, settings, precision=precision, batch_size=batch_size)


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
) -> Decoding:
    """Empty texts, on kernels that are compiled once; weights and products in `precision`:

    - float32: as the reference, to rounding;
    - bfloat16: weights, and on AMX tiles what they meet, rounded to 8 bits;
    - int8: 8 bits and a scale for 32 numbers, of weights and of what they meet;
    - blocks: matrices as a quantized file holds them, what they meet as for int8;
    - auto: blocks where there are some, bfloat16 for large models where there are tiles, else float32.

    Keys and values are kept in `cache`:

    - float32, or rounded to bfloat16;
    - int8: 8 bits, and a float32 scale for each key and each value of a head;
    - auto: float32 beside weights in float32, else bfloat16.
    """
    require_known("precision", precision, cpu_weights.PRECISIONS)
    decoding = Decoding(config, weights, precision, n_texts, capacity, blocks=blocks, cache=cache)
    with compiled.listening(compiling):
        decoding.read([np.zeros(1, np.int64)], [0])
    decoding.cut(0, 0)
    return decoding


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
    """The memory that keys and values of a decoding take: panels are filled up."""
    precision = cpu_weights.chosen(config, precision, tree.size(weights), blocks)
    kind = cpu_cache.kind_for(weights, precision, cache)
    return cpu_cache.layout(config, n_texts, capacity or config.context_length, kind).n_bytes


def compile_kernels(
    config: ModelConfig,
    precision: str,
    report: Callable[[str], object],
    settings: OptimizerSettings = DEFAULTS,
) -> None:
    """Have everything that training `config` calls compiled, or loaded where it was compiled before.

    A model of the same kind, as small as can be, takes a step.
    """
    small = config.replace(
        vocab_size=2, context_length=2, n_layers=1, d_model=2 * config.n_heads, d_ff=2,
        n_kv_heads=config.kv_heads, d_head=None,
    )  # fmt: skip
    token_ids = np.zeros((1, 2), np.int64)
    with compiled.listening(report):
        training = Training(small, State(shapes(small)), settings, precision=precision, n_workers=1)
        training.step(token_ids, token_ids, 0.0, np.random.default_rng(0))
        training.loss(token_ids, token_ids)


class Slice(NamedTuple):
    """Some rows of one weight."""

    name: str
    first: int
    last: int
    place: slice
    """In the flat buffer."""


@dataclass(frozen=True)
class Worker:
    """What one thread computes with."""

    workspace: Workspace
    weights: Any
    every_weight: tuple[Weight, ...]
    model: LanguageModel

    @property
    def arena(self) -> Arena:
        return self.workspace.arena


class Training:
    """Weights, gradient and moments, each one flat float32 buffer, and the steps that change them."""

    steps_ahead = 0

    def __init__(
        self,
        config: ModelConfig,
        state: State,
        settings: OptimizerSettings,
        *,
        precision: str = "auto",
        n_workers: int | None = None,
        batch_size: int | None = None,
    ):
        """`batch_size` and `n_workers`, one a core by default, size what is allocated: larger ones work."""
        self.config, self.settings = config, settings
        self.kernels = precisions.kernels_for(precision)
        n_workers = n_workers or min(parallel.n_cores(), batch_size or parallel.n_cores())
        self.flat = aligned(tree.size(shapes(config)))
        self.weights = tree.views(self.flat, shapes(config))
        self._gradients = aligned(n_workers * self.flat.size).reshape(n_workers, self.flat.size)
        self.gradient = self._gradients[0]
        self.gradients = tree.views(self.gradient, self.weights)
        self._panels = self._allocate_panels()
        self._slices = self._cut_into_slices()
        sequences = -(-(batch_size or 1) // n_workers)
        self.workers = [self._worker(gradient, sequences) for gradient in self._gradients]
        self.load(state)

    def load(self, state: State) -> None:
        """Go on from `state`: its arrays are copied, and the weights packed."""
        require_weights_of(self.config, state.weights)
        tree.copy_into(self.weights, state.weights)
        self.moments = adamw.copied(state.moments, like=self.flat)
        self._muons = self._muons_matrices()
        self._over_slices(self._pack)

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
        loss, squares = self._loss_and_square_norm(token_ids, targets, rng)
        step = Step(loss, math.sqrt(squares))
        if limits.allow(step):
            self._update(step.gradient_norm, learning_rate)
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
        loss, _ = self._loss_and_square_norm(token_ids, targets, rng)
        return loss, self.gradients

    def loss(self, token_ids: np.ndarray, targets: np.ndarray) -> float:
        """The batch's mean loss without dropout, in nats a token."""
        require_batch(self.config, token_ids, targets)

        def run(worker: Worker, mine: list[slice]) -> list[float]:
            losses = []
            for part in mine:
                worker.arena.reset()
                loss = worker.model.forward(worker.weights, token_ids[part], targets[part])[0]
                losses.append(loss * micro_batches.counted_share(targets, part))
            return losses

        return float(sum(self._over_workers(run, self._parts(token_ids))))

    def logits(self, token_ids: np.ndarray) -> np.ndarray:
        """The scores (B, T, V) of what comes next, without dropout.

        Where the vocabulary is large, each worker's arena grows: training computes fewer logits at a time.
        """
        require_token_ids(self.config, token_ids)
        logits = np.empty((*token_ids.shape, self.config.vocab_size), np.float32)

        def run(worker: Worker, mine: list[slice]) -> list[None]:
            for part in mine:
                worker.arena.reset()
                logits[part] = worker.model.transformer.forward(worker.weights, token_ids[part])[0]
            return [None] * len(mine)

        self._over_workers(run, self._parts(token_ids))
        return logits

    def _loss_and_square_norm(
        self, token_ids: np.ndarray, targets: np.ndarray, rng: np.random.Generator | None
    ) -> tuple[float, float]:
        require_batch(self.config, token_ids, targets)
        parts = self._parts(token_ids)
        seed = micro_batches.seed(rng)

        def run(worker: Worker, mine: list[slice]) -> list[float]:
            for weight in worker.every_weight:
                weight.is_zero = True
            losses = []
            for part in mine:
                worker.arena.reset()
                share = micro_batches.counted_share(targets, part)
                rng = None if seed is None else Counted(seed, part.start)
                loss, _ = worker.model.loss_and_gradients(
                    share, worker.weights, token_ids[part], targets[part], rng=rng
                )
                losses.append(share * loss)
            for weight in worker.every_weight:
                weight.settle()
            return losses

        losses = self._over_workers(run, parts)
        gradients = self._gradients[: min(len(parts), len(self.workers))]
        squares = self._over_slices(
            lambda part: optimizer.collect(gradients, part.place.start, part.place.stop)
        )
        return float(sum(losses)), sum(squares)

    def _over_workers(self, run: Callable[[Worker, list[Any]], list[Any]], work: list[Any]) -> list[Any]:
        """Deal the work out to the workers; their results, in the order of the work."""
        n = min(len(work), len(self.workers))
        dealt = parallel.together(run, self.workers[:n], [work[i::n] for i in range(n)])
        return [dealt[i % n][i // n] for i in range(len(work))]

    def _over_slices(self, run: Callable[[Slice], Any]) -> list[Any]:
        """`run` for every slice of the weights, dealt out to as many threads as there are workers."""
        n = len(self.workers)
        dealt = parallel.together(
            lambda mine: [run(part) for part in mine], [self._slices[i::n] for i in range(n)]
        )
        return [result for results in dealt for result in results]

    def _parts(self, token_ids: np.ndarray) -> list[slice]:
        return micro_batches.cut(token_ids, self.kernels.products.TOKENS, multiple_of=len(self.workers))

    def _update(self, norm: float, learning_rate: float) -> None:
        settings, moments = self.settings, self.moments
        step = moments.step + 1
        factor = settings.max_gradient_norm / max(norm, settings.max_gradient_norm)
        corrections = (1.0 / (1.0 - settings.beta1**step), 1.0 / (1.0 - settings.beta2**step))
        decays = {name: settings.decay_of(weight) for name, weight in tree.named_leaves(self.weights)}

        def run(part: Slice) -> None:
            if part.name in self._muons:
                return
            decay = decays[part.name]
            arrays = (self.flat, self.gradient, moments.mean, moments.square)
            numbers = (
                factor,
                learning_rate,
                decay,
                settings.beta1,
                settings.beta2,
                adam.EPSILON,
                *corrections,
            )
            optimizer.adamw(*(a[part.place] for a in arrays), optimizer.AdamW(*map(np.float32, numbers)))
            self._pack(part)

        self._over_slices(run)
        if self._muons:
            self._update_by_muon(factor, learning_rate)
        self.moments = moments._replace(step=step)

    def _update_by_muon(self, factor: float, learning_rate: float) -> None:
        def run(worker: Worker, names: list[str]) -> None:
            for name in names:
                cpu_muon.update(self._muons[name], worker.workspace, self.settings, factor, learning_rate)
                weight, panels, transposed = self._panels[name]
                self.kernels.products.pack(panels, transposed, weight, 0, len(weight))

        parallel.together(run, self.workers, cpu_muon.dealt(self._muons, len(self.workers)))

    def _muons_matrices(self) -> dict[str, cpu_muon.Matrix]:
        """What Muon updates, by name; its velocity lies where AdamW's mean would."""
        velocities = tree.views(self.moments.mean, self.weights)
        named = tree.named_leaves(self.weights)
        others = zip(tree.leaves(self.gradients), tree.leaves(velocities), strict=True)
        return {
            name: cpu_muon.Matrix(weight, *both)
            for (name, weight), both in zip(named, others, strict=True)
            if self.settings.is_muons(name, weight)
        }

    def _pack(self, part: Slice) -> None:
        if part.name in self._panels:
            weight, panels, transposed = self._panels[part.name]
            self.kernels.products.pack(panels, transposed, weight, part.first, part.last)

    def _allocate_panels(self) -> dict[str, tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """For every matrix that takes part in products: itself, its panels, and those of its transpose."""
        products, matrices = self.kernels.products, cpu_memory.packed(self.weights, self.config)
        shapes = cpu_memory.panel_shapes((m.shape for m in matrices.values()), products)
        block = aligned(sum(padded(math.prod(shape)) for shape in shapes), products.DTYPE)
        block[:] = 0  # edges are read and never written
        starts = itertools.accumulate((padded(math.prod(shape)) for shape in shapes), initial=0)
        panels = (block[i : i + math.prod(s)].reshape(s) for i, s in zip(starts, shapes, strict=False))
        return {name: (weight, next(panels), next(panels)) for name, weight in matrices.items()}

    def _cut_into_slices(self) -> list[Slice]:
        slices, start = [], 0
        for name, weight in tree.named_leaves(self.weights):
            n_rows, width = weight.shape if weight.ndim == 2 else (1, weight.size)
            multiple = self.kernels.products.slice_rows(n_rows)
            height = max(1, SLICE // width // multiple) * multiple
            for first in range(0, n_rows, height):
                last = min(first + height, n_rows)
                place = slice(start + first * width, start + last * width)
                slices.append(Slice(name, first, last, place))
            start += weight.size
        return slices

    def _worker(self, gradient: np.ndarray, batch_size: int) -> Worker:
        gradients = dict(tree.named_leaves(tree.views(gradient, self.weights)))

        def paired(name: str, value: np.ndarray) -> Weight:
            _, panels, transposed = self._panels.get(name, (None, NONE, NONE))
            return Weight(value, gradients[name], panels, transposed)

        every = tuple(paired(name, value) for name, value in tree.named_leaves(self.weights))
        in_order = iter(every)
        weights = tree.map(lambda value: next(in_order), self.weights)
        n_sequences = cpu_memory.micro_batch_sequences(self.config, batch_size, self.kernels.products)
        size = self.config, n_sequences * self.config.context_length, self.kernels
        measures = cpu_memory.arena_size, cpu_memory.passing_size, cpu_memory.entering_size
        arena, passing, entering = (Arena(measure(*size)) for measure in measures)
        scratch = aligned(cpu_memory.scratch_size(self.config, self.kernels))
        workspace = Workspace(arena, scratch, self.kernels, passing, entering)
        model = LanguageModel(Transformer(self.config, Twins(workspace, self.config.norm_placement == "pre")))
        return Worker(workspace, weights, every, model)
