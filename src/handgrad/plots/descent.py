"""Pictures of walks downhill: on the surface, on its map, and against the steps.

All take the walks as a mapping from a label to a `handgrad.foundations.descent.Path`: methods or starts can
be compared in one picture. Map and surface need walks of two coordinates.
"""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import BoundaryNorm
from matplotlib.typing import ColorType

from handgrad.errors import UserError
from handgrad.foundations.descent import Function, Path, height
from handgrad.plots import marks, style
from handgrad.plots.style import Picture
from handgrad.shapes import Float

Window: TypeAlias = tuple[tuple[float, float], tuple[float, float]]
"""The part of the plane that is shown: (least x, greatest x), (least y, greatest y)."""

GRID = 121
"""Points along each side of the window at which a surface is evaluated."""

LEVELS = 17
"""Lines of equal height. Between any two lies an equal area of the window, so that a shallow valley gets
lines too. The heights are on the bar."""


def surface(function: Function, paths: Mapping[str, Path], *, window: Window | None = None) -> Picture:
    """The surface z = f(x, y) in space, with the walks upon it, from open circle to full one."""
    landscape = _landscape(function, _window(paths, window))
    with style.drawing() as look:
        figure = style.figure(6.4, 5.6)
        axes: Any = figure.add_subplot(projection="3d", computed_zorder=False)  # walks are drawn last, on top
        axes.plot_surface(
            *landscape.grid, cmap=look.depths, norm=landscape.norm, rcount=40, ccount=40,
            edgecolor=look.contour, linewidth=0.2, zorder=1,
        )  # fmt: skip
        for path, line in _lines(paths):
            draw_walk(axes, landscape.within(path), {**line, "zorder": 3})
        axes.set(xlabel="$x$", ylabel="$y$", zlabel="$f(x, y)$", box_aspect=(1, 1, 0.7))
        axes.view_init(elev=48, azim=-60)
        _legend(figure, paths)
    return figure


def contours(function: Function, paths: Mapping[str, Path], *, window: Window | None = None) -> Picture:
    """The map of the surface from above: lines of equal height, darker where deeper, and the walks.

    A walk begins at its open circle and ends at its full one. A step that depends on the gradient alone
    crosses the lines at right angles: the gradient points where the height changes fastest.
    """
    landscape = _landscape(function, _window(paths, window))
    with style.drawing() as look:
        rows_of_legend = (len(paths) + 1) // 2
        figure = style.figure(5.6, 4.7 + 0.36 * rows_of_legend)
        axes = figure.add_subplot(aspect="equal")
        filled = axes.contourf(*landscape.grid, landscape.levels, cmap=look.depths, norm=landscape.norm)
        axes.contour(*landscape.grid, landscape.levels, colors=look.contour, linewidths=0.5)
        for path, line in _lines(paths):
            draw_walk(axes, landscape.within(path)[:2], line)
        axes.set(xlabel="$x$", ylabel="$y$", xlim=landscape.window[0], ylim=landscape.window[1])
        bar = marks.scale_bar(figure, filled, "$f(x, y)$", shrink=0.75, ticks=landscape.levels[::4])
        bar.ax.set_yticklabels([_rounded(level, landscape.levels) for level in landscape.levels[::4]])
        _legend(figure, paths)
    return figure


def progress(paths: Mapping[str, Path]) -> Picture:
    """The walks against their steps: above, the value; below, the slope, on a logarithmic scale.

    A walk that diverged leaves the upper picture, so that the others can be seen.
    """
    with style.drawing() as look:
        figure = style.figure(6.4, 5.6)
        top, bottom = figure.subplots(2, sharex=True)
        for path, line in _lines(paths):
            for axes, height_or_slope in ((top, path.values), (bottom, path.gradient_norms)):
                axes.plot(_finite(height_or_slope), **line)
                axes.plot(
                    path.n_steps - 1, *_finite(height_or_slope[-1:]), **_circle(look.ink), color=look.ink
                )
                axes.grid(visible=True)
        top.set(ylabel="$f$", ylim=_range_of_values(paths))
        some_slope = any(np.any(path.gradient_norms > 0) for path in paths.values())
        bottom.set(xlabel="step", ylabel=r"slope $|\nabla f|_1$", yscale="log" if some_slope else "linear")
        _legend(figure, paths)
    return figure


