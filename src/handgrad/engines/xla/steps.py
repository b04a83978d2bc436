"""Training on one device: weights and moments stay there, and a step is one call of a compiled function."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from handgrad import parameters as p
from handgrad import tree
from handgrad.engines.engine import UNLIMITED, Limits, OptimizerSettings, State, Step, require_rng
from handgrad.engines.xla import device, placement, random
from handgrad.engines.xla import weights as stacking
from handgrad.engines.xla.mesh import ONE, Mesh
from handgrad.engines.xla.plan import Plan
from handgrad.engines.xla.program import Batch, Carried, Program
from handgrad.model.config import ModelConfig
from handgrad.model.init import require_weights_of, shapes
from handgrad.model.inputs import require_batch, require_token_ids
from handgrad.optim import adamw


class Training:
    """Weights and moments, float32 on the device, and the compiled functions that read and change them."""

    def __init__(
        self,
        config: ModelConfig,
        state: State,
        settings: OptimizerSettings,
        *,
        precision: str = "auto",
        plan: Plan | None = None,
        mesh: Mesh = ONE,
        compiling: Callable[[str], object] = lambda function: None,
    ):
        """`plan` says in how many parts a batch is computed, by default in one; `compiling` is told what is
        about to be compiled."""
        self.config, self.plan = config, plan or Plan()
        self.steps_ahead = device.steps_ahead()
        self._compiling = compiling
        dtype = device.dtype(precision)
        self.mesh, self.placement = mesh, placement.on(mesh)
        fused = device.fused(config, dtype)
        self.program = Program(config, settings, fused, dtype, self.plan.layers, self.placement)
        compiled = self.program.compiled
        self._step = compiled(self.program.step, donate_argnums=0)
        self._gradients = compiled(self.program.loss_and_gradients)
        self._loss, self._logits = compiled(self.program.loss), compiled(self.program.logits)
        self._called: set[tuple[str, tuple[int, ...]]] = set()
        self.load(state)

    def load(self, state: State) -> None:
        """Go on from `state`: its arrays are copied to the device."""
        require_weights_of(self.config, state.weights)
        like = stacking.nothing((tree.size(shapes(self.config)),))
        moments = adamw.copied(state.moments, like=like)
        mean, square = (tree.views(moment, state.weights) for moment in (moments.mean, moments.square))
        weights, mean, square = (
            stacking.to_device(each, self.placement, stacked=self.program.stacked, dtype=np.float32)
            for each in (state.weights, mean, square)
        )
        self.carried = Carried(weights, mean, square, self.placement.whole(jax.numpy.int32(moments.step)))

    def state(self) -> State:
        """Where training stands, copied from the devices to the first process (`weights.to_host`)."""
        weights, mean, square = map(stacking.to_host, self.carried[:3])
        return State(weights, adamw.State(_flat(mean), _flat(square), int(self.carried.step)))

    def own(self, n_sequences: int) -> np.ndarray:
        """The numbers of those sequences of a batch that this process's devices compute."""
        numbers = self.placement.own(self._parts(np.arange(n_sequences)[:, None], -1), axis=1)
        return np.unique(numbers[numbers >= 0])

    def step(
        self,
        token_ids: np.ndarray,
        targets: np.ndarray,
        learning_rate: float,
        rng: np.random.Generator | None = None,
        limits: Limits = UNLIMITED,
    ) -> Step:
        """One update from one batch. Beyond `limits`, or where they are not finite, nothing is changed."""
        return self.begin(token_ids, targets, learning_rate, rng, limits)()

    def begin(
        self,
        token_ids: np.ndarray,
        targets: np.ndarray,
        learning_rate: float,
        rng: np.random.Generator | None = None,
        limits: Limits = UNLIMITED,
    ) -> Callable[[], Step]:
        """A step that the device may still compute: call what is returned for its loss and norm."""
        require_rng(self.config, rng)
        batch = self._batch(token_ids, targets, rng)
        step = self._call("training step", self._step, token_ids.shape)
        self.carried, numbers = step(self.carried, batch, np.float32(learning_rate), self._limits(limits))
        return lambda: Step(*np.asarray(numbers).tolist())

    def loss_and_gradients(
        self, token_ids: np.ndarray, targets: np.ndarray, rng: np.random.Generator | None = None
    ) -> tuple[float, p.Transformer]:
        """The batch's mean loss and its gradient. Dropout is drawn from `rng`."""
        batch = self._batch(token_ids, targets, rng)
        loss, gradients = self._call("gradients", self._gradients, token_ids.shape)(
            self.carried.weights, batch
        )
        return float(loss), stacking.to_host(gradients)

    def loss(self, token_ids: np.ndarray, targets: np.ndarray) -> float:
        """The batch's mean loss without dropout, in nats a token."""
        batch = self._batch(token_ids, targets, None)
        return float(self._call("loss", self._loss, token_ids.shape)(self.carried.weights, batch))

    def logits(self, token_ids: np.ndarray) -> np.ndarray:
        """The scores (B, T, V) of what comes next, without dropout."""
        require_token_ids(self.config, token_ids)
        logits = self._call("logits", self._logits, token_ids.shape)
        parts = map(self.placement.of_batch, self._parts(token_ids, 0))
        found = [np.asarray(logits(self.carried.weights, part)) for part in parts]
        return np.concatenate(found)[: len(token_ids)]

    def _batch(self, token_ids: np.ndarray, targets: np.ndarray, rng: np.random.Generator | None) -> Batch:
        require_batch(self.config, token_ids, targets)
        ids, targets = self._parts(token_ids, 0), self._parts(targets, -1)
        counted = np.count_nonzero(targets != -1, axis=(1, 2))
        shares = (counted / max(1, counted.sum())).astype(np.float32)
        numbers = shares, random.keys(self.config, rng, len(ids), ids.shape[1:])
        return Batch(*self.placement.of_batch((ids, targets), axis=1), *self.placement.whole(numbers))

    def _limits(self, limits: Limits) -> Any:
        return self.placement.whole(np.array(limits, np.float32))

    def _parts(self, ids: np.ndarray, fill: int) -> np.ndarray:
        """A batch (B, T) in the plan's parts (N, B / N, T), or as many as divide it among the devices.

        Where devices cannot have equally many sequences, `fill` makes up more: as targets, -1 does not count.
        """
        most = -(-len(ids) // self.mesh.batch_parts)
        missing = most * self.mesh.batch_parts - len(ids)
        ids = np.pad(ids.astype(np.int32), ((0, missing), (0, 0)), constant_values=fill)
        n = next(n for n in range(min(self.plan.n_parts, most), most + 1) if most % n == 0)
        return ids.reshape(n, -1, ids.shape[1])

    def _call(self, name: str, function: Any, shape: tuple[int, ...]) -> Any:
        if (name, shape) not in self._called:
            self._called.add((name, shape))
            self._compiling(name)
        return function


def _flat(moment: Any) -> np.ndarray:
    return tree.pack(moment)[0] if jax.process_index() == 0 else stacking.nothing((tree.size(moment),))
