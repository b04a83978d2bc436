"""What a training run did to each layer: gradients, updates, dead units, the residual stream, attention.

Maps have a row for each part of the model in the order of the forward pass, and a column for each diagnosis.
Attention has a panel for each layer, with a line for each head.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colorbar import Colorbar
from matplotlib.colors import Colormap, LogNorm, Normalize
from matplotlib.figure import SubFigure
from matplotlib.ticker import EngFormatter, LogLocator, NullLocator, PercentFormatter

from handgrad.plots import marks, style
from handgrad.plots.style import Picture
from handgrad.shapes import Float, Int

COLUMNS = 4
"""Panels of attention side by side."""
LINE, PANEL = 0.125, 1.0
"""Inches of a map's row, and of a panel's height."""
USUAL, DECADES = 1e-3, 2
"""The update ratio that has no colour, and the decades beside it that have one."""
MOST_LABELS = 28
FEW = 12
"""Diagnoses that have a mark each in a line."""
WORDS = {"attention": "attention", "feed_forward": "feed-forward"}


class Diagnosed(NamedTuple):
    """What N diagnoses of a model with L layers of H heads found."""

    along: Float[np.ndarray, " N"]
    gradient_norms: Mapping[str, Float[np.ndarray, " N"]]
    """By part: `embedding`, `blocks.0.attention`, `blocks.0.feed_forward` and so on, `head`."""
    update_ratios: Mapping[str, Float[np.ndarray, " N"]]
    entropies: Float[np.ndarray, "N L H"]
    """As shares of the largest there can be."""
    dead_units: Float[np.ndarray, "N L"]
    """As shares."""
    residual_rms: Float[np.ndarray, "N L"]


def draw(found: Diagnosed, along: str) -> Picture:
    """Maps of gradient norms, update ratios, dead units and the stream; panels of the heads' entropies.

    An update ratio of a thousandth has the paper's colour; `along` names the horizontal axes.
    """
    n_layers = found.entropies.shape[1]
    n_rows = -(-n_layers // COLUMNS)
    n_parts = max(len(found.gradient_norms), len(found.update_ratios))
    heights = [max(1.3, LINE * n_parts), max(0.8, LINE * n_layers)]
    above, below = sum(heights) + 1.4, PANEL * n_rows + 0.9
    with style.drawing():
        figure = style.figure(9.0, above + below)
        maps, attention = np.ravel(np.array(figure.subfigures(2, 1, height_ratios=[above, below])))
        _draw_maps(maps.subplots(2, 2, height_ratios=heights), found, along)
        _draw_attention(attention, found, along)
    return figure


def _draw_maps(places: Sequence[Sequence[Axes]], found: Diagnosed, along: str) -> None:
    look, ((norms, ratios), (dead, stream)) = style.look(), places
    numbers = [str(layer + 1) for layer in range(found.entropies.shape[1])]
    values = _matrix(found.gradient_norms)
    _map(norms, values, look.amounts, _decades(values), "gradient norm")
    _name_parts(norms, list(found.gradient_norms), found.along)
    scale = LogNorm(USUAL / 10**DECADES, USUAL * 10**DECADES)
    _map(ratios, _matrix(found.update_ratios), look.signed, scale, "update / weight")
    _name_parts(ratios, list(found.update_ratios), found.along)
    most = f"dead units, {found.dead_units.max():.0%} at most"
    bar = _map(dead, found.dead_units.T, look.amounts, Normalize(0.0, 1.0), most)
    bar.ax.yaxis.set_major_formatter(PercentFormatter(1.0))
    _map(stream, found.residual_rms.T, look.amounts, _decades(found.residual_rms), "residual stream, rms")
    for axes in (dead, stream):
        _name(axes, numbers, found.along)
        axes.set(xlabel=along, ylabel="layer")


def _matrix(by_part: Mapping[str, Float[np.ndarray, " N"]]) -> Float[np.ndarray, "P N"]:
    return np.array(list(by_part.values()))


def _decades(values: Float[np.ndarray, "..."]) -> LogNorm:
    """From a little below the least positive value, a decade below the largest or more, to the largest."""
    positive = values[values > 0.0]
    low, high = (positive.min(), positive.max()) if positive.size else (1.0, 1.0)
    return LogNorm(min(low, high / 10.0) / 1.5, high)


def _map(
    axes: Axes, values: Float[np.ndarray, "R N"], colours: Colormap, scale: Normalize, title: str
) -> Colorbar:
    """A value of zero has no place on a scale of decades, and is hatched there."""
    absent = (values <= 0.0) if isinstance(scale, LogNorm) else None
    image = marks.cells(axes, values, colours, scale, absent=absent, aspect="auto")
    axes.set_title(title)
    beyond = "both" if colours is style.look().signed else "neither"
    figure = axes.get_figure(root=True)
    assert figure is not None
    bar = marks.scale_bar(figure, image, "", ax=axes, extend=beyond, pad=0.02)
    bar.ax.tick_params(labelsize=8)
    if isinstance(scale, LogNorm):
        low, high = bar.ax.get_ylim()
        digits = (1.0,) if high > 1000.0 * low else (1.0, 2.0, 5.0)
        bar.ax.yaxis.set_major_locator(LogLocator(subs=digits, numticks=20))
        bar.ax.yaxis.set_major_formatter("{x:g}")
        bar.ax.yaxis.set_minor_locator(NullLocator())
    return bar


def _name_parts(axes: Axes, parts: Sequence[str], along: Float[np.ndarray, " N"]) -> None:
    names = []
    for part in parts:
        _, *block = part.split(".")
        names.append(f"{int(block[0]) + 1} {WORDS[block[1]]}" if block else part)
    _name(axes, names, along)


def _name(axes: Axes, rows: Sequence[str], along: Float[np.ndarray, " N"]) -> None:
    """Some of the rows where they are many, and some of the columns."""
    shown = range(0, len(rows), -(-len(rows) // MOST_LABELS))
    axes.set_yticks(shown, [rows[row] for row in shown], fontsize=6.5)
    columns = _some(len(along), 5)
    axes.set_xticks(columns, _places(along[columns])[1])
    axes.tick_params(axis="x", labelsize=8)


def _some(n: int, most: int) -> Int[np.ndarray, " M"]:
    """Numbers of some of n diagnoses, the first and the last among them."""
    return np.unique(np.linspace(0, n - 1, most).round().astype(int))


def _places(along: Float[np.ndarray, " M"]) -> tuple[Float[np.ndarray, " M"], list[str]]:
    """Ticks, and what is written there."""
    write = EngFormatter(sep="")
    return along, [write(float(f"{place:.3g}")) for place in along]


def _draw_attention(figure: SubFigure, found: Diagnosed, along: str) -> None:
    look, n_layers = style.look(), found.entropies.shape[1]
    marker = "o" if len(found.along) <= FEW else ""
    grid = figure.subplots(-(-n_layers // COLUMNS), COLUMNS, squeeze=False)
    for axes in list(grid.flat)[n_layers:]:
        axes.set_axis_off()
    for layer, axes in enumerate(list(grid.flat)[:n_layers]):
        for head in found.entropies[:, layer].T:
            axes.plot(found.along, head, color=look.series[1], linewidth=0.9, marker=marker, markersize=1.5)
        axes.set_title(f"layer {layer + 1}", fontsize=9, pad=4)
        axes.set_ylim(0.0, 1.03)
        axes.set_yticks([0.0, 0.5, 1.0], ["0", "½", "even"] if layer % COLUMNS == 0 else ["", "", ""])
        axes.grid(visible=True, axis="y")
        axes.tick_params(labelsize=8)
        is_lowest = layer + COLUMNS >= n_layers
        axes.set_xticks(*(_places(found.along[_some(len(found.along), 3)]) if is_lowest else ([],)))
        axes.set_xlabel(along if is_lowest else "")
    grid[0, 0].set_title("entropy of each head: layer 1", fontsize=9, pad=4)
