"""The losses of a sweep's trials against each option that was tried."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter, NullLocator

from handgrad.plots import marks, style
from handgrad.plots.style import Picture
from handgrad.shapes import Bool, Float

A_ROW = 3
"""Panels beside each other."""
ABOVE = 0.15
"""Room above the worst finished trial, as a share of what they span: worse ones are drawn at the edge."""


class Panel(NamedTuple):
    """An option, and its value in each trial."""

    name: str
    values: Sequence[Any]
    is_log: bool


def draw(panels: Sequence[Panel], losses: Sequence[float], finished: Sequence[bool]) -> Picture:
    """A panel an option: trials that were finished filled, those stopped early open, the best one in a ring.

    Losses are validation losses, in nats a token; of a trial stopped early, the one at which it was stopped.
    One beyond the picture is an arrow at its edge.
    """
    y, ended = np.array(losses, dtype=float), np.array(finished)
    n_columns = min(len(panels), A_ROW)
    n_rows = -(-len(panels) // n_columns)
    top = _top(y, ended)
    with style.drawing():
        figure = style.figure(max(5.0, 3.4 * n_columns), 0.8 + 3.0 * n_rows)
        grid = figure.subplots(n_rows, n_columns, sharey=True, squeeze=False)
        for number, axes in enumerate(grid.flat):
            if number >= len(panels):
                axes.set_axis_off()
                continue
            _plot(axes, panels[number], y, ended, top)
            if number % n_columns == 0:
                axes.set_ylabel("validation loss (nats a token)")
        handles, labels = grid[0, 0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside upper left", ncols=2 * n_columns)
    return figure


def _top(y: Float[np.ndarray, " N"], ended: Bool[np.ndarray, " N"]) -> float:
    """The highest loss that is shown."""
    shown = y[ended] if ended.any() else y
    return float(shown.max() + ABOVE * (shown.max() - shown.min()) + 0.01)


def _plot(
    axes: Axes, panel: Panel, y: Float[np.ndarray, " N"], ended: Bool[np.ndarray, " N"], top: float
) -> None:
    look = style.look()
    x = _places(axes, panel)
    beyond = y > top
    early: dict[str, Any] = {"color": look.series[0], "facecolors": "none", "linewidths": 1.4}
    axes.scatter(x[ended], y[ended], s=30, color=look.series[1], label="to the end", zorder=3)
    if (~ended).any():
        low = ~ended & ~beyond
        axes.scatter(x[low], y[low], s=30, **early, label="stopped early", zorder=2)
    if beyond.any():
        edge = np.full(int(beyond.sum()), top)
        axes.scatter(x[beyond], edge, s=34, marker="^", **early, label="likewise, above", clip_on=False)
    if ended.any():
        best = np.argmin(np.where(ended, y, np.inf))
        ring: dict[str, Any] = {"s": 130, "facecolors": "none", "edgecolors": look.ink, "linewidths": 1.2}
        axes.scatter(x[best], y[best], **ring, label=f"best, {y[best]:.3f}", zorder=4)
    low_edge = min(y.min(), top)
    axes.set_ylim(low_edge - 0.08 * (top - low_edge), top)
    axes.set_xlabel(panel.name)
    axes.grid(visible=True)
    axes.set_axisbelow(True)


def _places(axes: Axes, panel: Panel) -> Float[np.ndarray, " N"]:
    """Where the values are: as numbers, or side by side where they are words or few."""
    distinct = list(dict.fromkeys(panel.values))
    if not all(isinstance(it, int | float) and not isinstance(it, bool) for it in distinct):
        ordered = sorted(distinct, key=str)
        axes.set_xticks(range(len(ordered)), [str(it) for it in ordered])
        axes.set_xlim(-0.6, len(ordered) - 0.4)
        return np.array([ordered.index(it) for it in panel.values], dtype=float)
    x = np.array(panel.values, dtype=float)
    if panel.is_log:
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 3)))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: marks.number(value, ".3g")))
        axes.xaxis.set_minor_formatter(NullFormatter())
    if len(distinct) <= 4:
        axes.set_xticks(sorted(distinct), [marks.number(it, ".4g") for it in sorted(distinct)])
        axes.xaxis.set_minor_locator(NullLocator())
    axes.margins(x=0.08)
    return x
