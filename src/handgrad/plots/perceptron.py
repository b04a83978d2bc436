"""Pictures of the perceptron: the line it draws between two classes, or the proof that there is none."""

from typing import Any

import numpy as np
from matplotlib.axes import Axes

from handgrad.errors import UserError
from handgrad.foundations import perceptron
from handgrad.foundations.perceptron import Result
from handgrad.plots import style
from handgrad.plots.style import Picture
from handgrad.shapes import Float, Int

COMMON = "weighted mean of either class:\nno line has it on both sides"
"""What the legend says of the point that proves the classes inseparable."""


def decision_line(
    inputs: Float[np.ndarray, "N 2"], labels: Int[np.ndarray, " N"], result: Result, *, title: str = ""
) -> Picture:
    """The rows as points, and the line $w\\cdot x + b = 0$ on whose coloured side class 1 is predicted.

    Where the classes are not separable, the picture shows why: lines run from the rows that the certificate
    names to a point that is a weighted mean of either class, and so would be on both sides of any line.
    """
    x = np.asarray(inputs, np.float64)
    if x.ndim != 2 or x.shape[1] != 2:
        raise UserError(f"a line can be drawn for two inputs; got the shape {x.shape}; choose two columns.")
    with style.drawing():
        figure = style.figure(4.8, 5.2)
        axes = figure.add_subplot(title=title)
        _draw(axes, x, np.asarray(labels), result, size=10)
        axes.set(xlabel="$x_1$", ylabel="$x_2$")
        _legend(figure, n_columns=2)
    return figure


def boolean_functions() -> Picture:
    """All Boolean functions of two inputs as the perceptron learns them, one small picture each."""
    with style.drawing():
        figure = style.figure(7.2, 8.4)
        panels = figure.subplots(4, 4, sharex=True, sharey=True)
        for axes, (name, inputs, labels) in zip(panels.flat, perceptron.boolean_functions(), strict=True):
            _draw(axes, inputs, labels, perceptron.train(inputs, labels), size=7)
            axes.set(xticks=[0, 1], yticks=[0, 1])
            axes.set_title(name, fontsize=9)
        for lowest, leftmost in zip(panels[-1], panels[:, 0], strict=True):
            lowest.set_xlabel("$A$")
            leftmost.set_ylabel("$B$")
        _legend(figure, n_columns=4)
    return figure


def classes(size: float = 9) -> tuple[dict[str, Any], dict[str, Any]]:
    """The signs of the points of either class, which differ in colour, shape and filling."""
    look = style.look()
    one, other = look.series[:2]
    common = {"linestyle": "", "markersize": size, "markeredgewidth": size / 5}
    return (
        common | {"marker": "s", "markerfacecolor": look.paper, "markeredgecolor": other, "label": "class 0"},
        common | {"marker": "o", "markerfacecolor": one, "markeredgecolor": one, "label": "class 1"},
    )


def draw_points(
    axes: Axes, x: Float[np.ndarray, "N 2"], labels: Int[np.ndarray, " N"], *, size: float = 9
) -> None:
    """The rows as points, with the signs of their classes."""
    for rows, signs in zip((x[labels <= 0], x[labels > 0]), classes(size), strict=True):
        if len(rows):
            axes.plot(*rows.T, **signs, zorder=5)


def paint_sides(
    axes: Axes, x: Float[np.ndarray, "N M"], y: Float[np.ndarray, "N M"], score: Float[np.ndarray, "N M"]
) -> None:
    """The grounds of the two classes, on a grid of points: where the score is below zero, and above."""
    bound = 1.0 + np.max(np.abs(score))
    axes.contourf(x, y, score, levels=[-bound, 0.0, bound], colors=style.look().sides, zorder=0)


def draw_line(axes: Axes, weights: Float[np.ndarray, " 2"], bias: float, **signs: Any) -> None:
    """The line where $w\\cdot x + b$ is zero; none without weights."""
    if np.any(weights):
        nearest = -bias * weights / (weights @ weights)  # to the origin
        axes.axline(nearest, nearest + np.array([-weights[1], weights[0]]), **signs)


def _legend(figure: Picture, n_columns: int) -> None:
    """Every sign once, the classes first, below the picture."""
    signs = {
        str(line.get_label()): line for axes in figure.axes for line in axes.get_legend_handles_labels()[0]
    }
    labels = sorted(signs, key=lambda label: (not label.startswith("class"), label))
    figure.legend([signs[label] for label in labels], labels, loc="outside lower center", ncols=n_columns)


def _draw(
    axes: Axes, x: Float[np.ndarray, "N 2"], labels: Int[np.ndarray, " N"], result: Result, *, size: float
) -> None:
    centre, half = (x.max(0) + x.min(0)) / 2, 0.75 * float(np.max(np.ptp(x, axis=0))) or 1.0
    window = np.stack([centre - half, centre + half])
    axes.set(aspect="equal", xlim=window[:, 0], ylim=window[:, 1])
    if result.certificate is None:
        x1, x2 = np.meshgrid(*window.T)
        score = result.weights[0] * x1 + result.weights[1] * x2 + result.bias  # linear: the corners suffice
        paint_sides(axes, x1, x2, score)
        draw_line(axes, result.weights, result.bias, color=style.look().ink, label=r"$w\cdot x + b = 0$")
    else:
        _proof(axes, x, labels, result.certificate, size)
    draw_points(axes, x, labels, size=size)


def _proof(
    axes: Axes,
    x: Float[np.ndarray, "N 2"],
    labels: Int[np.ndarray, " N"],
    certificate: Int[np.ndarray, " N"],
    size: float,
) -> None:
    """Lines from every row with a multiplier to the common point."""
    point = perceptron.common_point(x, labels, certificate)
    one, other = style.look().series[:2]
    for row, label in zip(x[certificate > 0], labels[certificate > 0], strict=True):
        colour, dashes = (one, "-") if label > 0 else (other, "--")
        axes.plot(*np.stack([row, point]).T, color=colour, linestyle=dashes, zorder=2)
    axes.plot(
        *point,
        "X",
        color=style.look().ink,
        markersize=size,
        linestyle="",
        label=COMMON,
        zorder=5,
    )
