"""Pictures of many heads: their attention maps beside each other, how the width is cut into them, and bars
that compare them.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.collections import LineCollection
from matplotlib.colors import PowerNorm, to_rgb
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.patches import FancyArrowPatch, Rectangle

from handgrad.ops import softmax
from handgrad.plots import style
from handgrad.plots.style import Picture
from handgrad.shapes import Bool, Float, split_heads

SHOWN = {" ": "·", "\n": "↵", "\t": "→"}
"""Signs for characters that one does not see."""

ROOT = 0.5
"""Shades follow the root of a probability, or a tenth could not be told from nothing."""


def gallery(
    probs: Float[np.ndarray, "*H T S"] | None = None,
    tokens: Sequence[str] | None = None,
    *,
    keys: Sequence[str] | None = None,
    titles: Sequence[str] = (),
    allowed: Bool[np.ndarray, "..."] | None = None,
    columns: int = 4,
) -> Picture:
    """Many attention maps. A row is a query, with its token at the left; the shades of its cells say how it
    divides one among the keys below. What the mask forbids lies outside the outline, and is left as paper.

    Without `keys` the tokens look at themselves; without `allowed` no query sees a later key. Without
    anything: four heads made by hand, as one meets them in trained models.
    """
    if probs is None or tokens is None:
        probs, tokens, titles = _four_kinds()
    maps = np.reshape(probs, (-1, *np.shape(probs)[-2:]))
    keys = tokens if keys is None else keys
    n, T, S = maps.shape
    seen = np.arange(S) <= np.arange(S - T, S)[:, None] if allowed is None else allowed
    seen = np.reshape(np.broadcast_to(seen, np.shape(probs)), maps.shape)
    columns = min(columns, n)
    rows = -(-n // columns)
    with style.drawing() as look:
        side = min(6.4 / columns, 2.2 if columns < 3 else 1.7)
        figure = style.figure(0.8 + columns * side, rows * ((side - 0.1) * T / S + 0.28) + 1.15)
        figure.set_layout_engine(ConstrainedLayoutEngine(w_pad=0.04, h_pad=0.04, wspace=0.0, hspace=0.0))
        panels = figure.subplots(rows, columns, squeeze=False)
        for number, axes in enumerate(panels.flat):
            if number >= n:
                axes.set_axis_off()
                continue
            image = axes.imshow(
                np.ma.masked_array(maps[number], ~seen[number]),
                cmap=look.amounts,
                norm=PowerNorm(ROOT, 0.0, 1.0),
            )
            axes.add_collection(LineCollection(_outline(seen[number]), colors=look.quiet, linewidths=0.8))
            axes.spines[:].set_visible(False)
            if number < len(titles):
                axes.set_title(titles[number], fontsize=9, pad=4)
            _name(axes.yaxis, tokens, number % columns == 0)
            _name(axes.xaxis, keys, number + columns >= n)
        figure.supylabel("query", fontsize=10)
        figure.supxlabel("key", fontsize=10)
        ticks = [0, 0.05, 0.2, 0.5, 1]
        width = min(0.6, 2.4 / (columns * side))
        bar = figure.colorbar(
            image, ax=panels, location="top", ticks=ticks, format="%g", shrink=width, aspect=24
        )
        bar.set_label("share of the attention", fontsize=9)
        bar.ax.tick_params(labelsize=9)
        bar.outline.set_visible(False)
    return figure


def shapes(n_heads: int = 2, *, n_positions: int = 3, d_model: int = 8) -> Picture:
    """How x of the shape (T, D) is cut into heads of the shape (T, K), and put together again.

    Every number keeps its name, its place in the memory of x; the columns of one head have one colour. The
    strips below are the memory before and after: cutting moves numbers, and does nothing else.
    """
    T, D, K = n_positions, d_model, d_model // n_heads
    names = np.arange(T * D).reshape(T, D)
    heads = split_heads(names[None], n_heads)[0]
    gap = min(1.0, 4.0 / n_heads)
    with style.drawing() as look:
        figure = style.figure(6.0, 4.0)
        axes = figure.add_subplot(aspect="equal")
        left = (T * D - D) / 2
        _cells(axes, names, (left, 0), D, K)
        axes.text(left - 0.6, T / 2, f"x\n(T, D) = ({T}, {D})", ha="right", va="center")
        width = D + gap * (n_heads - 1)
        start, top = (T * D - width) / 2, T + 3.4
        for number, head in enumerate(heads):
            corner = start + number * (K + gap)
            _cells(axes, head, (corner, top), D, K)
            axes.text(corner + K / 2, top - 0.35, f"{number + 1}", ha="center", va="bottom", fontsize=9)
        said = f"{n_heads} {'head' if n_heads == 1 else 'heads'}\n(H, T, K) = ({n_heads}, {T}, {K})"
        axes.text(start - 0.6, top - 0.35, "head", ha="right", va="bottom", fontsize=9)
        axes.text(start - 0.6, top + T / 2, said, ha="right", va="center")
        middle = T * D / 2
        for x, way, name, side in (
            (middle - 0.7, 1, "split_heads", -1),
            (middle + 0.7, -1, "merge_heads", 1),
        ):
            ends = [(x, T + 0.4), (x, top - 1.3)][::way]
            axes.add_patch(
                FancyArrowPatch(
                    *ends, arrowstyle="->", mutation_scale=12, color=look.ink, shrinkA=0, shrinkB=0
                )
            )
            ha = "right" if side < 0 else "left"
            axes.text(x + 0.4 * side, T + 1.0, name, ha=ha, va="center", family="monospace", fontsize=9)
        bottom = top + T + 2.2
        for level, (strip, said) in enumerate(((names, "memory of x"), (heads, "memory of the heads"))):
            y = bottom + 2.7 * level
            _cells(axes, strip.reshape(1, -1), (0, y), D, K)
            axes.text(0, y - 0.3, said, ha="left", va="bottom", fontsize=9)
        axes.set(xlim=(-0.3, T * D + 0.3), ylim=(bottom + 4.0, -0.3))
        axes.set_axis_off()
    return figure


def scores_of_heads(
    measures: Mapping[str, Float[np.ndarray, "L H"]],
    *,
    references: Mapping[str, float] | None = None,
    tops: Mapping[str, float] | None = None,
) -> Picture:
    """A panel for every measure, with a bar for every head, in the order of layers and heads.

    A dashed line is the reference: the measure of a head that looks at everything evenly. `tops` are the
    upper ends of the axes, so that several pictures can be compared.
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
            axes.set_xticks(places.mean(axis=1), [f"layer {layer + 1}" for layer in range(L)])
            axes.tick_params(axis="x", length=0)
        for axes in list(panels.flat)[len(measures) :]:
            axes.set_axis_off()
        handles, labels = panels[0, 0].get_legend_handles_labels()
        if handles:
            figure.legend(handles[:1], labels[:1], loc="outside lower right")
    return figure


