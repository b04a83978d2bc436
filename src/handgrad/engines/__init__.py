"""What runs a model: an engine trains it and writes with it.

An engine is a module, found by its name: `get`. `reference` is the formulas themselves, `cpu` their kernels.
`engine.Engine` says what all of them offer.
"""

import importlib
from collections.abc import Callable
from typing import TYPE_CHECKING, cast

from handgrad.engines.engine import Engine, OptimizerSettings, State, Training
from handgrad.errors import UserError, require_known
from handgrad.model.config import ModelConfig

if TYPE_CHECKING:
    from handgrad.engines import cpu, reference, xla

    _: tuple[Engine, ...] = (cpu, reference, xla)  # mypy: each offers all of it

ENGINES = {name: f"handgrad.engines.{name}" for name in ("cpu", "reference", "xla")}
"""Every engine, by name. A module is imported when it is asked for: Numba takes half a second."""


def get(name: str, mesh: str | None = None) -> Engine:
    """The engine of that name; `UserError` lists them where there is none.

    `mesh`, such as "data=8", says on which devices the xla engine computes.
    """
    require_known("engine", name, ENGINES)
    engine = importlib.import_module(ENGINES[name])
    if mesh is None:
        return cast(Engine, engine)
    if name != "xla":
        raise UserError(
            f"A mesh is for the xla engine, which computes on several devices; this is {name}. Take --engine "
            f"xla, or leave out --mesh {mesh}."
        )
    return cast(Engine, engine.on(mesh))


def training(
    config: ModelConfig,
    state: State,
    settings: OptimizerSettings,
    *,
    name: str = "cpu",
    precision: str = "auto",
    mesh: str | None = None,
    batch_size: int | None = None,
    compiling: Callable[[str], object] = lambda kernel: None,
) -> Training:
    """Training by the engine `name`: see `engine.Engine.training`.

    Raises `UserError` for an engine that does not exist, and a precision that this machine does not have.
    """
    engine = get(name, mesh)
    engine.require(precision)
    return engine.training(
        config, state, settings, precision=precision, batch_size=batch_size, compiling=compiling
    )
