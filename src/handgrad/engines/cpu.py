"""The CPU engine: the same model, its ops replaced by kernels.

A step walks its batch one micro-batch after the other on each core: a lane has an arena, a gradient of its
own, and no need to wait for anybody until the gradients are summed. So cores never meet inside a layer, which
on small models costs more than the layer; what it costs is a gradient a lane. The optimizer then passes over
the weights piece by piece, and packs each piece for the next step's products while it is in the cache.

All memory is allocated when training is set up. The same seed gives the same losses, bit for bit, for the
same number of lanes.
"""

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from handgrad import parameters as p
from handgrad import tree
from handgrad.engines import cpu_memory, parallel, reference
from handgrad.engines.engine import OptimizerSettings, Step, micro_batches, share
from handgrad.kernels import cache, optimizer
from handgrad.kernels import precision as precisions
from handgrad.kernels.arena import Arena, aligned, padded
from handgrad.kernels.random import Counted
from handgrad.kernels.twins import Twins
from handgrad.kernels.workspace import NONE, Weight, Workspace
from handgrad.model.config import ModelConfig
from handgrad.model.init import shapes
from handgrad.model.transformer import LanguageModel, Transformer
from handgrad.optim import adamw

PIECE = 1 << 17
"""Weights the optimizer updates, and packs, at a time."""
PIECE_ROWS = 64
"""A piece of a matrix is a multiple of so many rows: the panels of every product end there."""
EPSILON = 1e-8
"""AdamW's."""

Decoding = reference.Decoding


def compile_kernels(config: ModelConfig, precision: str, report: Callable[[str], object]) -> None:
    """Have everything that training `config` calls compiled, or loaded where it was compiled before.

    A model of the same kind, as small as can be, takes a step.
    """
    small = config.replace(
        vocab_size=2, context_length=2, n_layers=1, d_model=2 * config.n_heads, d_ff=2,
        n_kv_heads=config.kv_heads,
    )  # fmt: skip
    token_ids = np.zeros((1, 2), np.int64)
    with cache.listening(report):
        training = Training(small, shapes(small), OptimizerSettings(), precision=precision, n_lanes=1)
        training.step(token_ids, token_ids, 0.0, np.random.default_rng(0))
        training.loss(token_ids, token_ids)


class Piece(NamedTuple):
    """Some rows of one weight."""

    name: str
    first: int
    last: int
    place: slice
    """In the flat buffer."""


@dataclass(frozen=True)
class Lane:
    """What one thread computes with."""

    workspace: Workspace
    gradient: np.ndarray
    weights: Any
    model: LanguageModel

    @property
    def arena(self) -> Arena:
        return self.workspace.arena


