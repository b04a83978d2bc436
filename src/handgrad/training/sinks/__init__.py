"""Where a run's losses go besides its own folder: TensorBoard, Weights & Biases.

metrics.jsonl stays the source. What is opened is first told the rows that it lacks, of a run that goes on as
of one that is watched only now; then each new row. One that fails is given up with a sentence, and training
goes on.
"""

import importlib.util
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol, Self

from handgrad.errors import UserError, require_known
from handgrad.training.metrics import METRICS, Row
from handgrad.training.run_config import RunConfig


class Sink(Protocol):
    """Something that is told rows."""

    def write(self, row: Row) -> None: ...

    def close(self) -> None: ...


class Kind(NamedTuple):
    """A library that shows rows."""

    module: str
    """As it is imported; the extra that installs it has the kind's name."""
    open: Callable[[Path, RunConfig, Sequence[Row]], Sink]
    """For the run in a folder, with the rows there are."""


def _tensorboard(folder: Path, config: RunConfig, rows: Sequence[Row]) -> Sink:
    from handgrad.training.sinks import tensorboard

    return tensorboard.Sink(folder, settings(config), rows)


def _wandb(folder: Path, config: RunConfig, rows: Sequence[Row]) -> Sink:
    from handgrad.training.sinks import weights_and_biases

    return weights_and_biases.Sink(folder, settings(config), rows)


KINDS = {"tensorboard": Kind("tensorboardX", _tensorboard), "wandb": Kind("wandb", _wandb)}


def require(names: Iterable[str]) -> tuple[str, ...]:
    """`names`, each once; `UserError` for one there is not, or whose library is not installed."""
    names = (names,) if isinstance(names, str) else tuple(dict.fromkeys(names))
    for name in names:
        require_known("log", name, KINDS)
        module = KINDS[name].module
        if _missing(module):
            raise UserError(f"--log {name} needs {module}. Install it: pip install 'handgrad[{name}]'.")
    return names


def _missing(module: str) -> bool:
    return importlib.util.find_spec(module) is None


def settings(config: RunConfig) -> dict[str, Any]:
    """What a run is, flat: `recipe.steps`, `model.d_model`, `seed`."""
    flat: dict[str, Any] = {}
    for name, value in config.to_json().items():
        parts = (
            {f"{name}.{part}": it for part, it in value.items()} if isinstance(value, dict) else {name: value}
        )
        flat |= {name: it for name, it in parts.items() if isinstance(it, bool | int | float | str)}
    return flat


class Sinks:
    """All that are told of a run; `failed` is called with the name of one that is given up, and why."""

    def __init__(
        self,
        names: Iterable[str],
        folder: Path,
        config: RunConfig,
        rows: Sequence[Row],
        failed: Callable[[str, str], object],
    ):
        self._failed = failed
        self._open: dict[str, Sink] = {}
        for name in names:

            def opened(name: str = name) -> None:
                require([name])
                self._open[name] = KINDS[name].open(folder, config, rows)

            self._guarded(name, opened)

    def write(self, row: Row) -> None:
        """Tell a new row."""
        for name, sink in list(self._open.items()):
            self._guarded(name, lambda sink=sink: sink.write(row))  # type: ignore[misc]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for name, sink in list(self._open.items()):
            self._guarded(name, sink.close)

    def _guarded(self, name: str, act: Callable[[], object]) -> None:
        try:
            act()
        except Exception as error:  # whatever a library and its network come up with
            self._open.pop(name, None)
            reason = " ".join(str(error).split()) or type(error).__name__
            self._failed(
                name, f"{name} is told no more of this run: {reason.rstrip('.')}. {METRICS} has all of it."
            )
