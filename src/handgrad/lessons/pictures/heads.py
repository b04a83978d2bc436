"""Pictures of lesson 12: bars that compare heads, and what their keys and values take in memory."""

from collections.abc import Mapping

import numpy as np

from handgrad.plots import style
from handgrad.plots.style import Picture
from handgrad.shapes import Float


def scores_of_heads(
    measures: Mapping[str, Float[np.ndarray, "L H"]],
    *,
    references: Mapping[str, float] | None = None,
    tops: Mapping[str, float] | None = None,
) -> Picture:
    """A panel for every measure, with a bar for every head, in the order of layers and heads.

    The dashed line is the measure of a head that attends to everything evenly, from `references`. `tops` are
    the upper ends of the axes, so that several pictures can be compared.
    """
    columns = min(2, len(measures))
    rows = -(-len(measures) // columns)
    with style.drawing() as look:
        figure = style.figure(6.0, 2.2 * rows + 0.3)
        panels = figure.subplots(rows, columns, squeeze=False)
        for axes, (name, values) in zip(panels.flat, measures.items(), strict=False):
            L, H = np.shape(values)
            places = np.arange(L)[:, None] * (H + 1) + np.arange(H)
            axes.bar(places.ravel(), np.ravel(values), color=look.series[1], width=0.8)
            if references and name in references:
                axes.axhline(references[name], color=look.series[0], linestyle="--", label="looking evenly")
            if tops and name in tops:
                top = max(tops[name], (references or {}).get(name, 0.0) * 1.05)
                axes.set_ylim(0.0, top)
            axes.set_title(name, fontsize=10, pad=6)
            axes.set_xticks(places.mean(axis=1), [f"layer {layer}" for layer in range(L)])
            axes.tick_params(axis="x", length=0)
        for axes in list(panels.flat)[len(measures) :]:
            axes.set_axis_off()
        handles, labels = panels[0, 0].get_legend_handles_labels()
        if handles:
            figure.legend(handles[:1], labels[:1], loc="outside lower right")
    return figure


def cache_memory(bytes_by_heads: Mapping[int, int]) -> Picture:
    """The memory of keys and values in MiB, a bar for each number of key-value heads."""
    with style.drawing() as look:
        figure = style.figure(6.4, 3.4)
        axes = figure.add_subplot()
        sizes = np.array(list(bytes_by_heads.values())) / 2**20
        bars = axes.bar([str(n) for n in bytes_by_heads], sizes, color=look.series[1], width=0.7)
        axes.bar_label(bars, [f"{size:.4g}" for size in sizes], padding=3, fontsize=9)
        axes.set(xlabel="key-value heads", ylabel="memory of the KV cache (MiB)")
        axes.margins(y=0.12)
        axes.tick_params(axis="x", length=0)
    return figure
