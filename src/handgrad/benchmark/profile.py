"""Where the time of a training step goes, kernel by kernel, and how near each comes to what the machine can.

Kernels are timed where Python calls them, so that the microseconds of a call count as the kernel's. All of a
step runs in one thread meanwhile: times add up to the step's. Products are compared with the peak of their
precision, everything else with the bandwidth of memory; a kernel that finds its arrays in the cache may well
exceed that.
"""

import contextlib
import functools
import inspect
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from handgrad.benchmark import ours
from handgrad.engines import cpu, cpu_muon, parallel
from handgrad.engines.engine import OptimizerSettings
from handgrad.kernels import jit, products_int16
from handgrad.model.config import ModelConfig

if TYPE_CHECKING:
    from handgrad.kernels.peaks import Peaks

BETWEEN = "Python between kernels"
SCRATCH = ("scratch", "spare")
ATTENTION_PRODUCTS = {"forward": 2, "backward": 5}
"""Forward: scores and the weighted sum of values. Backward: the scores again, and four gradients."""


class Call(NamedTuple):
    """One call of a kernel."""

    kernel: Callable[..., Any]
    arguments: tuple[Any, ...]
    seconds: float
    is_muons: bool = False

    @property
    def name(self) -> str:
        return name_of(self.kernel) + (" (Muon)" if self.is_muons else "")


@dataclass(frozen=True)
class Row:
    """A kernel in a mean step."""

    kernel: str
    calls: float
    seconds: float
    share: float
    """Of the step's seconds."""
    operations: float
    """Of matrix products, a multiply-add being two; 0 for a kernel that does not multiply matrices."""
    bytes: float
    """Of the parts of its arrays that it works on, scratch excluded; 0 where `operations` is counted."""

    def peak(self, peaks: "Peaks") -> str | None:
        """The name of the peak that this kernel is compared with; None where nothing is counted."""
        if self.operations:
            return peaks.kind(self.kernel)
        return "memory" if self.bytes else None

    def of_peak(self, peaks: "Peaks") -> float | None:
        """Its share of that peak, on one core."""
        peak = self.peak(peaks)
        if peak is None:
            return None
        return (self.operations or self.bytes) / self.seconds / getattr(peaks, peak).one_core


@dataclass(frozen=True)
class Profile:
    """A step of one thread."""

    seconds: float
    rows: tuple[Row, ...]
    """The slowest first; the last is what is left, `BETWEEN`."""


def profile(
    config: ModelConfig,
    *,
    batch_size: int,
    precision: str = "auto",
    settings: OptimizerSettings = cpu.DEFAULTS,
    n_steps: int = 5,
) -> Profile:
    """The mean of `n_steps` steps in one thread, after one that does not count."""
    step = ours.stepper(config, batch_size=batch_size, precision=precision, n_workers=1, settings=settings)
    calls: list[Call] = []
    with one_thread():
        step()
        with timed(calls):
            start = time.perf_counter()
            for _ in range(n_steps):
                step()
            seconds = time.perf_counter() - start
    return Profile(seconds / n_steps, tuple(_rows(calls, seconds, n_steps)))