def cache_memory(bytes_by_heads: Mapping[int, int]) -> Picture:
    """A bar for each number of key-value heads: the memory that their keys and values take, in MiB."""
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


def _four_kinds() -> tuple[Float[np.ndarray, "H T T"], list[str], list[str]]:
    """Heads with scores written down by hand: what they look at is their name."""
    tokens = list("abracadabra")
    i = np.arange(len(tokens))
    back = i[:, None] - i
    same = np.array(tokens)[:, None] == np.array(tokens)
    scores = {
        "evenly": np.zeros(back.shape),
        "the previous one": 5.0 * (back == 1),
        "the same letter": 4.0 * same - 2.0 * (back == 0),
        "the first one": 5.0 * (i == 0) + 0.0 * back,
    }
    maps = [softmax.forward(np.where(back >= 0, s, -np.inf))[0] for s in scores.values()]
    return np.array(maps), tokens, list(scores)


def _outline(seen: Bool[np.ndarray, "T S"]) -> list[list[tuple[float, float]]]:
    """The edges between cells that are seen and cells, or paper, that are not."""
    padded = np.pad(seen, 1)
    level = [[(j - 1.5, i - 0.5), (j - 0.5, i - 0.5)] for i, j in np.argwhere(np.diff(padded, axis=0))]
    upright = [[(j - 0.5, i - 1.5), (j - 0.5, i - 0.5)] for i, j in np.argwhere(np.diff(padded, axis=1))]
    return level + upright


def _name(axis: Any, tokens: Sequence[str], shown: bool) -> None:
    """A token at every tick, or none."""
    if shown:
        names = [SHOWN.get(token, token) for token in tokens]
        axis.set_ticks(np.arange(len(names)), names, family="monospace", fontsize=8)
    else:
        axis.set_ticks([])
    axis.set_tick_params(length=0, pad=3)


def _cells(axes: Any, names: np.ndarray, corner: tuple[float, float], d_model: int, d_head: int) -> None:
    """A grid of numbers, each on the ground of its head's colour."""
    look = style.look()
    for (row, column), name in np.ndenumerate(names):
        x, y = corner[0] + column, corner[1] + row
        head = name % d_model // d_head
        ground = _pale(look.series[head % len(look.series)])
        axes.add_patch(Rectangle((x, y), 1, 1, facecolor=ground, edgecolor=look.paper, linewidth=1.2))
        axes.text(x + 0.5, y + 0.52, str(name), ha="center", va="center", fontsize=8.5)


def _pale(colour: str) -> tuple[float, ...]:
    """The colour, mixed with much paper."""
    return tuple(0.38 * np.array(to_rgb(colour)) + 0.62 * np.array(to_rgb(style.look().paper)))