def draw_walk(axes: Axes, points: Float[np.ndarray, "K N"], line: dict[str, Any]) -> None:
    """A walk of columns `points`, with an open circle at its start and a full one at its end."""
    look = style.look()
    axes.plot(*points, **{**line, "path_effects": look.halo})
    axes.plot(*points[:, :1], **_circle(line["color"]), markerfacecolor=look.paper)
    axes.plot(*points[:, -1:], **_circle(look.ink), markerfacecolor=look.ink)


def _circle(edge: ColorType) -> dict[str, Any]:
    return {"linestyle": "", "marker": "o", "markeredgecolor": edge, "markeredgewidth": 1.5, "zorder": 4}


class _Landscape(NamedTuple):
    """A surface, evaluated on the grid of a window."""

    grid: Float[np.ndarray, "3 n n"]
    window: Window
    levels: Float[np.ndarray, " n_levels"]

    @property
    def norm(self) -> BoundaryNorm:
        """One shade between two levels: shades follow rank, not height."""
        return BoundaryNorm(self.levels, style.look().depths.N)

    def within(self, path: Path) -> Float[np.ndarray, "3 n"]:
        """The walk as columns x, y, f, lifted a little off the surface, and absent outside the window."""
        (left, right), (front, back) = self.window
        x, y = path.positions.T
        inside = (left <= x) & (x <= right) & (front <= y) & (y <= back)
        lift = 0.01 * (self.levels[-1] - self.levels[0])
        return np.where(inside, [x, y, _finite(path.values) + lift], np.nan)


def _lines(paths: Mapping[str, Path]) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Every walk with its line, whose label says how it ended."""
    for (label, path), line in zip(paths.items(), marks.lines(), strict=False):
        ending = f"$f$ = {_rounded(path.values[-1], path.values, 4)}" if path.converged else path.outcome
        yield path, {**line, "label": f"{label}: {ending}", "path_effects": style.look().halo}


def _legend(figure: Picture, paths: Mapping[str, Path]) -> None:
    """One entry a walk, below the picture."""
    if paths:
        handles, labels = figure.axes[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=min(2, len(paths)))


def _landscape(function: Function, window: Window) -> _Landscape:
    x, y = np.meshgrid(*(np.linspace(*side, GRID) for side in window))
    with np.errstate(all="ignore"):
        heights = [height(function, point) for point in np.stack([x, y], -1).reshape(-1, 2)]
    z = _finite(np.array(heights))
    if len(np.unique(z[np.isfinite(z)])) < 2:
        raise UserError(
            f"a map needs a surface with heights and slopes; got one flat or infinite in {window}; "
            "try another window."
        )
    levels = np.unique(np.nanquantile(z, np.linspace(0.0, 1.0, LEVELS)))
    return _Landscape(np.stack([x, y, z.reshape(x.shape)]), window, levels)


def _window(paths: Mapping[str, Path], window: Window | None) -> Window:
    """The window given, or a square around the walks; of a walk that diverged only the start counts."""
    if any(path.positions.shape[1] != 2 for path in paths.values()) or not (paths or window):
        raise UserError(
            f"a map needs walks of two coordinates, or a window; got {len(paths)} walks, not all of two; "
            "plot the progress of others."
        )
    if window is not None:
        return window
    points = np.concatenate([p.positions[: 1 if p.outcome == "diverged" else None] for p in paths.values()])
    low, high = points.min(axis=0), points.max(axis=0)
    centre, half = (low + high) / 2, 0.6 * float(np.max(high - low)) or 1.0
    (left, bottom), (right, top) = centre - half, centre + half
    return (float(left), float(right)), (float(bottom), float(top))


def _range_of_values(paths: Mapping[str, Path]) -> tuple[float, float]:
    """The range of the values of the walks that did not diverge, with a margin; of all walks if all did."""
    bounded = [path.values for path in paths.values() if path.outcome != "diverged"]
    values = np.concatenate([[], *(bounded or [path.values for path in paths.values()])])
    low, high = min(finite := values[np.isfinite(values)], default=0.0), max(finite, default=0.0)
    margin = 0.05 * (high - low) or 1.0
    return low - margin, high + margin


def _rounded(value: float, among: Float[np.ndarray, " n"], n_digits: int = 3) -> str:
    """A number for a label; as 0 if it is tiny beside the spread of `among`."""
    return f"{value:.{n_digits}g}" if abs(value) > 1e-4 * np.ptp(among[np.isfinite(among)]) else "0"


def _finite(values: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    """The values, with gaps where they overflowed."""
    return np.where(np.isfinite(values), values, np.nan)
