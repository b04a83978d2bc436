"""Pictures of lesson 13: signals and gradients by layer, what normalization does, losses of deep stacks."""

from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from handgrad.ops import layer_norm, rms_norm
from handgrad.plots import marks, style
from handgrad.plots.style import Picture
from handgrad.shapes import Float

SMOOTHING = 10
"""A point of a loss is the mean of so many steps: single batches are too noisy to read."""

ALONG = np.array([[2.0, -3.0, 1.0], [4.0, 1.0, -5.0]]) / np.sqrt([[14.0], [42.0]])
"""Two directions, at right angles, of the plane in which three numbers sum to zero."""
UP = np.full(3, 3**-0.5)
"""The direction in which all three numbers grow alike, at a right angle to that plane."""

TABLE = np.stack([ALONG[0], 0.45 * ALONG[1] + 0.89 * UP])
"""The plane seen from the side: what sums to zero lies on it, and means stand upright."""

_ANGLES = np.linspace(0, 2 * np.pi, 200)[:, None]
CIRCLE = 3**0.5 * (np.cos(_ANGLES) * ALONG[0] + np.sin(_ANGLES) * ALONG[1])
POINTS = np.array([[0.9, -1.5, 2.6], [3.4, 0.2, 0.2], [0.8, 1.7, 0.5], [-0.4, 0.8, 0.9]])
UPSTREAM = np.array([1.5, -1.0, 0.0])
"""Four points, and a gradient at the first."""

ROWS = np.array([[0.0], [4.0], [-3.0]]) + np.array([[0.5], [1.0], [2.0]]) * np.random.default_rng(0).normal(
    size=(3, 2000)
)
"""Three rows of normal numbers, of different means and deviations."""

Sizes = tuple[Float[np.ndarray, " n_layers"], Float[np.ndarray, " n_layers"]]
"""The root mean squares of the signal and of the gradient before each layer, and after the last."""


def gradients_by_layer(
    stacks: Mapping[str, Sizes],
    *,
    predicted: Mapping[str, Sizes] | None = None,
    limits: tuple[float, float] | None = None,
) -> Picture:
    """The size of the signal at every depth, and of the gradient, on logarithmic axes.

    The signal runs from left to right; the gradient starts at the last layer with the size 1 and runs back.
    Thin grey lines are predictions. `limits` are the ends of the axes, by default those of the signal, at
    most a millionth and a million.
    """
    with style.drawing() as look:
        figure = style.figure(6.0, 4.2)
        panels = figure.subplots(1, 2, sharey=True)
        for (name, sizes), line in zip(stacks.items(), marks.lines(), strict=False):
            for axes, size in zip(panels, sizes, strict=True):
                axes.plot(size, **line, label=name)
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
        for (name, run), line in zip(runs.items(), marks.lines(), strict=False):
            smooth = np.convolve(run, np.full(SMOOTHING, 1 / SMOOTHING), mode="valid")
            axes.plot(np.arange(len(smooth)) + SMOOTHING, smooth, **line, label=name)
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


def normalized(rows: Float[np.ndarray, "N D"] = ROWS) -> Picture:
    """The distribution of each row's numbers: as they come, after layer norm, and after RMS norm.

    Layer norm gives all rows one mean and one deviation. RMS norm changes the scale and keeps the side: a row
    far from zero becomes a narrow heap at 1 or at -1.
    """
    ones = np.ones(rows.shape[1])
    shown = {
        "$x$": rows,
        "layer norm": layer_norm.forward(rows, ones)[0],
        "RMS norm": rms_norm.forward(rows, ones)[0],
    }
    with style.drawing():
        figure = style.figure(5.6, 5.2)
        panels = figure.subplots(3, 1)
        for axes, (title, numbers) in zip(panels, shown.items(), strict=True):
            low, high = np.quantile(numbers, [0.001, 0.999])
            at = np.linspace(low - 0.5, high + 0.5, 400)
            for number, (row, line) in enumerate(zip(numbers, marks.lines(), strict=False)):
                axes.plot(at, _density(row, at), **line, label=f"row {number + 1}")
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
    Dividing by the deviation moves it along its radius onto the circle of radius $\sqrt3$. On the right, the
    gradient dy at the first point loses its mean and its part along the radius. The rest, times r, is dx: it
    runs along the circle.
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


def _arrow(
    axes: Axes,
    start: Float[np.ndarray, " 2"],
    end: Float[np.ndarray, " 2"],
    name: str,
    colour: str,
    dashes: str,
) -> None:
    """An arrow with its name beyond its tip."""
    marks.arrow(axes, start, end, colour, dashes=dashes)
    beyond = end + 0.15 * (end - start) / np.linalg.norm(end - start)
    side = "left" if end[0] > start[0] else "right"
    axes.text(beyond[0], beyond[1], name, ha=side, va="center", color=colour)


def _points(
    axes: Axes,
    given: Float[np.ndarray, "N 2"] | None,
    centred: Float[np.ndarray, "N 2"],
    y: Float[np.ndarray, "N 2"],
) -> None:
    """The points as given (open squares), without their mean (open circles), normalized (full circles)."""
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
    """The density of a row's numbers along `at`: the mean of a small bell around each."""
    width = 1.06 * max(float(np.std(row)), 1e-6) * len(row) ** -0.2  # Silverman's rule
    bells = np.exp(-0.5 * ((at[:, None] - row) / width) ** 2)
    return bells.mean(axis=1) / (width * np.sqrt(2 * np.pi))
