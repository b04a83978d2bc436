"""What runs a model: `Training` makes steps and evaluations, `Decoding` writes token by token.

An engine is a module with these two classes, and a value: who trains or generates is handed one. `reference`
is the formulas themselves, `cpu` their kernels.
"""

from collections.abc import Callable

from handgrad import parameters as p
from handgrad.engines import engine, parallel, reference
from handgrad.errors import UserError, require_known
from handgrad.model.config import ModelConfig

NAMES = ("cpu", "reference")


def require(name: str, precision: str) -> None:
    """Raise `UserError` unless there is such an engine, and the machine has the precision."""
    require_known("engine", name, NAMES)
    if name == "cpu":
        from handgrad.kernels import precision as precisions

        precisions.kernels_for(precision)
    elif precision == "bfloat16":
        raise UserError("The reference engine computes in float32. Take --engine cpu for bfloat16.")


def describe(name: str, precision: str) -> str:
    """What an engine computes with, and why."""
    if name == "reference":
        return "the formulas themselves, float32"
    from handgrad.kernels import machine
    from handgrad.kernels import precision as precisions

    return f"{precisions.reason(precision)}; {machine.LANES} numbers a vector, {parallel.n_cores()} threads"


def memory(config: ModelConfig, batch_size: int, precision: str = "auto") -> dict[str, int]:
    """Bytes that the CPU engine will take to train `config` on this machine, and what for."""
    from handgrad.engines import cpu_memory

    predicted = cpu_memory.predict(config, batch_size, precision, parallel.n_cores())
    return {**predicted._asdict(), "total": predicted.total}


def training(
    config: ModelConfig,
    weights: p.Transformer,
    settings: engine.OptimizerSettings,
    *,
    name: str = "cpu",
    precision: str = "auto",
    batch_size: int | None = None,
    compiling: Callable[[str], object] = lambda kernel: None,
) -> engine.Training:
    """The `Training` of the engine `name`, ready for its first step.

    `compiling` is told the name of every kernel that has to be compiled, which happens once per machine.
    Raises `UserError` for a precision this machine has not.
    """
    require(name, precision)
    if name == "reference":
        return reference.Training(config, weights, settings)
    from handgrad.engines import cpu  # Numba takes half a second to import

    cpu.compile_kernels(config, precision, compiling)
    return cpu.Training(config, weights, settings, precision=precision, batch_size=batch_size)
