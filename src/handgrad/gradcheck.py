r"""The proof that a hand-derived backward is the gradient of its forward: one identity for every op.

$$\langle dy,\ J v\rangle = \langle J^\top dy,\ v\rangle$$

$J$ is the Jacobian, $dy$ a random upstream gradient, $v$ a random direction of one input. The left side
needs no derivation: central differences in float64 measure $J v$, how the output moves along $v$. The right
side is what `backward` returns.

**What "proved" means.** At given inputs, such as an op's `cases`, and for every array among them, the two
sides differ by at most $10^{-9}$ of the gradient's norm along each of four random directions. It is a
measurement at these inputs, not a proof for all inputs. Three things are conceded: a gradient too small for
float64 to measure is judged by what rounding leaves; a direction may pass at any of three step sizes; and a
failure is tried once more nearby, away from a kink. It is this sharp: one wrong element among the 65,536 of
a 256 x 256 gradient was caught, out of 200 random elements, when off by

| 1 % | 0.1 % | 0.01 % | 0.001 % | 0.0001 % |
|-----|-------|--------|---------|----------|
| 200 | 200   | 200    | 191     | 132      |

(`benchmarks/planted_slips.py`). What is missed is an element that is nearly zero beside the others.

`check` gives this verdict on every array. `check_elements` measures every single derivative and says where
one is wrong. Both know nothing about the op but the protocol of `handgrad.ops`.
"""

import copy
import inspect
from collections.abc import Callable, Container, Iterator, Sequence
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np

from handgrad import tree

TOLERANCE = 1e-9
"""The largest relative error that passes: central differences lose less, and a slip makes more."""

DIRECTIONS = 4
"""Random directions an array. One is enough for one wrong element; two that are wrong could cancel in one."""

STEPS = (1e-4, 1e-5, 1e-6)
"""How far inputs are moved. The widest step suffers least from rounding; where the function bends, or a
ReLU's kink lies in between, a shorter one is tried."""

POINTS = (1, -1, 2, -2)
"""Where a slope is measured, in steps."""

NEARBY = 1e-3
"""How far away a failed proof is tried again."""

ROUNDINGS = 4
"""How many roundings of the output a measurement may have suffered. What they make of a slope is the finest
that central differences can tell. A smaller gradient is judged by that instead of by its own size: the bias
of attention's keys has a gradient of zero."""


@runtime_checkable
class Op(Protocol):
    """What can be proved: an op's module, a block, a model, or any object with these two functions."""

    @property
    def forward(self) -> Callable[..., tuple[Any, Any]]:
        """y, and `saved`: what backward needs."""

    @property
    def backward(self) -> Callable[..., tuple[Any, ...]]:
        """From dy and `saved`, the gradient of each float input, in argument order."""


class Proof(NamedTuple):
    """The verdict on one array: both sides along the worst direction, and how far they are apart."""

    input: str
    derived: float
    measured: float
    relative_error: float
    """The difference, in units of the gradient's norm or of the measured slope, whichever is larger."""

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


def check(op: Op, inputs: dict[str, Any], rng: np.random.Generator) -> list[Proof]:
    """Prove `op.backward` on these inputs: one verdict an array, in argument order.

    What fails is tried again at a point nearby. A wrong gradient fails there too; a kink is left behind.
    """
    verdicts = {proof.input: proof for proof in proofs(op, inputs, rng)}
    failed = {name for name, proof in verdicts.items() if not proof.passed}
    again = proofs(op, _nearby(op, inputs, rng), rng, only=failed) if failed else ()
    return list((verdicts | {proof.input: proof for proof in again if proof.passed}).values())


def proofs(
    op: Op,
    inputs: dict[str, Any],
    rng: np.random.Generator,
    *,
    directions: int = DIRECTIONS,
    only: Container[str] | None = None,
) -> Iterator[Proof]:
    """The verdicts at these inputs alone, each as soon as it is reached; `only` names some of the arrays."""
    problem = _Problem(op, inputs, rng)
    for name, x, gradient in problem.arrays():
        if only is not None and name not in only:
            continue
        norm = float(np.linalg.norm(gradient))
        verdicts = []
        for _ in range(directions):
            direction = _direction(rng, x.shape)
            derived = float(np.sum(gradient * direction))
            verdicts.append(Proof(name, derived, *problem.prove(x, direction, derived, norm)))
        yield max(verdicts, key=lambda proof: np.nan_to_num(proof.relative_error, nan=np.inf))


