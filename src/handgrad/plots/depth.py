"""Pictures of deep stacks: signals and gradients layer by layer, what normalization does to a row, and the
losses of stacks that learn side by side.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.ticker import MaxNLocator

from handgrad.ops import layer_norm, rms_norm
from handgrad.plots import style
from handgrad.plots.style import Picture
from handgrad.shapes import Float

SMOOTHING = 10
"""Steps that a point of a loss is the mean of: single batches are too noisy to read."""

ALONG = np.array([[2.0, -3.0, 1.0], [4.0, 1.0, -5.0]]) / np.sqrt([[14.0], [42.0]])
"""Two directions, at right angles, of the plane in which three numbers sum to zero."""
UP = np.full(3, 3**-0.5)
"""The direction in which all three numbers grow alike, at right angles to that plane."""

TABLE = np.stack([ALONG[0], 0.45 * ALONG[1] + 0.89 * UP])
"""A look at the plane from the side, as at a table: what sums to zero lies on it, and means stand upright."""

_ANGLES = np.linspace(0, 2 * np.pi, 200)[:, None]
CIRCLE = 3**0.5 * (np.cos(_ANGLES) * ALONG[0] + np.sin(_ANGLES) * ALONG[1])
POINTS = np.array([[0.9, -1.5, 2.6], [3.4, 0.2, 0.2], [0.8, 1.7, 0.5], [-0.4, 0.8, 0.9]])
UPSTREAM = np.array([1.5, -1.0, 0.0])
"""Four points and a gradient that show well what happens to any."""

Sizes = tuple[Float[np.ndarray, " n_layers"], Float[np.ndarray, " n_layers"]]
"""The root mean squares of the signal and of the gradient before each layer, and after the last."""


def gradients_by_layer(
    stacks: Mapping[str, Sizes],
    *,
    predicted: Mapping[str, Sizes] | None = None,
    limits: tuple[float, float] | None = None,
) -> Picture:
    """The size of the signal at every depth, and of the gradient, on logarithmic axes.

    The signal runs from left to right, the gradient from right to left: it starts at the last layer with the
    size 1. Thin grey lines are what was predicted. `limits` are the ends of the axes; without them
    all is shown between a millionth and a million.
    """
    with style.drawing() as look:
        figure = style.figure(6.0, 4.2)
        panels = figure.subplots(1, 2, sharey=True)
        for number, (name, sizes) in enumerate(stacks.items()):
            colour = look.series[number % len(look.series)]
            dashes = style.DASHES[number % len(style.DASHES)]
            for axes, size in zip(panels, sizes, strict=True):
                axes.plot(size, color=colour, linestyle=dashes, label=name)
        for sizes in (predicted or {}).values():
            for axes, size in zip(panels, sizes, strict=True):
                axes.plot(size, color=look.quiet, linewidth=0.8, label="predicted", zorder=3)
        for axes, title in zip(panels, ("signal, forward →", "gradient, ← backward"), strict=True):
            axes.set(yscale="log", xlabel="layer", title=title)
            axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
            axes.grid(visible=True)
        low, high = panels[0].get_ylim()
        panels[0].set_ylim(limits or (np.clip(low, 1e-6, 0.1), np.clip(high, 10.0, 1e6)))
        panels[0].set_ylabel("root mean square")
        signs = dict(zip(*panels[0].get_legend_handles_labels()[::-1], strict=True))
        figure.legend(signs.values(), signs.keys(), loc="outside lower center", ncols=3)
    return figure


def losses(runs: Mapping[str, Float[np.ndarray, " n_steps"]], *, chance: float | None = None) -> Picture:
    """The losses of several trainings against their steps, each a mean of ten steps, on a logarithmic axis.

    `chance` is the loss of a blind guess.
    """
    with style.drawing() as look:
        figure = style.figure(6.0, 4.6)
        axes = figure.add_subplot()
        for number, (name, run) in enumerate(runs.items()):
            smooth = np.convolve(run, np.full(SMOOTHING, 1 / SMOOTHING), mode="valid")
            colour = look.series[number % len(look.series)]
            steps = np.arange(len(smooth)) + SMOOTHING
            dashes = style.DASHES[number % len(style.DASHES)]
            axes.plot(steps, smooth, color=colour, linestyle=dashes, label=name)
        if chance is not None:
            axes.axhline(chance, color=look.quiet, linewidth=0.8, zorder=0)
            axes.annotate(
                "a blind guess", (1, chance), (-2, 3), xycoords=axes.get_yaxis_transform(),
                textcoords="offset points", ha="right", fontsize=9, color=look.quiet,
            )  # fmt: skip
        axes.set(xlabel="step", ylabel="loss (nats)", yscale="log")
        axes.grid(visible=True)
        figure.legend(loc="outside lower center", ncols=3)
    return figure


def normalized(rows: Float[np.ndarray, "N D"] | None = None) -> Picture:
    """How the numbers of each row are spread: as they come, after layer norm, and after RMS norm.

    Layer norm lays all rows upon each other, up to their form. RMS norm changes their scale and not their
    middle: a row far from zero becomes a narrow heap at 1 or at -1. Without `rows`: three of 2,000 numbers.
    """
    if rows is None:
        heaps = np.random.default_rng(0).normal(size=(3, 2000))
        rows = np.array([[0.0], [4.0], [-3.0]]) + np.array([[0.5], [1.0], [2.0]]) * heaps
    ones = np.ones(rows.shape[1])
    shown = {
        "$x$": rows,
        "layer norm": layer_norm.forward(rows, ones)[0],
        "RMS norm": rms_norm.forward(rows, ones)[0],
    }
    with style.drawing() as look:
        figure = style.figure(5.6, 5.2)
        panels = figure.subplots(3, 1)
        for axes, (title, numbers) in zip(panels, shown.items(), strict=True):
            low, high = np.quantile(numbers, [0.001, 0.999])
            at = np.linspace(low - 0.5, high + 0.5, 400)
            for number, row in enumerate(numbers):
                axes.plot(
                    at, _density(row, at), color=look.series[number % len(look.series)],
                    linestyle=style.DASHES[number % len(style.DASHES)], label=f"row {number + 1}",
                )  # fmt: skip
            axes.set(yticks=[], ylim=(0.0, None))
            axes.set_title(title, fontsize=10, pad=4)
            axes.spines["left"].set_visible(False)
        panels[-1].set_xlabel("value")
        handles, labels = panels[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=min(4, len(labels)))
    return figure


def geometry(points: Float[np.ndarray, "N 3"] = POINTS, dy: Float[np.ndarray, " 3"] = UPSTREAM) -> Picture:
    r"""Layer norm of three numbers as a walk in space; on the right, the same from straight above the plane.

    Taking the mean away drops a point, along (1, 1, 1), onto the plane in which the numbers sum to zero.
    Dividing by the deviation moves it, straight from or to the middle, onto the circle of radius $\sqrt3$.
    On the right, the gradient dy at the first point loses its mean and its part along the radius. What is
    left, up to the factor r, is dx: it runs along the circle.
    """
    centred = points - points.mean(axis=1, keepdims=True)
    y, saved = layer_norm.forward(points, np.ones(3), eps=1e-12)
    dx, *_ = layer_norm.backward(np.tile(dy, (len(points), 1)), saved)
    with style.drawing() as look:
        figure = style.figure(5.6, 3.2)
        space, flat = figure.subplots(1, 2, subplot_kw={"aspect": "equal"})
        plane = 2.7 * np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) @ ALONG
        space.fill(*(plane @ TABLE.T).T, color=look.background, alpha=0.2, linewidth=0)
        for number, axis in enumerate(1.7 * np.eye(3)):
            _arrow(space, np.zeros(2), TABLE @ axis, f"$x_{number + 1}$", look.quiet, "-")
        for axes, view in ((space, TABLE), (flat, ALONG)):
            axes.plot(*(CIRCLE @ view.T).T, color=look.ink, linewidth=1.2)
            for point, middle, end in zip(points, centred, y, strict=True):
                drop, along = view @ np.stack([point, middle], 1), view @ np.stack([middle, end], 1)
                axes.plot(*drop, color=look.series[1], linestyle="--", linewidth=1.3)
                axes.plot(*along, color=look.series[0], linewidth=1.5)
            _points(axes, points @ view.T if axes is space else None, centred @ view.T, y @ view.T)
            axes.set_axis_off()
        start = ALONG @ y[0]
        tips = {name: ALONG @ arrow for name, arrow in (("dy", dy), ("dx", dx[0] / saved.rstd[0]))}
        _arrow(flat, start, start + tips["dy"], r"$dy-\langle dy\rangle$", look.ink, "--")
        _arrow(flat, start, start + tips["dx"], "$dx/r$", look.series[2], "-")
        flat.plot(*np.stack([start + tips["dy"], start + tips["dx"]]).T, ":", color=look.quiet, linewidth=1)
        flat.plot(0, 0, "+", color=look.quiet)
        space.set(xlim=(-2.9, 2.9), ylim=(-1.4, 3.3))
        flat.set(xlim=(-2.0, 3.8), ylim=(-2.1, 2.6))
        for axes, title in ((space, "from the side"), (flat, "from above")):
            axes.set_title(title, fontsize=10)
        handles, labels = space.get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=3)
    return figure


def _arrow(axes: Any, start: np.ndarray, end: np.ndarray, name: str, colour: str, dashes: str) -> None:
    """An arrow with its name beyond its tip."""
    look = {
        "arrowstyle": "->",
        "color": colour,
        "linestyle": dashes,
        "linewidth": 1.5,
        "shrinkA": 0,
        "shrinkB": 0,
    }
    axes.annotate("", end, start, arrowprops=look, annotation_clip=False)
    beyond = end + 0.15 * (end - start) / np.linalg.norm(end - start)
    side = "left" if end[0] > start[0] else "right"
    axes.text(*beyond, name, ha=side, va="center", color=colour)


def _points(
    axes: Any, given: np.ndarray | None, centred: Float[np.ndarray, "N 2"], y: Float[np.ndarray, "N 2"]
) -> None:
    """The points as given, without their mean, and normalized: empty squares, empty and full circles."""
    look = style.look()
    kinds = (
        ("$x$", given, "s", look.ink, look.paper),
        (r"$x-\mu$", centred, "o", look.series[1], look.paper),
        (r"$\hat x$", y, "o", look.series[0], look.series[0]),
    )
    for name, places, marker, colour, fill in kinds:
        if places is not None:
            axes.plot(
                *places.T, marker, label=name, markersize=6, markerfacecolor=fill, markeredgecolor=colour,
                markeredgewidth=1.4, zorder=5,
            )  # fmt: skip


def _density(row: Float[np.ndarray, " D"], at: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    """How the numbers of a row lie along `at`: a small bell for each, as tall together as they are dense."""
    width = 1.06 * max(float(np.std(row)), 1e-6) * len(row) ** -0.2  # Silverman's rule
    bells = np.exp(-0.5 * ((at[:, None] - row) / width) ** 2)
    return bells.mean(axis=1) / (width * np.sqrt(2 * np.pi))
