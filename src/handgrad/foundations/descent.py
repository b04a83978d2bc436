r"""Gradient descent on a function of a few coordinates, with the whole path kept to look at.

$$x_{t+1} = x_t - \text{step}\big(\nabla f(x_t)\big)\qquad\text{until}\qquad
|\nabla f(x_t)|_1\le\text{tolerance}$$

The gradient points straight uphill, so a short enough step against it goes down. The walk ends where the
gradient is zero: at a minimum, a saddle or a maximum. The slope alone cannot tell these apart, but the
curvature can. It is measured where a walk converges, and the path says what was found.
"""

from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple, TypeAlias, get_args

import numpy as np

from handgrad.errors import UserError
from handgrad.optim import adam, gradient_descent, momentum
from handgrad.shapes import Float

Method = Literal["plain", "momentum", "adam", "clipped"]
Outcome = Literal["converged", "diverged", "not a number", "out of steps"]
Kind = Literal["minimum", "saddle", "maximum", "flat"]
Function: TypeAlias = Callable[[Any], Any]
"""Takes an array of coordinates (D,); a surface gives one number, its gradient gives (D,)."""

SLOPE_STEP = float(np.finfo(np.float64).eps ** (1 / 3))
"""The step of central differences; `central_differences` says why."""

CURVATURE_STEP = float(np.finfo(np.float64).eps ** (1 / 6))
"""The step of the second differences that classify a stationary point. The fourth root of the rounding error
would be the most accurate; this one is longer, so that it still sees a valley as flat as $x^4$."""

HORIZON = 1e30
"""A walk that goes farther from the origin than this, in any coordinate, has diverged."""

MOST_COORDINATES = 32
"""In more dimensions than this a stationary point is not classified: that takes $4D^2$ values of f."""

TILT = 0.25
"""How much `tilted_valleys` is tilted."""


class Path(NamedTuple):
    """A walk, one row for each of the n points at which the gradient was evaluated, the start included."""

    positions: Float[np.ndarray, "n D"]
    values: Float[np.ndarray, " n"]
    gradient_norms: Float[np.ndarray, " n"]
    """The sum of the absolute partial derivatives, $|\\nabla f|_1$."""
    outcome: Outcome
    kind: Kind | None
    """The kind of stationary point at which a converged walk ended. None if it did not converge, or if the
    curvature could not be measured."""

    @property
    def n_steps(self) -> int:
        """How many gradients were evaluated."""
        return len(self.positions)

    @property
    def converged(self) -> bool:
        return self.outcome == "converged"

    @property
    def end(self) -> Float[np.ndarray, " D"]:
        """The last point of the walk."""
        return self.positions[-1]

    @property
    def explanation(self) -> str:
        """What happened, in one sentence."""
        at = f"({', '.join(f'{x:.4g}' for x in self.end)})"
        slope = f"{self.gradient_norms[-1]:.3g}"
        steps = "1 gradient evaluation" if self.n_steps == 1 else f"{self.n_steps:,} gradient evaluations"
        if self.outcome == "converged":
            return f"Converged after {steps} at {at}, where the slope is {slope}: {_MEANING[self.kind]}."
        if self.outcome == "diverged":
            return f"Diverged after {steps}, at {at}; try a smaller learning rate."
        if self.outcome == "not a number":
            return f"Stopped after {steps}: the function or its gradient is not a number at {at}."
        return f"Out of steps after {steps}: at {at} the slope is still {slope}; allow more or longer steps."


_MEANING: dict[Kind | None, str] = {
    "minimum": "a minimum, since the surface curves upwards in every direction",
    "saddle": "a saddle and no minimum, since the surface rises in some directions and falls in others",
    "maximum": "a maximum and no minimum, since the surface curves downwards in every direction",
    "flat": "a stationary point, flat in some direction, so that the curvature cannot say of which kind",
    None: "a stationary point, not necessarily a minimum, since the curvature there was not measured",
}


def minimize(
    function: Function,
    start: Sequence[float] | Float[np.ndarray, " D"],
    *,
    gradient: Function | None = None,
    method: Method = "plain",
    learning_rate: float = 0.01,
    tolerance: float = 1e-5,
    max_steps: int = 10_000,
) -> Path:
    """Walk downhill on `function` from `start` until the gradient's 1-norm is at most `tolerance`.

    `plain`, `momentum` and `adam` are the optimizers of `handgrad.optim`; `clipped` is `clipped_step`.
    Without `gradient`, central differences are used. All methods stop by the 1-norm. It is the largest of the
    usual norms, so this test is the strictest, and `clipped` computes it anyway.

    A walk always ends, with one of these outcomes: `converged`; `diverged`, when the position passed
    `HORIZON`, or a value or slope overflowed; `not a number`; `out of steps`, after `max_steps` gradients.
    Raises `UserError` for an argument that makes no sense, and for a function or gradient whose result has
    the wrong shape.
    """
    position = _checked_start(start)
    _check_settings(method, learning_rate, tolerance, max_steps)
    init, update = METHODS[method]
    state, outcome = init(position), None
    visited: list[_Point] = []
    with np.errstate(all="ignore"):  # overflow is an outcome, not a warning
        while outcome is None:
            point = _measure(function, gradient, position)
            visited.append(point)
            position, state = update(position, point.gradient, state, learning_rate=learning_rate)
            outcome = _outcome(point, position, tolerance, len(visited) == max_steps)
        kind = stationary_kind(function, visited[-1].position) if outcome == "converged" else None
    columns = [np.array(column) for column in zip(*visited, strict=True)]
    norms = np.array([point.norm for point in visited])
    return Path(columns[0], columns[1], norms, outcome, kind)


