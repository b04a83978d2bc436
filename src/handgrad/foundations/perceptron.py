r"""The perceptron: one neuron with a threshold, and the first rule by which a neuron learned.

$$\hat y = \begin{cases}1 & w\cdot x + b > 0\\ 0 & \text{else}\end{cases}$$

and after each mistake, with $y = 1$ where the label is 1 and $y = -1$ where it is 0,

$$w \leftarrow w + \eta\,y\,x,\qquad b\leftarrow b + \eta\,y$$

With the signed rows $r_i = y_i\,(x_i, 1)$ and the weights $v = (w, b)$, a row is right when
$v\cdot r_i > 0$; otherwise $v \leftarrow v + \eta\,r_i$. A row exactly on the line is thus a mistake,
whatever its label.

**It learns whatever it can represent.** Let some $v^*$ of length 1 have $v^*\cdot r_i \ge \gamma > 0$ for all
rows. Then each mistake raises $v\cdot v^*$ by at least $\eta\gamma$, but $|v|^2$ by at most $\eta^2 R^2$,
where R is the length of the longest row. Since $v\cdot v^*\le|v|$, there are at most $R^2/\gamma^2$ mistakes.

**Where it cannot, it proves so.** Otherwise the mistakes never end, but the weights stay bounded. If they are
whole numbers they must therefore return to values they had before. Between the two visits row i was mistaken
$\lambda_i$ times, and these steps cancel:

$$\sum_i \lambda_i\,y_i\,(x_i, 1) = 0,\qquad \lambda_i\ge0,\ \text{not all zero}$$

No line can then separate the classes: it would make every $v\cdot r_i$ positive, and with them
$\sum_i\lambda_i\,v\cdot r_i$, which is zero. The multipliers are a certificate that anyone can check by hand.
Divided by their sum in each class they also give a point that is a mixture of either class: `common_point`.

Sources: Rosenblatt, "The perceptron", Psychological Review 65 (1958); Novikoff, "On convergence proofs for
perceptrons" (1962); Block & Levin, "On the boundedness of an iterative procedure for solving a system of
linear inequalities" (1970); Gordan (1873) for the certificate.
"""

import math
from collections.abc import Iterator, Sequence
from fractions import Fraction
from operator import add, mul
from typing import Any, NamedTuple

import numpy as np

from handgrad.errors import UserError
from handgrad.shapes import Float, Int

LARGEST = 1e100
"""Inputs beyond this are refused, so that the weights, which are sums of them, stay floats."""


class Result(NamedTuple):
    """What was learned, and whether the rows can be separated at all."""

    weights: Float[np.ndarray, " D"]
    bias: float
    n_mistakes: Int[np.ndarray, " n_epochs"]
    """Mistakes in each pass over the rows."""
    separable: bool | None
    """True: every row is right. False: no line separates the classes, by the certificate. None: not known."""
    certificate: Int[np.ndarray, " N"] | None
    """One multiplier a row, where `separable` is False."""

    @property
    def n_epochs(self) -> int:
        """How many passes over the rows were made."""
        return len(self.n_mistakes)

    @property
    def explanation(self) -> str:
        """What happened, in one sentence."""
        passes = f"{self.n_epochs:,} pass{'es' if self.n_epochs > 1 else ''}"
        if self.separable:
            return f"Linearly separable: after {passes} every row is right."
        if self.certificate is None:
            return f"Not known: {passes} brought neither success nor a cycle; allow more epochs."
        return (
            f"Not linearly separable: within {passes} the weights came back to where they had been, so that "
            f"{np.count_nonzero(self.certificate)} of the signed rows, times their multipliers, cancel out."
        )


class BooleanFunction(NamedTuple):
    """A function of two inputs A and B that are 0 or 1."""

    name: str
    inputs: Float[np.ndarray, "4 2"]
    labels: Int[np.ndarray, " 4"]


_NAMES = (
    "FALSE, AND, A AND NOT B, A, B AND NOT A, B, XOR, OR, "
    "NOR, XNOR, NOT B, B IMPLIES A, NOT A, A IMPLIES B, NAND, TRUE"
).split(", ")


