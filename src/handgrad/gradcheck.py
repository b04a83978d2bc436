r"""The proof that a hand-derived backward is the gradient of its forward: one identity for every op.

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

STEPS = (1e-5, 1e-6)
"""How far inputs are moved: the first is enough for all that is smooth, and rounding, about 1e-16 / STEP,
stays small. Where it moves a ReLU across its kink and the proof fails for it, it is tried again closer by,
by the same measure."""

ROUNDINGS = 8
"""How many roundings of the output a measurement may have suffered. What they make of a slope is the finest
that central differences can tell; a derivative finer than that, such as the true zero for the bias of
attention's keys, is judged by it instead of by its own size."""


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
    proofs = []
    for name, x, gradient in problem.arrays():
        direction = rng.normal(size=x.shape)
        derived = float(np.sum(gradient * direction))
        proofs.append(Proof(name, derived, *problem.prove(x, direction, derived)))
    return proofs


def check_elements(op: Any, inputs: dict[str, Any], rng: np.random.Generator) -> list[ElementProof]:
    """Measure every derivative: slow, four forwards an element, but it says which element is wrong."""
    problem = _Problem(op, inputs, rng)
    proofs = []
    for name, x, gradient in problem.arrays():
        measured, errors = np.empty(x.shape), np.empty(x.shape)
        for index in np.ndindex(x.shape):
            unit = np.zeros(x.shape)
            unit[index] = 1.0
            measured[index], errors[index] = problem.prove(x, unit, float(gradient[index]))
        proofs.append(ElementProof(name, np.asarray(gradient), measured, errors))
    return proofs


class _Problem:
    """One op at one point, L = <dy, forward(inputs)> for a fixed random dy, and its gradients."""

    def __init__(self, op: Any, inputs: dict[str, Any], rng: np.random.Generator):
        self.op = op
        self.inputs = {name: tree.map(lambda leaf: np.array(leaf), value) for name, value in inputs.items()}
        y, saved = self._forward()
        self.dy = rng.normal(size=np.shape(y))
        self.rounding = ROUNDINGS * float(np.finfo(np.float64).eps * np.sum(np.abs(self.dy * y)))
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

    def prove(self, x: np.ndarray, direction: np.ndarray, derived: float) -> tuple[float, float]:
        """The slope along `direction` as measured, and the relative error of `derived`."""
        finest = self.rounding / STEPS[0] / TOLERANCE  # the slope of which rounding is just a tolerable share
        for step in STEPS:
            measured = self._slope(x, direction, step)
            size = max(abs(derived), abs(measured), finest) or 1.0
            error = abs(derived - measured) / size
            if error <= TOLERANCE:
                break
        return measured, error

    def _slope(self, x: np.ndarray, direction: np.ndarray, step: float) -> float:
        """dL along `direction`, by central differences at two distances, combined to order step^4."""
        start = x.copy()

        def moved(by: float) -> Any:
            x[...] = start + by * direction
            y, _ = self._forward()
            x[...] = start
            return y

        near, far = moved(step) - moved(-step), moved(2 * step) - moved(-2 * step)
        return float(np.sum(self.dy * (8 * near - far))) / (12 * step)


def _float_inputs(forward: Callable[..., Any], inputs: dict[str, Any]) -> list[str]:
    """The arguments that have a gradient: those before the star, less the integer ones."""
    parameters = inspect.signature(forward).parameters.values()
    before_star = [p.name for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD]
    return [name for name in before_star if not _is_integer(inputs.get(name))]


def _is_integer(value: Any) -> bool:
    return tree.is_array(value) and not np.issubdtype(value.dtype, np.floating)