def clipped_step(
    weights: Float[np.ndarray, " D"],
    gradient: Float[np.ndarray, " D"],
    state: gradient_descent.State,
    *,
    learning_rate: float,
) -> tuple[Float[np.ndarray, " D"], gradient_descent.State]:
    r"""Gradient descent whose step is never longer than 1, measured in the 1-norm.

    $$x \leftarrow x - \frac{g}{\max(1/\eta,\ |g|_1)}$$

    On a gentle slope this is plain descent with the learning rate $\eta$. On a steep slope the step has the
    length 1, so it cannot overshoot far. The idea is that of `handgrad.optim.clip`, in another norm.
    """
    return weights - gradient / np.maximum(1.0 / learning_rate, np.sum(np.abs(gradient))), state


METHODS: dict[str, tuple[Callable[..., Any], Callable[..., Any]]] = {
    "plain": (gradient_descent.init, gradient_descent.update),
    "momentum": (momentum.init, momentum.update),
    "adam": (adam.init, adam.update),
    "clipped": (gradient_descent.init, clipped_step),
}
"""Every method by its name: its first state, and its step."""


def height(function: Function, position: Float[np.ndarray, " D"]) -> float:
    """f at `position` as one float: inf where Python reports an overflow, NaN where a division by zero.

    Raises `UserError` if the function returns anything but one number.
    """
    try:
        value = np.asarray(function(position), dtype=np.float64)
    except OverflowError:
        return np.inf
    except ZeroDivisionError:
        return np.nan
    if value.size != 1:
        raise UserError(
            f"the function to minimize must return one number; got the shape {value.shape}; "
            "return a scalar, such as the sum or the mean."
        )
    return value.item()


def central_differences(function: Function, point: Float[np.ndarray, " D"]) -> Float[np.ndarray, " D"]:
    r"""The gradient of `function`, measured by the change of f from a little left to a little right.

    $$\frac{\partial f}{\partial x_i} \approx \frac{f(x + h_i e_i) - f(x - h_i e_i)}{2h_i},\qquad
    h_i = \epsilon^{1/3}\max(1, |x_i|)$$

    The formula's error is $h^2 f'''/6$. Rounding, $\epsilon = 2^{-52}$ of f, adds $\epsilon f/h$. The cube
    root balances the two and leaves about ten digits. Far from the origin h grows with $x_i$, so that it
    stays above the rounding of $x_i$ itself.
    """
    sides = [point + sign * np.diag(SLOPE_STEP * np.maximum(1.0, np.abs(point))) for sign in (1, -1)]
    rise = [height(function, right) - height(function, left) for right, left in zip(*sides, strict=True)]
    return np.array(rise) / np.diagonal(sides[0] - sides[1])  # by the distance that rounding left


def hessian(function: Function, point: Float[np.ndarray, " D"]) -> Float[np.ndarray, "D D"]:
    r"""The matrix of second derivatives of `function`, its curvature, by differences of differences.

    $$H_{ij} \approx \frac{f(x+h_i+h_j) - f(x+h_i-h_j) - f(x-h_i+h_j) + f(x-h_i-h_j)}{4\,|h_i||h_j|}$$

    with $h_i$ along axis i, of length `CURVATURE_STEP` times $\max(1, |x_i|)$.
    """
    lengths = CURVATURE_STEP * np.maximum(1.0, np.abs(point))
    matrix = np.empty((len(point), len(point)))
    for i, a in enumerate(np.diag(lengths)):
        for j, b in enumerate(np.diag(lengths)):
            corners = [s * t * height(function, point + s * a + t * b) for s in (1, -1) for t in (1, -1)]
            matrix[i, j] = sum(corners) / (4 * lengths[i] * lengths[j])
    return matrix


