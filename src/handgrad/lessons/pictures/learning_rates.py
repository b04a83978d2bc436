"""Pictures of lesson 3: a walk on a parabola, what a step leaves of the distance, rates, where starts end.

On a parabola of curvature a, every step of plain descent multiplies the distance to the minimum by
1 - rate·a.
"""

import itertools
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.colors import ListedColormap

from handgrad.foundations.descent import Function, Path
from handgrad.plots import marks, style
from handgrad.plots.descent import Window
from handgrad.plots.style import Picture
from handgrad.shapes import Float

N_STEPS = 12
NEAR = 0.05
"""The distance within which a walk has reached a minimum."""
SIDE = 1.7
"""The half width of a parabola's picture, in distances of the start."""


def parabola(*, learning_rate: float) -> Picture:
    """Plain descent on f = x^2 / 2: left, the walk on the parabola; right, the distance after every step.

    On the logarithmic scale the distance is a straight line: each step multiplies it by one number. A walk
    that leaves the left picture goes on in the right one.
    """
    factor = 1.0 - learning_rate
    x = factor ** np.arange(N_STEPS + 1)
    with style.drawing() as look:
        figure = style.figure(6.6, 3.2)
        left, right = figure.subplots(1, 2)
        at = np.linspace(-SIDE, SIDE, 200)
        left.plot(at, at**2 / 2, color=look.ink, linewidth=1.2)
        seen = x[np.abs(x) <= SIDE]
        for one, other in itertools.pairwise(seen):
            marks.arrow(left, (one, one**2 / 2), (other, other**2 / 2), look.series[0], linewidth=1)
        left.plot(seen, seen**2 / 2, "o", color=look.series[0], markersize=5)
        left.plot(1.0, 0.5, "o", color=look.paper, markeredgecolor=look.series[0])
        left.set(xlabel="$x$", ylabel="$f(x)$", xlim=(-SIDE, SIDE))
        left.set_title(f"learning rate {learning_rate:g}", fontsize=10)
        left.set_ylim(-0.05 * SIDE**2 / 2, SIDE**2 / 2)
        distance = np.maximum(np.abs(x), 1e-9)
        right.semilogy(distance, "o-", color=look.series[0], markersize=4)
        right.axhline(1.0, color=look.quiet, linewidth=0.8, linestyle=":")
        right.set(xlabel="step", ylabel="distance, in starts", ylim=(1e-6, 1e3))
        right.set_title(f"each step times {marks.number(factor, '.4g')}", fontsize=10)
    return figure


def factors(curvatures: Sequence[float] = (1.0, 4.0), *, beta: float = 0.0) -> Picture:
    """The share of the distance that a step leaves along each curvature, against the learning rate.

    The slowest direction decides: the upper edge of all curves, drawn broad. Its lowest point is the best
    rate; above 1, on the shaded ground, the walk diverges. `beta` is that of momentum.
    """
    widest = max(curvatures)
    limit = 2.0 * (1.0 + beta) / widest
    rates = np.linspace(0.0, 1.15 * limit, 1201)[1:]
    shares = np.array([[shrinking(rate * a, beta) for rate in rates] for a in curvatures])
    slowest = shares.max(axis=0)
    best, last = np.flatnonzero(slowest <= slowest.min() + 1e-9)[[0, -1]]  # a point, or a level floor
    where = f"best: {rates[best]:.3g}" + (f" to {rates[last]:.3g}" if last > best + 2 else "")
    with style.drawing() as look:
        figure = style.figure(6.2, 3.8)
        axes = figure.add_subplot()
        axes.axhspan(1.0, 1.5, color=look.sides[1], linewidth=0)
        axes.plot(rates, slowest, color=look.background, linewidth=6, alpha=0.55, solid_capstyle="round")
        for share, a, line in zip(shares, curvatures, marks.lines(), strict=False):
            axes.plot(rates, share, **line, label=f"curvature {a:g}")
        axes.plot(rates[best], slowest[best], "o", color=look.ink, zorder=4)
        late = best > len(rates) / 2  # the steep curve rises to it from below: the words go left of it
        axes.annotate(
            f"{where}, leaves {slowest[best]:.3f}", (rates[best], slowest[best]),
            (-30 if late else 0, -20), textcoords="offset points", ha="right" if late else "left",
            bbox={"facecolor": look.paper, "edgecolor": "none", "alpha": 0.85, "pad": 1.5},
        )  # fmt: skip
        axes.plot([limit], [1.0], "D", color=look.ink, markersize=5, zorder=4)
        axes.annotate(f"limit: {limit:.3g}", (limit, 1.0), (-6, 8), textcoords="offset points", ha="right")
        axes.set(xlabel="learning rate", ylabel="left after a step", xlim=(0, rates[-1]), ylim=(0, 1.3))
        axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=3)
    return figure


