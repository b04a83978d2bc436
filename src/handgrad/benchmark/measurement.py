"""The CPU engine on this machine: what the machine can do, where a step's time goes, how fast steps are."""

import statistics
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from handgrad.benchmark import ours, worker
from handgrad.benchmark.profile import Profile, profile
from handgrad.engines import cpu, parallel
from handgrad.engines.engine import OptimizerSettings
from handgrad.kernels import machine
from handgrad.kernels import precision as precisions
from handgrad.model.config import ModelConfig
from handgrad.model.count import count

if TYPE_CHECKING:
    from handgrad.kernels.peaks import Peaks

LEAST_STEPS = 5
"""Steps whose median is taken."""


@dataclass(frozen=True)
class Measurement:
    """One model, trained on one machine."""

    n_cores: int
    precision: str
    batch_size: int
    tokens: int
    """In a step."""
    operations: float
    """In a step, as `model.count` counts them."""
    peaks: "Peaks"
    profile: Profile
    seconds: float
    """A step on all cores: the median."""

    @property
    def tokens_per_second(self) -> float:
        return self.tokens / self.seconds

    @property
    def operations_per_second(self) -> float:
        return self.operations / self.seconds

    @property
    def of_peak(self) -> float:
        """The share of the products' peak on all cores."""
        return self.operations_per_second / self.peaks.products(self.precision).all_cores


def measure(
    config: ModelConfig,
    *,
    batch_size: int,
    precision: str = "auto",
    settings: OptimizerSettings = cpu.DEFAULTS,
    n_steps: int = LEAST_STEPS,
    report: Callable[[str], object] = lambda what: None,
) -> Measurement:
    """Measure the machine, the kernels over `n_steps` steps, and steps on all cores.

    `report` is told what is being done. Raises `UserError` for a precision this machine has not.
    """
    precisions.kernels_for(precision)
    peaks = machine_peaks(lambda what: report(f"measuring {what}"))
    cpu.compile_kernels(config, precision, lambda name: report(f"compiling {name}"), settings)
    report("timing kernels in one thread")
    training: dict[str, Any] = {"batch_size": batch_size, "precision": precision, "settings": settings}
    kernels = profile(config, **training, n_steps=n_steps)
    report("timing steps on all cores")
    step = ours.stepper(config, **training)
    step()
    tokens = batch_size * config.context_length
    return Measurement(
        n_cores=parallel.n_cores(),
        precision=precisions.name_of(precision),
        batch_size=batch_size,
        tokens=tokens,
        operations=tokens * count(config).training_flops_per_token,
        peaks=peaks,
        profile=kernels,
        seconds=statistics.median(worker.timed(step, max(n_steps, LEAST_STEPS))),
    )


def machine_peaks(report: Callable[[str], object] = lambda what: None) -> "Peaks":
    """What this machine can do at most."""
    from handgrad.kernels import peaks  # imported by those who measure: its kernels are no part of training

    return peaks.measure(parallel.n_cores(), report)


def describe_machine() -> str:
    """Cores and vector instructions, in words."""
    return f"{parallel.n_cores()} cores, {machine.describe()}"
