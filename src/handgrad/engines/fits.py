"""Whether a model fits this machine, said before anything of it is allocated."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from handgrad import engines
from handgrad.engines import lora
from handgrad.errors import UserError
from handgrad.model.config import ModelConfig
from handgrad.model.count import count

CGROUPS = Path("/sys/fs/cgroup")
OWN_GROUPS = Path("/proc/self/cgroup")

BATCH_BYTES = 16
"""What drawing a batch takes for each of its tokens."""
LAYER_BYTES = 1 << 14
"""What Python's objects take for each layer."""

SMALLER = "Take a smaller model, vocabulary, context or batch."


def require_training(
    model: ModelConfig,
    batch_size: int,
    engine: str,
    precision: str,
    mesh: str | None = None,
    lora_rank: int | None = None,
) -> None:
    """Raise `UserError` where training needs more memory than this machine has, free or in use."""
    objects = LAYER_BYTES * model.n_layers + BATCH_BYTES * batch_size * (model.context_length + 1)
    state = count(model).training_bytes - count(model).weight_bytes  # from the file, before it is copied
    chosen = engines.get(engine, mesh)
    memory = chosen.memory(model, batch_size, precision)
    if lora_rank is not None:
        memory, state = lora.memory(model, memory, lora_rank), count(model).weight_bytes
    _require(memory.total + state + objects, "Training this model", chosen.available())


def require(n_bytes: int, what: str, remedy: str = SMALLER) -> None:
    """Raise `UserError` where `what` needs more memory than this machine has, free or in use."""
    _require(n_bytes, what, available(), remedy)


def _require(n_bytes: int, what: str, there: int | None, remedy: str = SMALLER) -> None:
    if there is not None and n_bytes > there:
        raise UserError(
            f"{what} needs {_gigabytes(n_bytes)} of memory, and this machine has {_gigabytes(there)}. "
            f"{remedy}"
        )


def available() -> int | None:
    """The bytes of memory this process may have: the machine's, or fewer where a limit is set.

    None where the system does not say.
    """
    return min(_limits(), default=None)


def _limits() -> Iterator[int]:
    with contextlib.suppress(AttributeError, ValueError, OSError):  # Windows has no sysconf
        yield os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    with contextlib.suppress(ImportError):
        import resource

        soft, _ = resource.getrlimit(resource.RLIMIT_AS)
        if soft != resource.RLIM_INFINITY:
            yield soft
    for path in _cgroup_files():
        with contextlib.suppress(OSError, ValueError):  # no such group; or it says "max"
            yield int(path.read_text())


def _cgroup_files() -> Iterator[Path]:
    """Where the limits of this process's control group, and of those above it, would stand."""
    lines: list[str] = []
    with contextlib.suppress(OSError):
        lines = OWN_GROUPS.read_text().splitlines()
    for line in lines:
        _, controllers, group = line.split(":", 2)
        root, name = CGROUPS, "memory.max"
        if controllers:  # version 1 has a hierarchy for each controller
            if "memory" not in controllers.split(","):
                continue
            root, name = CGROUPS / "memory", "memory.limit_in_bytes"
        inner = Path(group.lstrip("/"))
        for folder in (inner, *inner.parents):  # in a container the group's own path may be missing
            yield root / folder / name


def _gigabytes(n_bytes: int) -> str:
    return f"{n_bytes / 1e9:,.1f} GB" if n_bytes < 1e18 else "more than a billion GB"