def boolean_functions() -> Iterator[BooleanFunction]:
    """All Boolean functions of two inputs, sorted by their truth tables read as binary numbers."""
    inputs = np.array([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
    for number, name in enumerate(_NAMES):
        yield BooleanFunction(
            name, inputs, np.array([number >> 3 & 1, number >> 2 & 1, number >> 1 & 1, number & 1])
        )


def train(
    inputs: Float[np.ndarray, "N D"] | Sequence[Sequence[float]],
    labels: Int[np.ndarray, " N"] | Sequence[int],
    *,
    learning_rate: float = 1.0,
    max_epochs: int = 1000,
) -> Result:
    """Rosenblatt's rule from zero weights, row after row, until a pass has no mistake or the weights return.

    `labels` are 0 and 1, or -1 and 1. The arithmetic is exact, because every float is a whole number over a
    power of two, so rounding cannot make the weights return. How soon they return depends on how many digits
    the inputs have. If it takes longer than `max_epochs`, `separable` is None. From zero weights,
    `learning_rate` only scales the result.

    Raises `UserError` for inputs that are not a table of numbers, labels that do not fit it, and settings
    out of range.
    """
    _check_settings(learning_rate, max_epochs)
    rows, scale = _signed_rows(*_checked_data(inputs, labels))
    v = (0,) * len(rows[0])
    first_seen = {v: 0}
    history: list[list[int]] = []
    separable, certificate = None, None
    while separable is None and len(history) < max_epochs:
        v, mistakes = _epoch(v, rows)
        history.append(mistakes)
        if not any(mistakes):
            separable = True
        elif (start := first_seen.setdefault(v, len(history))) < len(history):
            separable, certificate = False, _over_cycle(history[start:])
    *weights, bias = [learning_rate * (component / scale) for component in v]
    n_mistakes = np.array([sum(mistakes) for mistakes in history])
    return Result(np.array(weights), bias, n_mistakes, separable, certificate)


def predict(
    inputs: Float[np.ndarray, "N D"], weights: Float[np.ndarray, " D"], bias: float
) -> Int[np.ndarray, " N"]:
    """1 for rows on the positive side of the line, plane or hyperplane $w\\cdot x + b = 0$, else 0."""
    return (np.asarray(inputs) @ weights + bias > 0).astype(np.int64)


def certificate_sum(
    inputs: Float[np.ndarray, "N D"], labels: Int[np.ndarray, " N"], certificate: Int[np.ndarray, " N"]
) -> list[Fraction]:
    r"""The left side of the certificate, $\sum_i \lambda_i y_i (x_i, 1)$, exactly: all zero if valid."""
    rows, scale = _signed_rows(*_checked_data(inputs, labels))
    return [
        Fraction(sum(map(mul, map(int, certificate), column)), scale) for column in zip(*rows, strict=True)
    ]


def common_point(
    inputs: Float[np.ndarray, "N D"], labels: Int[np.ndarray, " N"], certificate: Int[np.ndarray, " N"]
) -> Float[np.ndarray, " D"]:
    r"""The point that, by a valid certificate, lies between the rows of either class.

    $$p = \frac{\sum_{y_i=1}\lambda_i x_i}{\sum_{y_i=1}\lambda_i} =
    \frac{\sum_{y_i=-1}\lambda_i x_i}{\sum_{y_i=-1}\lambda_i}$$

    A line with one class on one side has that class's mixtures there too, so $p$ would lie on both sides.
    """
    x, y = _checked_data(inputs, labels)
    share = np.where(y > 0, certificate, 0)
    return share @ x / np.sum(share)


def _epoch(v: tuple[int, ...], rows: list[tuple[int, ...]]) -> tuple[tuple[int, ...], list[int]]:
    """One pass: the new weights, and which rows were mistaken."""
    mistakes = []
    for row in rows:
        mistaken = sum(map(mul, v, row)) <= 0
        if mistaken:
            v = tuple(map(add, v, row))
        mistakes.append(int(mistaken))
    return v, mistakes


def _over_cycle(history: list[list[int]]) -> Int[np.ndarray, " N"]:
    """How often each row was mistaken in these passes, in lowest terms."""
    counts = np.sum(history, axis=0)
    return counts // math.gcd(*counts.tolist())


def _signed_rows(x: Float[np.ndarray, "N D"], y: Int[np.ndarray, " N"]) -> tuple[list[tuple[int, ...]], int]:
    """$y_i (x_i, 1)$ in whole numbers, and the one factor by which all were multiplied."""
    rows = [
        [Fraction(value) * sign for value in (*row, 1)]
        for row, sign in zip(x.tolist(), y.tolist(), strict=True)
    ]
    scale = math.lcm(*(value.denominator for row in rows for value in row))
    return [tuple(int(value * scale) for value in row) for row in rows], scale


def _checked_data(inputs: Any, labels: Any) -> tuple[Float[np.ndarray, "N D"], Int[np.ndarray, " N"]]:
    """The rows, and their labels as -1 and 1."""
    x, y = np.asarray(inputs, dtype=np.float64), np.asarray(labels)
    fine = np.abs(x) <= LARGEST  # False for NaN
    if x.ndim != 2 or not x.size or not np.all(fine):
        raise UserError(
            f"inputs must be a table of numbers up to {LARGEST:g}, one row an example; got the shape "
            f"{x.shape} with {np.count_nonzero(~fine)} that are not; try [[0, 0], [0, 1]]."
        )
    if y.shape != x.shape[:1]:
        raise UserError(
            f"labels must be one for each of the {len(x)} rows; got the shape {y.shape}; check both."
        )
    if not (np.all(np.isin(y, (0, 1))) or np.all(np.isin(y, (-1, 1)))):
        found = ", ".join(map(str, np.unique(y)[:5]))
        raise UserError(f"labels must be 0 and 1, or -1 and 1; got {found}; rename the two classes.")
    return x, np.where(y > 0, 1, -1)


def _check_settings(learning_rate: float, max_epochs: int) -> None:
    if not 0 < learning_rate < math.inf:
        raise UserError(f"learning_rate must be a positive number; got {learning_rate}; try 1.0.")
    if max_epochs < 1:
        raise UserError(f"max_epochs must be at least 1; got {max_epochs}; try 1000.")
