"""Pictures of lesson 4: a perceptron's weights, its updates one by one, and why they come to an end."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from handgrad.plots import marks, style
from handgrad.plots.perceptron import classes, draw_line, draw_points, paint_sides
from handgrad.plots.style import Picture
from handgrad.shapes import Float, Int

WINDOW = (-1.0, 3.4)
"""Wide enough to show where the line goes while it learns inputs that are 0 or 1."""

ARROW = 0.6
"""How long the normal is drawn beside a line that moves: its direction is what one should see."""


def geometry(
    weights: Sequence[float] | Float[np.ndarray, " 2"] = (1.2, 1.6),
    bias: float = -2.0,
    point: Sequence[float] | Float[np.ndarray, " 2"] = (2.0, 1.5),
) -> Picture:
    """A perceptron on paper: the line where the score is zero, the weights, and the distance of a point.

    The weights are an arrow at a right angle to the line; it points to the side of class 1. The distance of a
    point is its score over the length of the weights.
    """
    w, x = np.asarray(weights, np.float64), np.asarray(point, np.float64)
    length = float(np.linalg.norm(w))
    unit, foot_of_origin = w / length, -bias * w / length**2
    distance = (w @ x + bias) / length
    foot = x - distance * unit
    window = (-3.5, 3.5)
    with style.drawing() as look:
        figure = style.figure(5.4, 5.4)
        axes = figure.add_subplot(aspect="equal", xlim=window, ylim=window)
        axes.axhline(0, color=look.grid, linewidth=0.8, zorder=1)
        axes.axvline(0, color=look.grid, linewidth=0.8, zorder=1)
        _sides(axes, w, bias, window)
        _normal(axes, foot_of_origin, foot_of_origin + w)
        axes.plot(*np.stack([foot, x]).T, color=look.series[1], linestyle="--", zorder=3)
        axes.plot(*x, "o", color=look.series[1], markersize=8, zorder=4)
        axes.set(xlabel="$x_1$", ylabel="$x_2$")
        axes.set_title(
            f"$w$ = {_vector(w)},  $b$ = {_number(bias)}\n"
            f"the point: score {_number(float(w @ x + bias))},  distance {_number(float(distance))}",
            fontsize=10,
        )
        other, one = (Patch(facecolor=side, edgecolor=look.quiet) for side in look.sides)
        line, dashes = Line2D([], [], color=look.ink), Line2D([], [], color=look.series[1], linestyle="--")
        figure.legend(
            [one, line, other, dashes],
            ["score > 0: class 1", "score = 0", "score < 0: class 0", "distance"],
            loc="outside lower center", ncols=2,
        )  # fmt: skip
    return figure


def after_update(
    inputs: Float[np.ndarray, "N 2"],
    labels: Int[np.ndarray, " N"],
    walk: Float[np.ndarray, "M_1 3"],
    mistaken: Sequence[int],
    n: int,
) -> Picture:
    """What a perceptron predicts after n updates: its line, and dashed the line before.

    A ring marks the row that was mistaken; the arrow shows to which side the weights point. `walk` has the
    weights and the bias before the first update, after it, and so on; `mistaken` has the row of each update.
    Without weights there is no line, and every point gets the same answer.
    """
    with style.drawing() as look:
        figure = style.figure(4.8, 5.4)
        axes = figure.add_subplot(aspect="equal", xlim=WINDOW, ylim=WINDOW, xticks=range(4), yticks=range(4))
        (*w, b), title = walk[n], "before the first update"
        _sides(axes, np.array(w), b, WINDOW)
        ring: dict[str, Any] = {
            "marker": "o", "markersize": 18, "markerfacecolor": "none", "markeredgecolor": look.ink,
            "markeredgewidth": 1.4, "linestyle": "",
        }  # fmt: skip
        before = {"color": look.quiet, "linestyle": "--"}
        if n:
            row = inputs[mistaken[n - 1]]
            title = f"after update {n}, for the row {_vector(row)}"
            draw_line(axes, walk[n - 1][:2], float(walk[n - 1][2]), **before, zorder=2)
            axes.plot(*row, **ring, zorder=5)
        if np.any(w):
            normal = np.array(w) / np.linalg.norm(w)
            stand = 0.5 - (np.dot(w, [0.5, 0.5]) + b) / np.dot(w, w) * np.array(w)  # below the middle
            _normal(axes, stand, stand + ARROW * normal)
        draw_points(axes, inputs, labels)
        axes.set(xlabel="$x_1$", ylabel="$x_2$")
        axes.set_title(f"{title}\n$w$ = {_vector(w)},  $b$ = {_number(b)}", fontsize=10)
        now = {"color": look.ink}
        figure.legend(
            [Line2D([], [], **signs) for signs in (*classes(), ring, now, before)],
            ["class 0", "class 1", "mistaken row", "the line", "the line before"],
            loc="outside lower center", ncols=3,
        )  # fmt: skip
    return figure


def squeeze(
    walk: Float[np.ndarray, "M_1 D"], rows: Float[np.ndarray, "N D"], direction: Float[np.ndarray, " D"]
) -> Picture:
    """Why mistakes come to an end: the weights' way along a separating direction, and their length.

    Both stay between two bounds. The lower one grows like M, the upper one like its root: where they cross,
    no update is left. `rows` are signed, and `direction` has a positive product with each.
    """
    unit = direction / np.linalg.norm(direction)
    margin, radius = float(np.min(rows @ unit)), float(np.max(np.linalg.norm(rows, axis=1)))
    most = (radius / margin) ** 2
    updates, at = np.arange(len(walk)), np.linspace(0, 1.12 * most, 300)
    with style.drawing() as look:
        figure = style.figure(6.4, 4.4)
        axes = figure.add_subplot(xlim=(0, at[-1]), ylim=(0, 1.12 * most * margin))
        below, above = look.series[:2]
        axes.fill_between(
            at, margin * at, radius * np.sqrt(at), where=at <= most, color=look.grid, alpha=0.5, linewidth=0
        )
        axes.plot(at, radius * np.sqrt(at), color=above, linestyle="--", label=r"at most $\sqrt{M}\,R$")
        axes.plot(updates, np.linalg.norm(walk, axis=1), "s-", color=above, markersize=3.5, label=r"$|v|$")
        axes.plot(updates, walk @ unit, "o-", color=below, markersize=3.5, label=r"$v\cdot v^*$")
        axes.plot(at, margin * at, color=below, linestyle="--", label=r"at least $M\gamma$")
        axes.axvline(most, color=look.quiet, linewidth=1, linestyle=":")
        axes.annotate(
            rf"$R^2/\gamma^2$ = {most:.4g}", (most, 0), (-6, 8), textcoords="offset points", ha="right",
            color=look.ink,
        )  # fmt: skip
        axes.set(xlabel="updates $M$", ylabel="length")
        figure.legend(loc="outside upper center", ncols=4)
    return figure


def mistakes_and_bounds(bounds: Float[np.ndarray, " N"], n_mistakes: Int[np.ndarray, " N"]) -> Picture:
    """Mistakes of many runs against the bound of each, both logarithmic: none is above the diagonal."""
    with style.drawing() as look:
        figure = style.figure(5.6, 4.6)
        axes = figure.add_subplot()
        ends = np.array([0.7 * min(n_mistakes), 1.5 * max(bounds)])
        axes.fill_between(ends, ends, ends[1], color=look.grid, alpha=0.6, linewidth=0)
        axes.loglog(ends, ends, color=look.ink)
        axes.loglog(bounds, n_mistakes, "o", color=look.series[0], markersize=5, alpha=0.8)
        axes.text(0.04, 0.93, "more mistakes than the bound:\nimpossible", transform=axes.transAxes, va="top")
        axes.set(
            xlabel=r"bound $R^2/\gamma^2$", ylabel="mistakes made",
            xlim=(0.7 * min(bounds), ends[1]), ylim=(ends[0], ends[1]),
        )  # fmt: skip
    return figure


def _sides(axes: Axes, w: Float[np.ndarray, " 2"], b: float, window: tuple[float, float]) -> None:
    """The line, and the grounds of the two classes; one ground where there is no line."""
    look = style.look()
    if not np.any(w):
        axes.set_facecolor(look.sides[int(b > 0)])
        return
    x, y = np.meshgrid(window, window)
    paint_sides(axes, x, y, w[0] * x + w[1] * y + b)  # linear: the corners suffice
    draw_line(axes, w, b, color=look.ink, zorder=2)


def _normal(axes: Axes, start: Float[np.ndarray, " 2"], end: Float[np.ndarray, " 2"]) -> None:
    """The weights, with their name."""
    marks.arrow(axes, start, end, style.look().ink, linewidth=2, zorder=4)
    axes.annotate("$w$", (end[0], end[1]), (5, 4), textcoords="offset points", zorder=4)


def _vector(numbers: Sequence[float] | Float[np.ndarray, " n"]) -> str:
    return f"({', '.join(map(_number, numbers))})"


def _number(x: float) -> str:
    return marks.number(x, decimals=2)
