r"""The proof that a hand-derived backward is the gradient of its forward, by one identity that holds for
every op.

$$\langle dy,\ J v\rangle = \langle J^\top dy,\ v\rangle$$

$J$ is the Jacobian, $dy$ a random upstream gradient, $v$ a random direction of one input. The left side
needs no derivation: $J v$ is how the output moves along $v$, measured by central
differences in float64.
The right side is what `backward` returns. They agree to about ten digits, or the derivation is wrong.

`check` takes one random direction an array and says whether; `check_elements` measures every single
derivative and says where. Neither knows anything about the op but the protocol of `handgrad.ops`.
"""

import copy
import inspect
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

from handgrad import tree

TOLERANCE = 1e-7
"""The largest relative error that passes: far above what central differences lose, far below what a slip
makes."""

STEP = 1e-5
"""How far inputs are moved: far enough that rounding, about 1e-16 / STEP, stays small, and so little that
ReLUs are hardly ever moved across their kink."""

FLOOR = 1e-3
"""A product this much smaller than the op's largest is judged as if it were this large: where the true
gradient is zero, as for the bias of attention's keys, both sides are rounding noise."""


class Proof(NamedTuple):
    """The verdict on one array: the two products and their relative error."""

    input: str
    derived: float
    measured: float
    relative_error: float

    @property
    def passed(self) -> bool:
        return self.relative_error <= TOLERANCE  # False for NaN


class ElementProof(NamedTuple):
    """The verdict on every element of one array."""

    input: str
    derived: np.ndarray
    measured: np.ndarray
    relative_errors: np.ndarray

    @property
    def passed(self) -> bool:
        return bool(np.all(self.relative_errors <= TOLERANCE))

    def worst(self, n: int = 1) -> list[tuple[int, ...]]:
        """The indices of the `n` elements with the largest errors, worst first."""
        order = np.argsort(-np.nan_to_num(self.relative_errors, nan=np.inf), axis=None)[:n]
        return [tuple(map(int, np.unravel_index(i, self.relative_errors.shape))) for i in order]


def check(op: Any, inputs: dict[str, Any], rng: np.random.Generator) -> list[Proof]:
    """Prove `op.backward` on these inputs: one verdict an array, in argument order."""
    problem = _Problem(op, inputs, rng)
    names, derived, measured = [], [], []
    for name, x, gradient in problem.arrays():
        direction = rng.normal(size=x.shape)
        names.append(name)
        derived.append(float(np.sum(gradient * direction)))
        measured.append(problem.slope(x, direction))
    errors = _relative(np.array(derived), np.array(measured), scale=max(np.abs(derived), default=0.0))
    return [Proof(*row) for row in zip(names, derived, measured, map(float, errors), strict=True)]


def check_elements(op: Any, inputs: dict[str, Any], rng: np.random.Generator) -> list[ElementProof]:
    """Measure every derivative: slow, two forwards an element, but it says which element is wrong."""
    problem = _Problem(op, inputs, rng)
    arrays = list(problem.arrays())
    scale = max((float(np.max(np.abs(g), initial=0.0)) for _, _, g in arrays), default=0.0)
    proofs = []
    for name, x, gradient in arrays:
        measured = np.empty(x.shape)
        for index in np.ndindex(x.shape):
            unit = np.zeros(x.shape)
            unit[index] = 1.0
            measured[index] = problem.slope(x, unit)
        proofs.append(
            ElementProof(name, np.asarray(gradient), measured, _relative(gradient, measured, scale))
        )
    return proofs


def _relative(derived: np.ndarray, measured: np.ndarray, scale: float) -> np.ndarray:
    size = np.maximum(np.maximum(np.abs(derived), np.abs(measured)), FLOOR * scale)
    return np.abs(derived - measured) / np.where(size == 0, 1.0, size)


class _Problem:
    """One op at one point: L = <dy, forward(inputs)> for a fixed random dy, and the gradients its backward
    gives."""

    def __init__(self, op: Any, inputs: dict[str, Any], rng: np.random.Generator):
        self.op = op
        self.inputs = {name: tree.map(lambda leaf: np.array(leaf), value) for name, value in inputs.items()}
        y, saved = self._forward()
        self.dy = rng.normal(size=np.shape(y))
        self.gradients = dict(
            zip(_float_inputs(op.forward, self.inputs), op.backward(self.dy, saved), strict=True)
        )

    def _forward(self) -> tuple[Any, Any]:
        return self.op.forward(**copy.deepcopy(self.inputs))  # a copy: a generator must start anew each time

    def arrays(self) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
        """Every float array among the inputs (ours to move), with its name and gradient."""
        for name, gradient in self.gradients.items():
            arrays = list(tree.named_leaves(self.inputs[name], name)) if name in self.inputs else []
            gradients = list(tree.named_leaves(gradient, name))
            if [(n, a.shape) for n, a in arrays] != [(n, np.shape(g)) for n, g in gradients]:
                raise AssertionError(f"the gradient of {name} is not shaped like it")
            for (path, x), (_, g) in zip(arrays, gradients, strict=True):
                yield path, x, g

    def slope(self, x: np.ndarray, direction: np.ndarray) -> float:
        """dL along `direction`, by central differences of two widths, combined so that the error is of order
        STEP^4."""
        start = x.copy()

        def moved(step: float) -> Any:
            x[...] = start + step * direction
            y, _ = self._forward()
            x[...] = start
            return y

        near, far = moved(STEP) - moved(-STEP), moved(2 * STEP) - moved(-2 * STEP)
        return float(np.sum(self.dy * (8 * near - far))) / (12 * STEP)


def _float_inputs(forward: Callable[..., Any], inputs: dict[str, Any]) -> list[str]:
    """The arguments that have a gradient: those before the star, less the integer ones."""
    parameters = inspect.signature(forward).parameters.values()
    before_star = [p.name for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD]
    return [name for name in before_star if not _is_integer(inputs.get(name))]


def _is_integer(value: Any) -> bool:
    return tree.is_array(value) and not np.issubdtype(value.dtype, np.floating)