class Training:
    """Weights, gradient and moments, each one flat float32 buffer, and the steps that change them."""

    def __init__(
        self,
        config: ModelConfig,
        weights: p.Transformer,
        settings: OptimizerSettings,
        *,
        precision: str = "auto",
        n_lanes: int | None = None,
        batch_size: int | None = None,
    ):
        """`batch_size` and `n_lanes`, by default one a core, size what is allocated; larger batches work."""
        self.config, self.settings = config, settings
        self.kernels = precisions.kernels_for(precision)
        n_lanes = n_lanes or min(parallel.n_cores(), batch_size or parallel.n_cores())
        self.flat = aligned(tree.size(weights))
        self.weights = tree.views(self.flat, weights)
        tree.copy_into(self.weights, weights)
        self._gradients = aligned(n_lanes * self.flat.size).reshape(n_lanes, self.flat.size)
        self.gradient = self._gradients[0]
        self.gradients = tree.views(self.gradient, self.weights)
        self.moments = adamw.State(
            np.zeros(self.flat.size, np.float32), np.zeros(self.flat.size, np.float32), 0
        )
        self._panels = self._allocate_panels()
        self._pieces = self._cut_into_pieces()
        self.lanes = [self._lane(gradient, -(-(batch_size or 1) // n_lanes)) for gradient in self._gradients]
        self.changed()

    def changed(self) -> None:
        """Call after writing into `weights` from outside: what is computed from them is computed anew."""
        self._over_pieces(self._pack)

    def step(
        self,
        token_ids: np.ndarray,
        targets: np.ndarray,
        learning_rate: float,
        rng: np.random.Generator | None = None,
    ) -> Step:
        """One step of AdamW on one batch. Where loss or gradient are not finite, nothing is changed."""
        loss, squares = self._loss_and_square_norm(token_ids, targets, rng)
        step = Step(loss, math.sqrt(squares))
        if step.is_finite:
            self._update(step.gradient_norm, learning_rate)
        return step

    def loss_and_gradients(
        self, token_ids: np.ndarray, targets: np.ndarray, rng: np.random.Generator | None = None
    ) -> float:
        """The batch's mean loss; its gradient is left in `gradients`. Dropout is drawn from `rng`."""
        return self._loss_and_square_norm(token_ids, targets, rng)[0]

    def loss(self, token_ids: np.ndarray, targets: np.ndarray) -> float:
        """The batch's mean loss without dropout."""
        parts = self._parts(token_ids)

        def run(lane: Lane, mine: list[slice]) -> list[float]:
            losses = []
            for part in mine:
                lane.arena.reset()
                loss, _ = lane.model.forward(lane.weights, token_ids[part], targets[part])
                losses.append(loss * share(targets, part))
            return losses

        return self._over_lanes(run, parts)

    def _loss_and_square_norm(
        self, token_ids: np.ndarray, targets: np.ndarray, rng: np.random.Generator | None
    ) -> tuple[float, float]:
        parts = self._parts(token_ids)
        seeds = [None] * len(parts) if rng is None else rng.integers(1 << 63, size=len(parts)).tolist()

        def run(lane: Lane, mine: list[tuple[slice, int | None]]) -> list[float]:
            lane.gradient[:] = 0.0
            losses = []
            for part, seed in mine:
                lane.arena.reset()
                weight = share(targets, part)
                rng = None if seed is None else Counted(seed)
                loss, _ = lane.model.loss_and_gradients(
                    weight, lane.weights, token_ids[part], targets[part], rng=rng
                )
                losses.append(weight * loss)
            return losses

        loss = self._over_lanes(run, list(zip(parts, seeds, strict=True)))
        gradients = self._gradients[: min(len(parts), len(self.lanes))]
        squares = self._over_pieces(
            lambda piece: optimizer.collect(gradients, piece.place.start, piece.place.stop)
        )
        return loss, sum(squares)

    def _over_lanes(self, run: Any, work: list[Any]) -> float:
        """Deal the work out to the lanes; the sum of what comes back, in the order of the work."""
        n = min(len(work), len(self.lanes))
        dealt = parallel.together(run, self.lanes[:n], [work[i::n] for i in range(n)])
        return float(sum(dealt[i % n][i // n] for i in range(len(work))))

    def _over_pieces(self, run: Callable[[Piece], Any]) -> list[Any]:
        """`run` for every piece of the weights, dealt out to as many threads as there are lanes."""
        n = len(self.lanes)
        hands = [self._pieces[i::n] for i in range(n)]
        dealt = parallel.together(lambda hand: [run(piece) for piece in hand], hands)
        return [result for results in dealt for result in results]

    def _parts(self, token_ids: np.ndarray) -> list[slice]:
        return micro_batches(token_ids, cpu_memory.MICRO_BATCH_TOKENS, multiple_of=len(self.lanes))

    def _update(self, norm: float, learning_rate: float) -> None:
        settings, moments = self.settings, self.moments
        step = moments.step + 1
        factor = settings.max_gradient_norm / max(norm, settings.max_gradient_norm)
        corrections = (1.0 / (1.0 - settings.beta1**step), 1.0 / (1.0 - settings.beta2**step))
        ndims = {name: weight.ndim for name, weight in tree.named_leaves(self.weights)}

        def run(piece: Piece) -> None:
            decay = settings.weight_decay if ndims[piece.name] >= 2 else 0.0  # biases and norms do not decay
            arrays = (self.flat, self.gradient, moments.mean, moments.square)
            numbers = (factor, learning_rate, decay, settings.beta1, settings.beta2, EPSILON, *corrections)
            optimizer.adamw(*(a[piece.place] for a in arrays), *map(np.float32, numbers))
            self._pack(piece)

        self._over_pieces(run)
        self.moments = moments._replace(step=step)

    def _pack(self, piece: Piece) -> None:
        if piece.name in self._panels:
            weight, panels, transposed = self._panels[piece.name]
            self.kernels.products.pack(panels, transposed, weight, piece.first, piece.last)

    def _allocate_panels(self) -> dict[str, tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """For every matrix that takes part in products: itself, its panels, and those of its transpose."""
        made, matrices = self.kernels.products, cpu_memory.packed(self.weights, self.config)
        shapes = cpu_memory.panel_shapes(matrices.values(), made)
        block = aligned(sum(padded(math.prod(shape)) for shape in shapes), made.DTYPE)
        block[:] = 0  # edges are read and never written
        starts = itertools.accumulate((padded(math.prod(shape)) for shape in shapes), initial=0)
        panels = (block[i : i + math.prod(s)].reshape(s) for i, s in zip(starts, shapes, strict=False))
        return {name: (weight, next(panels), next(panels)) for name, weight in matrices.items()}

    def _cut_into_pieces(self) -> list[Piece]:
        pieces, start = [], 0
        for name, weight in tree.named_leaves(self.weights):
            n_rows, width = weight.shape if weight.ndim == 2 else (1, weight.size)
            height = max(1, PIECE // width // PIECE_ROWS) * PIECE_ROWS
            for first in range(0, n_rows, height):
                last = min(first + height, n_rows)
                place = slice(start + first * width, start + last * width)
                pieces.append(Piece(name, first, last, place))
            start += weight.size
        return pieces

    def _lane(self, gradient: np.ndarray, batch_size: int) -> Lane:
        gradients = dict(tree.named_leaves(tree.views(gradient, self.weights)))

        def paired(name: str, value: np.ndarray) -> Weight:
            _, panels, transposed = self._panels.get(name, (None, NONE, NONE))
            return Weight(value, gradients[name], panels, transposed)

        names = iter([name for name, _ in tree.named_leaves(self.weights)])
        weights = tree.map(lambda value: paired(next(names), value), self.weights)
        n_sequences = cpu_memory.micro_batch_sequences(self.config, batch_size)
        arena = Arena(cpu_memory.arena_size(self.config, n_sequences, self.config.context_length))
        scratch = aligned(cpu_memory.scratch_size(self.config, self.kernels))
        workspace = Workspace(arena, scratch, self.kernels)
        model = LanguageModel(Transformer(self.config, Twins(workspace)))
        return Lane(workspace, gradient, weights, model)