def stationary_kind(function: Function, point: Float[np.ndarray, " D"]) -> Kind | None:
    """The kind of a point of zero slope, by the signs of its curvatures, the eigenvalues of the Hessian.

    All positive: a minimum. All negative: a maximum. Some of each: a saddle. Otherwise some are zero, to the
    accuracy of the measurement: flat. None in more than `MOST_COORDINATES` dimensions, and where f or its
    curvature is not finite.
    """
    if len(point) > MOST_COORDINATES:
        return None
    with np.errstate(all="ignore"):
        curvature, value = hessian(function, point), height(function, point)
    if not np.all(np.isfinite([value, *curvature.flat])):
        return None
    axes = np.linalg.eigvalsh(curvature)
    rounding = np.finfo(np.float64).eps * max(abs(value) / CURVATURE_STEP**2, *np.abs(axes))
    up, down = axes > 10 * rounding, axes < -10 * rounding
    if np.any(up) and np.any(down):
        return "saddle"
    return "minimum" if np.all(up) else "maximum" if np.all(down) else "flat"


def two_valleys(point: Float[np.ndarray, " 2"]) -> Float[np.ndarray, ""]:
    r"""A surface with two valleys of the same depth and a saddle between them.

    $$f(x, y) = x^4 + x^2y^2 - y^2 + y^4 + 6$$

    Minima at $(0, \pm 1/\sqrt 2)$, of value 5.75; the saddle at the origin, of value 6.
    """
    x, y = point
    return x**4 + x**2 * y**2 - y**2 + y**4 + 6.0


def two_valleys_gradient(point: Float[np.ndarray, " 2"]) -> Float[np.ndarray, " 2"]:
    r"""$\big(4x^3 + 2xy^2,\ \ 2x^2y - 2y + 4y^3\big)$."""
    x, y = point
    return np.array([4 * x**3 + 2 * x * y**2, 2 * x**2 * y - 2 * y + 4 * y**3])


def tilted_valleys(point: Float[np.ndarray, " 2"]) -> Float[np.ndarray, ""]:
    """`two_valleys` plus `TILT` times y: the valley at negative y becomes the deeper one.

    Both are still minima, so a walk that starts on the wrong side ends in the shallow one: gradient descent
    finds a local minimum, which need not be the global one.
    """
    return two_valleys(point) + TILT * point[1]


def tilted_valleys_gradient(point: Float[np.ndarray, " 2"]) -> Float[np.ndarray, " 2"]:
    """The gradient of `two_valleys`, with `TILT` added to the derivative by y."""
    return two_valleys_gradient(point) + np.array([0.0, TILT])


class _Point(NamedTuple):
    position: Float[np.ndarray, " D"]
    value: float
    gradient: Float[np.ndarray, " D"]

    @property
    def norm(self) -> float:
        return float(np.sum(np.abs(self.gradient)))


def _measure(function: Function, gradient: Function | None, position: Float[np.ndarray, " D"]) -> _Point:
    value = height(function, position)
    if gradient is None:
        return _Point(position, value, central_differences(function, position))
    slope = np.asarray(gradient(position), dtype=np.float64)
    if slope.shape != position.shape:
        raise UserError(
            f"gradient must return one number for each of the {len(position)} coordinates; "
            f"got the shape {slope.shape}; return the partial derivatives as one list."
        )
    return _Point(position, value, slope)


def _outcome(
    point: _Point, next_position: Float[np.ndarray, " D"], tolerance: float, last: bool
) -> Outcome | None:
    """How the walk ends at `point`, or None: it goes on."""
    if np.isinf(point.value) or np.isinf(point.norm):
        return "diverged"  # first: differences of infinite values are not numbers
    if np.isnan(point.value) or np.isnan(point.norm):
        return "not a number"
    if point.norm <= tolerance:
        return "converged"
    if not np.all(np.abs(next_position) <= HORIZON):
        return "diverged"
    return "out of steps" if last else None


def _checked_start(start: Sequence[float] | Float[np.ndarray, " D"]) -> Float[np.ndarray, " D"]:
    position = np.atleast_1d(np.array(start, dtype=np.float64))
    if position.ndim != 1 or position.size == 0 or not np.all(np.isfinite(position)):
        raise UserError(
            f"start must be a list of finite coordinates; got {np.asarray(start).tolist()}; try [1.0, 1.0]."
        )
    return position


def _check_settings(method: str, learning_rate: float, tolerance: float, max_steps: int) -> None:
    if method not in METHODS:
        raise UserError(f"method must be one of {', '.join(get_args(Method))}; got {method!r}; try 'plain'.")
    if not 0 < learning_rate < np.inf:
        raise UserError(f"learning_rate must be a positive number; got {learning_rate}; try 0.01.")
    if not 0 <= tolerance < np.inf:
        raise UserError(f"tolerance must be zero or a positive number; got {tolerance}; try 1e-5.")
    if max_steps < 1:
        raise UserError(f"max_steps must be at least 1; got {max_steps}; try 1000.")