def shrinking(rate_times_curvature: float, beta: float = 0.0) -> float:
    r"""The factor by which a step of descent with momentum shrinks the distance to a parabola's minimum.

    It is the largest absolute value of a root of $\lambda^2 - (1+\beta-\eta a)\lambda + \beta = 0$; without
    momentum, $|1-\eta a|$.
    """
    middle = 1.0 + beta - rate_times_curvature
    root = np.sqrt(complex(middle * middle - 4.0 * beta))
    return float(max(abs(middle + root), abs(middle - root)) / 2.0)


def effective_rates(walks: Mapping[str, Path], gradient: Function) -> Picture:
    """How far x went for each unit of its slope, step by step: the learning rate as it is felt.

    Of plain descent it is the learning rate itself. Where the step and the slope point the same way, as with
    momentum that rolls on uphill, there is no such rate, and the line has a gap.
    """
    with style.drawing():
        figure = style.figure(6.2, 3.4)
        axes = figure.add_subplot()
        for (name, path), line in zip(walks.items(), marks.lines(), strict=False):
            slopes = np.array([gradient(position)[0] for position in path.positions[:-1]])
            rates = -np.diff(path.positions[:, 0]) / slopes
            axes.loglog(np.arange(1, len(rates) + 1), np.where(rates > 0, rates, np.nan), **line, label=name)
        axes.set(xlabel="step", ylabel="effective rate along $x$")
        figure.legend(loc="outside upper center", ncols=len(walks))
    return figure


def basins(
    ends: Float[np.ndarray, "2 N M"],
    minima: Mapping[str, tuple[float, float]],
    *,
    window: Window,
    function: Function,
) -> Picture:
    """Which start ends where: a map of starts, each painted like the one of two minima that its walk reached.

    `ends` has the end of the walk from every point of a grid over the window, rows from the least y upwards.
    A start whose walk came near neither is hatched. Lines are of equal height.
    """
    distances = [np.hypot(ends[0] - x, ends[1] - y) for x, y in minima.values()]
    arrived = np.select([d < NEAR for d in distances], range(len(distances)), default=2)
    (left, right), (bottom, top) = window
    x, y = np.meshgrid(np.linspace(left, right, 81), np.linspace(bottom, top, 81))
    heights = np.array([function(point) for point in np.stack([x, y], -1).reshape(-1, 2)]).reshape(x.shape)
    with style.drawing() as look:
        figure = style.figure(5.6, 5.4)
        axes = figure.add_subplot(aspect="equal")
        colours = ListedColormap([*look.sides, look.grid])
        axes.imshow(
            arrived, origin="lower", extent=(left, right, bottom, top), cmap=colours,
            vmin=-0.5, vmax=2.5, interpolation="nearest",
        )  # fmt: skip
        levels = np.quantile(heights, np.linspace(0.02, 0.98, 14))
        axes.contour(x, y, heights, levels, colors=look.contour, linewidths=0.5)
        for (name, at), marker, colour in zip(
            minima.items(), "os", (look.series[1], look.series[0]), strict=True
        ):
            axes.plot(*at, marker, color=colour, markersize=9, markeredgecolor=look.paper, zorder=4)
            axes.annotate(name, at, (10, 0), textcoords="offset points", va="center", color=look.ink)
        axes.set(xlabel="start $x$", ylabel="start $y$", xlim=window[0], ylim=window[1])
        lost = arrived == 2
        if np.any(lost):
            axes.contourf(
                np.linspace(left, right, lost.shape[1]), np.linspace(bottom, top, lost.shape[0]), lost,
                levels=[0.5, 1.5], colors="none", hatches=["////"],
            ).set_edgecolor(look.quiet)  # fmt: skip
            axes.set_title(f"hatched: {100 * np.mean(lost):.1f} % of the starts end in neither", fontsize=10)
    return figure
