"""Pictures of lesson 1: what an index takes, what a sum leaves, how broadcasting stretches two shapes.

An array is drawn as its numbers in boxes; three axes as one block beside the other. A box with a full edge is
a number that is stored; a box with a dashed edge is a copy that broadcasting reads again.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from handgrad.plots import marks, style
from handgrad.plots.style import Picture
from handgrad.shapes import Bool, Float

CELL = 0.42
"""The side of a box, in inches."""

LEFT = np.array([[1.0, 2.0, 0.0], [3.0, 1.0, 2.0]])
RIGHT = np.array([[1.0, 2.0], [2.0, 1.0], [1.0, 3.0]])
"""The factors of a product."""

BIAS = np.array([10.0, 20.0, 30.0])
UPSTREAM = np.array([[1.0, -2.0, 3.0], [4.0, 5.0, -1.0]])
"""What is copied into two rows, and the gradients that come back."""


def selection(x: Float[np.ndarray, "..."], index: Any, *, title: str = "") -> Picture:
    """An array of two or three axes; the cells that `x[index]` takes are painted and bold.

    Axis 0 of three counts the blocks from left to right; the last two are the rows and columns of a block.
    """
    taken = np.zeros(x.shape, dtype=bool)
    taken[index] = True
    blocks, are_taken = x.reshape(-1, *x.shape[-2:]), taken.reshape(-1, *x.shape[-2:])
    n, rows, columns = blocks.shape
    with style.drawing() as look:
        right = max(n * (columns + 1) - 0.6, 0.24 * len(title) - 0.6)
        top = -1.7 if n > 1 else -1.0
        figure, axes = _sheet(-1.1, right, top - (0.9 if title else 0.0), rows + 0.2)
        axes.text(-1.0, top - 0.4, title, va="center", fontsize=10, family="monospace")
        for block, (numbers, marked) in enumerate(zip(blocks, are_taken, strict=True)):
            left = block * (columns + 1)
            _boxes(axes, numbers, (left, 0), ground=np.where(marked, "first", "plain"), bold=marked)
            if n > 1:
                axes.text(left + columns / 2, -1.3, f"axis 0: {block}", ha="center", color=look.quiet)
        row_axis, column_axis = (1, 2) if x.ndim == 3 else (0, 1)
        _axis_arrow(axes, (0, -0.35), (columns, -0.35), f"axis {column_axis}")
        _axis_arrow(axes, (-0.35, 0), (-0.35, rows), f"axis {row_axis}")
    return figure


def sums(x: Float[np.ndarray, "N M"], *, name: str = "x") -> Picture:
    """A matrix, beside it the sums of its rows, below it the sums of its columns, with their shapes.

    The axis that is summed disappears: axis 0 runs downwards, axis 1 to the right.
    """
    rows, columns = x.shape
    with style.drawing() as look:
        figure, axes = _sheet(-0.2, columns + 7.0, -0.8, rows + 2.2)
        along_0, along_1 = x.sum(axis=0, keepdims=True), x.sum(axis=1, keepdims=True)
        _titled(axes, f"{name} {_shape(x)}", x, (0, 0))
        _boxes(axes, along_0, (0, rows + 1), ground="second", bold=True)
        _boxes(axes, along_1, (columns + 1, 0), ground="first", bold=True)
        marks.arrow(axes, (columns / 2, rows + 0.1), (columns / 2, rows + 0.9), look.series[0])
        marks.arrow(axes, (columns + 0.1, rows / 2), (columns + 0.9, rows / 2), look.series[1])
        described = {
            "axis=1, keepdims=True": (columns + 2.3, rows / 2, along_1),
            "axis=0, keepdims=True": (columns + 0.3, rows + 1.5, along_0),
        }
        for what, (left, top, result) in described.items():
            axes.text(left, top, f"{name}.sum({what})\nshape {_shape(result)}", va="center", fontsize=9)
    return figure


def broadcast(*shapes: tuple[int, ...]) -> Picture:
    """The rule as a table: shapes aligned from the right, one column an axis, and below the result.

    Dashed boxes are stretched, from 1 or from a missing axis. At a cross two sizes differ and none of them is
    1, so that there is no result.
    """
    n_axes = max(1, *map(len, shapes))
    aligned = [(None,) * (n_axes - len(shape)) + shape for shape in shapes]
    results = [
        sorted({size for size in sizes if size not in (None, 1)}) for sizes in zip(*aligned, strict=True)
    ]
    with style.drawing() as look:
        wide = 2.2
        figure, axes = _sheet(-2.9, n_axes * wide + 0.1, -1.0, 1.3 * len(shapes) + 1.7)
        for axis, sizes in enumerate(results):
            left = axis * wide
            axes.text(left + 1, -0.5, f"axis \N{MINUS SIGN}{n_axes - axis}", ha="center", color=look.quiet)
            for row, shape in enumerate(aligned):
                _size_box(axes, (left, 1.3 * row), shape[axis], sizes)
            _result_box(axes, (left, 1.3 * len(shapes) + 0.4), sizes)
        for row, shape in enumerate(shapes):
            axes.text(-0.4, 1.3 * row + 0.5, str(shape), ha="right", va="center")
        bottom = 1.3 * len(shapes)
        axes.plot([-2.7, n_axes * wide - 0.2], [bottom + 0.05] * 2, color=look.quiet, linewidth=0.8)
        fits = all(len(sizes) <= 1 for sizes in results)
        total = str(tuple((sizes or [1])[0] for sizes in results)) if fits else "no result"
        axes.text(-0.4, bottom + 0.9, total, ha="right", va="center", weight="bold")
    return figure


def stretch(a: Float[np.ndarray, "..."], b: Float[np.ndarray, "..."]) -> Picture:
    """Two arrays of at most two axes, stretched to the shape of their sum, and the sum."""
    shape = (1, 1, *np.broadcast_shapes(a.shape, b.shape))[-2:]
    rows, columns = shape
    with style.drawing():
        step = columns + 1.2
        figure, axes = _sheet(-0.2, 3 * step - 0.9, -1.0, rows + 0.2)
        for number, (name, x) in enumerate((("a", a), ("b", b))):
            title, stretched = f"{name} {_shape(x)}", np.broadcast_to(x, shape)
            _titled(axes, title, stretched, (number * step, 0), stored=_stored(x, shape))
            between = (number + 1) * step - 0.6
            axes.text(between, rows / 2, "+="[number], ha="center", va="center", fontsize=14)
        result = a + b
        _titled(axes, _shape(result), result.reshape(shape), (2 * step, 0), ground="first", bold=True)
    return figure


def product(*, row: int = 0, column: int = 0) -> Picture:
    """A product of matrices: a on the left, b above; where row meets column, the sum of their products.

    Row and column are as long as the axis that both share; it is summed, and gone from the result.
    """
    a, b = LEFT, RIGHT
    (n, k), m = a.shape, b.shape[1]
    with style.drawing():
        left, top = k + 0.8, k + 0.8
        figure, axes = _sheet(-0.2, left + m + 5.0, -0.8, top + n + 0.9)
        in_row, in_column = np.arange(n)[:, None] == row, np.arange(m) == column
        in_a, in_b = np.broadcast_to(in_row, a.shape), np.broadcast_to(in_column, b.shape)
        in_c = in_row & in_column
        _titled(axes, f"a {_shape(a)}", a, (0, top), ground=np.where(in_a, "first", "plain"), bold=in_a)
        _titled(axes, f"b {_shape(b)}", b, (left, 0), ground=np.where(in_b, "second", "plain"), bold=in_b)
        _boxes(axes, a @ b, (left, top), bold=in_c, framed=in_c)
        axes.text(left + m / 2, top + n + 0.4, f"a @ b {_shape(a @ b)}", ha="center", va="center")
        terms = " + ".join(f"{x:g}·{y:g}" for x, y in zip(a[row], b[:, column], strict=True))
        text = f"row {row} meets column {column}:\n{terms}\n= {a[row] @ b[:, column]:g}"
        axes.text(left + m + 0.5, top + n / 2, text, va="center", linespacing=1.5)
    return figure


def reshape_or_transpose(x: Float[np.ndarray, "N M"]) -> Picture:
    """A matrix, its transpose, and its reshape to the same shape: not the same.

    The first row is painted: a transpose turns it into a column, a reshape keeps its numbers side by side.
    """
    first = np.broadcast_to(np.arange(x.shape[0])[:, None] == 0, x.shape)
    shown = {
        "x": (x, first),
        "x.T": (x.T, first.T),
        f"x.reshape{x.shape[::-1]}": (x.reshape(x.shape[::-1]), first.reshape(x.shape[::-1])),
    }
    with style.drawing():
        rows, columns = max(x.shape), x.shape[1]
        figure, axes = _sheet(-0.2, columns + 2 * x.shape[0] + 5.2, -1.0, rows + 0.2)
        left = 0.0
        for title, (numbers, marked) in shown.items():
            _titled(axes, title, numbers, (left, 0), ground=np.where(marked, "first", "plain"), bold=marked)
            left += numbers.shape[1] + 1.8
    return figure


def copied_and_summed(b: Float[np.ndarray, " M"] = BIAS, dy: Float[np.ndarray, "N M"] = UPSTREAM) -> Picture:
    """A broadcast and its gradient: what forward copies into every row, backward sums."""
    n, m = dy.shape
    far, below = m + 4.0, n + 1.2
    db, near_ends, far_ends = dy.sum(axis=0), m + 0.3, far - 0.3
    with style.drawing() as look:
        figure, axes = _sheet(-0.2, far + m + 0.4, -0.8, 2 * n + 1.4)
        forward, backward = n / 2, below + n / 2
        _titled(axes, f"b {_shape(b)}", b[None], (0, forward - 0.5))
        _titled(axes, "b, as y reads it", np.broadcast_to(b, dy.shape), (far, 0), stored=False)
        _titled(axes, f"dy {_shape(dy)}", dy, (far, below))
        _titled(axes, f"db {_shape(db)}", db[None], (0, backward - 0.5), ground="second", bold=True)
        marks.arrow(axes, (near_ends, forward), (far_ends, forward), look.series[1])
        marks.arrow(axes, (far_ends, backward), (near_ends, backward), look.series[0])
        for height, what in ((forward, "forward: copied"), (backward, "backward: summed")):
            axes.text((m + far) / 2, height - 0.35, what, ha="center", va="center", fontsize=9)
    return figure


def gaps_between_floats() -> Picture:
    """The distance to the next number that a type can write, against the number: a rising staircase.

    Their ratio stays between eps/2 and eps, whatever the number: precision is relative.
    """
    numbers = np.logspace(-3, 9, 1500)
    with style.drawing() as look:
        figure = style.figure(6.2, 3.8)
        axes = figure.add_subplot()
        for name, colour in zip(("float16", "float32", "float64"), look.series, strict=False):
            within = numbers[numbers < 0.99 * float(np.finfo(name).max)]
            gaps = np.spacing(within.astype(name)).astype(np.float64)
            axes.loglog(within, gaps, color=colour, linewidth=1.4)
            axes.annotate(
                name, (within[-1], gaps[-1]), (6, 0), textcoords="offset points", color=colour, va="center"
            )
        axes.axhline(1.0, color=look.quiet, linewidth=0.8, linestyle=":")
        axes.annotate(
            "a gap of 1", (numbers[0], 1.0), (2, 4), textcoords="offset points", color=look.quiet, fontsize=9
        )
        axes.set(xlabel="number", ylabel="distance to the next one")
        axes.grid(visible=True)
    return figure


def _sheet(left: float, right: float, top: float, bottom: float) -> tuple[Picture, Axes]:
    """Paper measured in boxes, y downwards."""
    figure = style.figure((right - left) * CELL + 0.24, (bottom - top) * CELL + 0.24)
    axes = figure.add_subplot(aspect="equal", xlim=(left, right), ylim=(bottom, top))
    axes.set_axis_off()
    return figure, axes


def _boxes(
    axes: Axes,
    numbers: Float[np.ndarray, "N M"],
    corner: tuple[float, float],
    *,
    ground: str | np.ndarray = "plain",
    bold: bool | Bool[np.ndarray, "N M"] = False,
    stored: bool | Bool[np.ndarray, "N M"] = True,
    framed: bool | Bool[np.ndarray, "N M"] = False,
) -> None:
    """A matrix with its upper left at `corner`; each keyword is one value, or one for each box."""
    look = style.look()
    grounds = {"plain": look.paper, "first": look.sides[0], "second": look.sides[1]}
    given = (np.broadcast_to(value, numbers.shape) for value in (ground, bold, stored, framed))
    kinds, bolds, storeds, frames = (values.tolist() for values in given)
    for (i, j), number in np.ndenumerate(numbers):
        is_stored, is_framed = storeds[i][j], frames[i][j]
        marks.box(
            axes, (corner[0] + j, corner[1] + i), marks.number(number, "g"), ground=grounds[kinds[i][j]],
            edge=look.ink if is_framed else look.quiet, linewidth=2.2 if is_framed else 0.9,
            dashed=not is_stored, zorder=3 if is_framed else 2 if is_stored else 1, fontsize=9.5,
            weight="bold" if bolds[i][j] else "normal", color=look.ink if is_stored else look.quiet,
        )  # fmt: skip


def _titled(
    axes: Axes, title: str, numbers: Float[np.ndarray, "N M"], corner: tuple[float, float], **kinds: Any
) -> None:
    """A matrix in boxes, with a title above it."""
    _boxes(axes, numbers, corner, **kinds)
    axes.text(corner[0] + numbers.shape[1] / 2, corner[1] - 0.4, title, ha="center", va="center")


def _stored(x: Float[np.ndarray, "..."], shape: tuple[int, ...]) -> Bool[np.ndarray, "N M"]:
    """Which cells of `x`, stretched to `shape`, are its own: the first along every stretched axis."""
    sizes = (*(1,) * (len(shape) - x.ndim), *x.shape)
    own = np.ones(shape, dtype=bool)
    for axis, size in enumerate(sizes):
        if size == 1:
            own &= np.expand_dims(np.arange(shape[axis]) == 0, [a for a in range(len(shape)) if a != axis])
    return own


def _size_box(axes: Axes, corner: tuple[float, float], size: int | None, sizes: Sequence[int]) -> None:
    """One axis of one shape in the table of `broadcast`; `sizes` are those it must agree with."""
    look = style.look()
    stretched = size in (None, 1) and bool(sizes)
    if len(sizes) > 1:
        text = "" if size is None else str(size)
    elif stretched:
        text = f"{'none' if size is None else 1} → {sizes[0]}"
    else:
        text = "none → 1" if size is None else str(size)
    dashed = stretched or size is None
    ground, edge = (look.sides[1], look.series[0]) if dashed else (look.paper, look.quiet)
    marks.box(axes, corner, text, width=2, ground=ground, edge=edge, dashed=dashed)


def _result_box(axes: Axes, corner: tuple[float, float], sizes: Sequence[int]) -> None:
    look = style.look()
    fits = len(sizes) <= 1
    text = str((*sizes, 1)[0]) if fits else "✗ " + " ≠ ".join(map(str, sizes))
    ground, edge = (look.sides[0], look.series[1]) if fits else (look.paper, look.ink)
    marks.box(axes, corner, text, width=2, ground=ground, edge=edge, linewidth=1.2, weight="bold")


def _axis_arrow(axes: Axes, start: tuple[float, float], end: tuple[float, float], name: str) -> None:
    """A thin arrow along one axis of an array, with its name at the middle."""
    look = style.look()
    marks.arrow(axes, start, end, look.quiet)
    upright = start[0] == end[0]
    x, y = (start[0] + end[0]) / 2, (start[1] + end[1]) / 2
    x, y = (x - 0.4, y) if upright else (x, y - 0.35)
    rotation = 90 if upright else 0
    axes.text(x, y, name, ha="center", va="center", rotation=rotation, fontsize=9, color=look.quiet)


def _shape(x: Float[np.ndarray, "..."]) -> str:
    return str(tuple(map(int, x.shape)))