@contextlib.contextmanager
def timed(calls: list[Call]) -> Iterator[None]:
    """Within, every call of a kernel from Python is added to `calls`. Kernels have to be compiled before."""
    update = cpu_muon.update

    def update_by_muon(*arguments: Any) -> None:
        n_before = len(calls)
        update(*arguments)
        calls[n_before:] = [call._replace(is_muons=True) for call in calls[n_before:]]

    found = [*kernels(), (cpu_muon, "update", update)]
    try:
        for module, name, kernel in found:
            setattr(module, name, _timed(kernel, calls) if jit.is_kernel(kernel) else update_by_muon)
        yield
    finally:
        for module, name, kernel in found:
            setattr(module, name, kernel)


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Within, what would run together runs one after the other."""
    together = parallel.together
    parallel.together = lambda function, *arguments: list(map(function, *arguments))
    try:
        yield
    finally:
        parallel.together = together


def kernels() -> Iterator[tuple[Any, str, Any]]:
    """Every kernel that Python calls, with each module and name it is known by."""
    for module_name, module in sorted(sys.modules.items()):
        if module_name.startswith("handgrad."):
            for name, value in list(vars(module).items()):
                if jit.is_kernel(value):
                    yield module, name, value


def _timed(kernel: Any, calls: list[Call]) -> Callable[..., Any]:
    @functools.wraps(kernel.py_func)
    def call(*arguments: Any) -> Any:
        start = time.perf_counter()
        result = kernel(*arguments)
        calls.append(Call(kernel.py_func, arguments, time.perf_counter() - start))
        return result

    return call


def _rows(calls: Sequence[Call], seconds: float, n_steps: int) -> Iterator[Row]:
    by_kernel: dict[str, list[Call]] = {}
    for call in calls:
        by_kernel.setdefault(call.name, []).append(call)
    rows = [_row(name, mine, seconds, n_steps) for name, mine in by_kernel.items()]
    yield from sorted(rows, key=lambda row: -row.seconds)
    left = seconds - sum(call.seconds for call in calls)
    yield Row(BETWEEN, 0.0, left / n_steps, left / seconds, 0.0, 0.0)


def _row(name: str, calls: Sequence[Call], seconds: float, n_steps: int) -> Row:
    mine = sum(call.seconds for call in calls)
    operations, n_bytes = map(sum, zip(*(work(call.kernel, call.arguments) for call in calls), strict=True))
    return Row(
        name, len(calls) / n_steps, mine / n_steps, mine / seconds, operations / n_steps, n_bytes / n_steps
    )


def name_of(kernel: Callable[..., Any]) -> str:
    """MODULE.NAME"""
    return f"{kernel.__module__.rpartition('.')[2]}.{kernel.__name__}"


def work(kernel: Callable[..., Any], arguments: Sequence[Any]) -> tuple[float, float]:
    """Operations of matrix products, or, where there are none, bytes: of one call."""
    given = dict(zip(inspect.signature(kernel).parameters, arguments, strict=True))
    operations = _operations(name_of(kernel), given)
    return (operations, 0.0) if operations else (0.0, _bytes(given))


def _operations(name: str, given: dict[str, Any]) -> float:
    if name == "products_int16.affine":  # its operands hold scales too
        return 2.0 * given["out"].size * products_int16.depth(given["panels"].shape[1])
    if name.endswith(".affine"):
        return 2.0 * given["a"].size * given["out"].shape[1]
    if name.endswith(".add_gradient"):
        return 2.0 * given["dweight"].size * len(given["x"])
    module, _, function = name.partition(".")
    if module.startswith("attention") and function in ATTENTION_PRODUCTS:
        d_head = given["q"].shape[1] // given["heads"].n_heads
        return ATTENTION_PRODUCTS[function] * 2.0 * _pairs(given) * d_head
    return 0.0


def _pairs(given: dict[str, Any]) -> int:
    """Queries and the keys that each may see, of all heads."""
    heads = given["heads"]
    B, H = heads.n_sequences, heads.n_heads
    T, S = len(given["q"]) // B, len(given["k"]) // B
    return B * H * (T * (T + 1) // 2 + T * (S - T) if heads.causal else T * S)


def _bytes(given: dict[str, Any]) -> float:
    arrays = {
        name: value
        for name, value in given.items()
        if isinstance(value, np.ndarray) and value.dtype.kind != "i" and name not in SCRATCH
    }
    if "first" in given:  # some rows, or columns, of them
        return sum(array.nbytes * _part(array, given) for array in arrays.values())
    if "token_ids" in given:  # the rows of a table that are looked up
        n = given["token_ids"].size
        return sum(min(array.nbytes, array[:1].nbytes * n) for array in arrays.values())
    return sum(array.nbytes for array in arrays.values())


def _part(array: np.ndarray, given: dict[str, Any]) -> float:
    """A weight's rows, which its panels share; or the numbers of flat gradients, one a worker."""
    n = given["weight"].shape[0] if "weight" in given else array.shape[-1]
    return (given["last"] - given["first"]) / n