def check_elements(op: Op, inputs: dict[str, Any], rng: np.random.Generator) -> list[ElementProof]:
    """Measure every derivative: slow, 4 to 12 forwards an element, but it says which element is wrong."""
    problem = _Problem(op, inputs, rng)
    verdicts = []
    for name, x, gradient in problem.arrays():
        measured, errors = np.empty(x.shape), np.empty(x.shape)
        for index in np.ndindex(x.shape):
            unit = np.zeros(x.shape)
            unit[index] = 1.0
            derived = float(gradient[index])
            measured[index], errors[index] = problem.prove(x, unit, derived, abs(derived))
        verdicts.append(ElementProof(name, np.asarray(gradient), measured, errors))
    return verdicts


def slope(values: Sequence[Any], step: float) -> Any:
    """dy/dt from y(n t), n of `POINTS`, t = `step`: central differences at two distances, to order t^4."""
    ahead, behind, far_ahead, far_behind = values
    return (8 * (ahead - behind) - (far_ahead - far_behind)) / (12 * step)


def _direction(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Components of either sign and sizes from 1/2 to 3/2: none vanishes, and no two need be equal."""
    return rng.choice([-1.0, 1.0], size=shape) * rng.uniform(0.5, 1.5, size=shape)


def _nearby(op: Op, inputs: dict[str, Any], rng: np.random.Generator) -> dict[str, Any]:
    def moved(x: Any) -> Any:
        return x + NEARBY * _direction(rng, x.shape)

    movable = _float_inputs(op.forward, inputs)
    return {name: tree.map(moved, value) if name in movable else value for name, value in inputs.items()}


class _Problem:
    """One op at one point, L = <dy, forward(inputs)> for a fixed random dy, and its gradients."""

    def __init__(self, op: Op, inputs: dict[str, Any], rng: np.random.Generator):
        self.op = op
        self.inputs = {name: tree.map(np.array, value) for name, value in copy.deepcopy(inputs).items()}
        y, saved = self._forward()
        self.dy = rng.normal(size=np.shape(y))
        rounding = ROUNDINGS * np.finfo(np.float64).eps * float(np.linalg.norm(self.dy * y))
        self.finest = rounding / STEPS[0] / TOLERANCE  # of smaller slopes, rounding exceeds the tolerance
        self.gradients = dict(
            zip(_float_inputs(op.forward, self.inputs), op.backward(self.dy, saved), strict=True)
        )
        _require_equal(inputs, self.inputs)

    def _forward(self) -> tuple[Any, Any]:
        generators = {name: copy.deepcopy(v) for name, v in self.inputs.items() if not tree.leaves(v)}
        return self.op.forward(**{**self.inputs, **generators})  # a generator starts anew each time

    def arrays(self) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
        """Every float array among the inputs (ours to move), with its name and gradient."""
        for name, gradient in self.gradients.items():
            arrays = list(tree.named_leaves(self.inputs[name], name)) if name in self.inputs else []
            gradients = list(tree.named_leaves(gradient, name))
            if [(n, a.shape) for n, a in arrays] != [(n, np.shape(g)) for n, g in gradients]:
                raise AssertionError(f"the gradient of {name} is not shaped like it")
            for (path, x), (_, g) in zip(arrays, gradients, strict=True):
                yield path, x, g

    def prove(self, x: np.ndarray, direction: np.ndarray, derived: float, norm: float) -> tuple[float, float]:
        """The slope along `direction` as measured, and the error of `derived` in units of `norm`."""
        for step in STEPS:
            measured = self._slope(x, direction, step)
            error = float(abs(derived - measured) / (max(norm, abs(measured), self.finest) or 1.0))
            if error <= TOLERANCE:
                break
        return measured, error

    def _slope(self, x: np.ndarray, direction: np.ndarray, step: float) -> float:
        """dL along `direction`, by central differences."""
        start = x.copy()

        def moved(by: float) -> Any:
            x[...] = start + by * direction
            y = np.array(self._forward()[0])  # a copy: an op may return x itself
            x[...] = start
            return y

        return float(np.sum(self.dy * slope([moved(n * step) for n in POINTS], step)))


def _require_equal(given: dict[str, Any], used: dict[str, Any]) -> None:
    for name in given:
        for before, after in zip(tree.leaves(given[name]), tree.leaves(used[name]), strict=True):
            if before.tobytes() != after.tobytes():
                raise AssertionError(f"the op writes to its input {name}; it must leave it as it is")


def _float_inputs(forward: Callable[..., Any], inputs: dict[str, Any]) -> list[str]:
    """The arguments that have a gradient: those before the star, less the integer ones."""
    parameters = inspect.signature(forward).parameters.values()
    before_star = [p.name for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD]
    return [name for name in before_star if not _is_integer(inputs.get(name))]


def _is_integer(value: Any) -> bool:
    return tree.is_array(value) and not np.issubdtype(value.dtype, np.floating)
