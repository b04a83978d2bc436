"""The XLA engine: the same ops on GPUs, TPUs or a CPU, in one compiled step.

JAX compiles the formulas' forward and hand-written backward, the sum over a batch's parts, clipping and AdamW
as one function. Gradients are ours: `jax.grad` is called by the tests alone. Weights and moments are float32
and stay on the device; in bfloat16, products read a rounded copy. How several devices share them is said in
`sharding`.

JAX is imported when the engine is first used: it takes a second, and is an extra.
"""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from handgrad import parameters as p
from handgrad.engines import texts
from handgrad.engines.engine import Decoding, Engine, Memory, OptimizerSettings, State
from handgrad.engines.xla.mesh import ONE, Mesh, parse, require_divisible
from handgrad.errors import UserError, require_known
from handgrad.kernels import PRECISIONS
from handgrad.model.config import ModelConfig

if TYPE_CHECKING:
    from handgrad.engines.xla.steps import Training

INSTALL = 'Install it: pip install "handgrad[xla]"; for an NVIDIA GPU also: pip install "jax[cuda13]".'


def require_jax() -> None:
    """Raise `UserError` where JAX is not installed."""
    try:
        import jax  # noqa: F401
    except ModuleNotFoundError as error:
        raise UserError(f"The xla engine runs on JAX, which is not installed. {INSTALL}") from error


class Xla(NamedTuple):
    """The engine on one device, or on the several of a mesh; then memory is that of each."""

    mesh: Mesh = ONE

    def require(self, precision: str) -> None:
        """Raise `UserError` where JAX or devices are missing, and for the CPU engine's own precisions."""
        self._require_precision(precision)
        from handgrad.engines.xla import device

        device.require(self.mesh)

    def _require_precision(self, precision: str) -> None:
        require_known("precision", precision, PRECISIONS)
        if precision not in ("auto", "float32", "bfloat16"):
            raise UserError(
                f"The xla engine computes in float32 or bfloat16. Take --engine cpu for {precision}."
            )
        require_jax()

    def describe(self, precision: str) -> str:
        """Precision, devices and JAX's version."""
        self.require(precision)
        from handgrad.engines.xla import device

        return device.described(precision, self.mesh)

    def memory(self, config: ModelConfig, batch_size: int, precision: str = "auto") -> Memory:
        """What training takes on a device, the batch cut so that it fits. The devices need not be there."""
        self._require_precision(precision)
        require_divisible(self.mesh, config, batch_size)
        from handgrad.engines.xla import plan as plans

        try:
            plan = plans.choose(config, batch_size, precision, self.mesh)
        except UserError:  # the caller says what is too much
            plan = plans.Plan(-(-batch_size // self.mesh.batch_parts), "rematerialized")
        return plans.predict(config, batch_size, precision, plan, self.mesh)

    def available(self) -> int | None:
        """A device's memory."""
        self.require("auto")
        from handgrad.engines.xla import device

        return device.memory(self.mesh)

    def training(
        self,
        config: ModelConfig,
        state: State,
        settings: OptimizerSettings,
        *,
        precision: str = "auto",
        batch_size: int | None = None,
        compiling: Callable[[str], object] = lambda kernel: None,
    ) -> "Training":
        """Training on the devices; what it calls is compiled at the first call, once a shape of batch."""
        self.require(precision)
        require_divisible(self.mesh, config, batch_size)
        from handgrad.engines.xla import plan as plans
        from handgrad.engines.xla.steps import Training

        plan = None if batch_size is None else plans.choose(config, batch_size, precision, self.mesh)
        return Training(
            config, state, settings, precision=precision, plan=plan, mesh=self.mesh, compiling=compiling
        )

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
        """Empty texts, in `device.dtype(precision)`, on one device; blocks are not looked at."""
        self._kept_in(precision, cache)
        from handgrad.engines.xla.writing import Decoding

        return Decoding(config, weights, precision, n_texts, capacity, compiling)

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
        """The memory that keys and values of a decoding take on the device."""
        return texts.cache_bytes(config, n_texts, capacity, self._kept_in(precision, cache).itemsize)

    def _kept_in(self, precision: str, cache: str) -> Any:
        """The type of keys and values: that of products."""
        self.require(precision)
        from handgrad.engines.xla import device

        texts.require_cache(cache, device.name_of(precision))
        return device.dtype(precision)


_one = Xla()
require, describe, memory, available = _one.require, _one.describe, _one.memory, _one.available
training, decoding, cache_bytes = _one.training, _one.decoding, _one.cache_bytes


def on(mesh: str) -> Engine:
    """The engine on the mesh of devices that `mesh` describes."""
    return Xla(parse(mesh))
