"""What all tests share: seeded numbers, arithmetic that raises, checked shapes, every case of every op.

A test that takes `op` and `inputs` runs once for every case of every op in `handgrad.ops.ALL`, each time with
freshly drawn inputs: a new op is tested by existing.
"""

import inspect
import os
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from hypothesis import settings
from jaxtyping import config as jaxtyping_config
from jaxtyping import install_import_hook

# Shapes are checked where arrays pass. The hook sees only what is imported after it, and stays for what tests
# import later. Not all of handgrad.model: ModelConfig explains wrong types itself, in words that are tested.
# Not all of handgrad: the hook breaks functions that Numba compiles.
# Where the same functions are called thousands of times over, for steps and for slopes, the checks took from
# a fifth to three quarters of the time.
UNCHECKED = {"cli", "engines", "generation", "kernels", "training", "verify"}
UNCHECKED_FILES = {"test_gradients", "test_model_proof", "test_transformer"}
CHECKED = ["handgrad.ops", "handgrad.model.block", "handgrad.model.init", "handgrad.model.transformer"]
install_import_hook(CHECKED, "beartype.beartype")

from handgrad import ops, tree  # noqa: E402

SEED = 2017

settings.register_profile(
    "handgrad", deadline=None, max_examples=40, derandomize=os.environ.get("CI", "").lower() == "true"
)
settings.load_profile("handgrad")


LONG = ("docs", "lessons", "kernels", "training", "cli")
"""The folders whose tests take seconds each."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Long tests first: with several processes none is left alone with one of them at the end."""
    items.sort(key=lambda item: LONG.index(_folder(item)) if _folder(item) in LONG else len(LONG))


def _folder(item: pytest.Item) -> str:
    """The folder of tests/ that a test is in."""
    return item.path.relative_to(Path(__file__).parent).parts[0]


@pytest.fixture(autouse=True)
def checked_shapes(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Shapes are checked, except where the time goes into repeating it."""
    often = _folder(request.node) in UNCHECKED or request.node.path.stem in UNCHECKED_FILES
    monkeypatch.setattr(jaxtyping_config, "jaxtyping_disable", often)


@pytest.fixture(autouse=True)
def raising_arithmetic() -> Iterator[None]:
    """NumPy raises on overflow, division by zero and invalid operations; numbers may fade to zero."""
    with np.errstate(over="raise", divide="raise", invalid="raise"):
        yield


@pytest.fixture
def rng() -> np.random.Generator:
    """Random numbers that are the same in every run and for every test."""
    return np.random.default_rng(SEED)


def every_case() -> Iterator[Any]:
    """The name of an op and the number of its case, with a readable id: `attention-1-dropout=0.3`."""
    for name, op in ops.ALL.items():
        for number, inputs in enumerate(op.cases(np.random.default_rng(SEED))):
            choices = (
                value if isinstance(value, str) else f"{key}={value}"
                for key, value in inputs.items()
                if isinstance(value, str | bool | int | float)
            )
            yield pytest.param((name, number), id="-".join([name, str(number), *choices]))


@pytest.fixture(params=every_case())
def case(request: pytest.FixtureRequest) -> tuple[str, int]:
    return request.param


@pytest.fixture
def op(case: tuple[str, int]) -> ModuleType:
    return ops.ALL[case[0]]


@pytest.fixture
def inputs(op: ModuleType, case: tuple[str, int]) -> dict[str, Any]:
    """The arguments of `op.forward`, drawn anew for each test: no test sees what another did to them."""
    return list(op.cases(np.random.default_rng(SEED)))[case[1]]


@pytest.fixture
def differentiable(op: ModuleType, inputs: dict[str, Any]) -> dict[str, Any]:
    """The inputs that have a gradient, in argument order: before the star, not integers; None if absent."""
    parameters = inspect.signature(op.forward).parameters.values()
    before_star = {p.name: inputs.get(p.name) for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD}
    return {
        name: value
        for name, value in before_star.items()
        if not (tree.is_array(value) and np.issubdtype(value.dtype, np.integer))
    }
