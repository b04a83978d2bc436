"""The XLA engine: the same ops on a GPU, a TPU or a CPU, in one compiled step.

JAX compiles the formulas' forward and hand-written backward, the sum over a batch's parts, clipping and AdamW
as one function. Gradients are ours: `jax.grad` is called by the tests alone. Weights and moments are float32
and stay on the device; in bfloat16, products read a rounded copy.

JAX is imported when the engine is first used: it takes a second, and is an extra.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

from handgrad import parameters as p
from handgrad.engines.engine import Decoding, Memory, OptimizerSettings, State
from handgrad.errors import UserError, require_known
from handgrad.kernels import PRECISIONS
from handgrad.model.config import ModelConfig

if TYPE_CHECKING:
    from handgrad.engines.xla.steps import Training

INSTALL = 'Install it: pip install "handgrad[xla]"; for an NVIDIA GPU also: pip install "jax[cuda13]".'


def require(precision: str) -> None:
    """Raise `UserError` where JAX is missing, and for precisions that are the CPU engine's own."""
    require_known("precision", precision, PRECISIONS)
    if precision not in ("auto", "float32", "bfloat16"):
        raise UserError(f"The xla engine computes in float32 or bfloat16. Take --engine cpu for {precision}.")
    try:
        import jax  # noqa: F401
    except ModuleNotFoundError as error:
        raise UserError(f"The xla engine runs on JAX, which is not installed. {INSTALL}") from error


def describe(precision: str) -> str:
    """Precision, device and JAX's version."""
    require(precision)
    from handgrad.engines.xla import device

    return device.described(precision)


def memory(config: ModelConfig, batch_size: int, precision: str = "auto") -> Memory:
    """What training takes on the device, the batch cut so that it fits."""
    require(precision)
    from handgrad.engines.xla import plan as plans

    try:
        plan = plans.choose(config, batch_size, precision)
    except UserError:  # the caller says what is too much
        plan = plans.Plan(batch_size, "rematerialized")
    return plans.predict(config, batch_size, precision, plan)


def available() -> int | None:
    """The device's memory."""
    require("auto")
    from handgrad.engines.xla import device

    return device.memory()


def training(
    config: ModelConfig,
    state: State,
    settings: OptimizerSettings,
    *,
    precision: str = "auto",
    batch_size: int | None = None,
    compiling: Callable[[str], object] = lambda kernel: None,
) -> "Training":
    """Training on the device; what it calls is compiled at the first call, once for each shape of batch."""
    require(precision)
    from handgrad.engines.xla import plan as plans
    from handgrad.engines.xla.steps import Training

    plan = None if batch_size is None else plans.choose(config, batch_size, precision)
    return Training(config, state, settings, precision=precision, plan=plan, compiling=compiling)


def decoding(
    config: ModelConfig,
    weights: p.Transformer,
    *,
    compiling: Callable[[str], object] = lambda kernel: None,
) -> Decoding:
    """An empty text, in `device.dtype("auto")`: one text (T,), or several of one length (B, T)."""
    require("auto")
    from handgrad.engines.xla.writing import Decoding

    return Decoding(config, weights, compiling=compiling)
