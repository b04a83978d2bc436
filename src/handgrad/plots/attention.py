"""Pictures of attention: who looks at whom, and the steps from scores to the output.

Rows are queries, columns are keys. What the mask forbids is hatched: it is not a small number, it is not
there.
"""

import math
from collections.abc import Sequence

import numpy as np
from matplotlib.axis import Axis
from matplotlib.colors import Normalize, PowerNorm
from matplotlib.layout_engine import ConstrainedLayoutEngine

from handgrad.ops import attention
from handgrad.plots import marks, style
from handgrad.plots.style import Picture
from handgrad.shapes import Bool, Float

ROOT = 0.5
"""Shades follow this power of a probability, or a tenth could not be told from nothing."""

QUERIES = math.sqrt(2) * np.log([[5.0, 1.0], [3.0, 1.0], [2.0, 3.0]])
KEYS = np.array([[1.0, 0.0], [0.0, 1.0], [0.0, 0.0]])
VALUES = np.array([[12.0, 0.0], [0.0, 12.0], [12.0, 12.0]])
"""Three tokens of two numbers each: their probabilities are 1; 3/4, 1/4; 2/6, 3/6, 1/6."""


def maps(
    probs: Float[np.ndarray, "*H T S"],
    tokens: Sequence[str],
    *,
    keys: Sequence[str] | None = None,
    titles: Sequence[str] = (),
    allowed: Bool[np.ndarray, "..."] | None = None,
    columns: int = 4,
) -> Picture:
    """Attention maps, one or many: the shades of a row say how its query divides one among the keys.

    Without `keys` the tokens look at themselves. Without `allowed` no query sees a later key; with fewer
    queries than keys the queries are the last positions.
    """
    heads = np.reshape(probs, (-1, *np.shape(probs)[-2:]))
    keys = tokens if keys is None else keys
    n, T, S = heads.shape
    seen = ~later(T, S) if allowed is None else allowed
    absent = ~np.reshape(np.broadcast_to(seen, np.shape(probs)), heads.shape)
    columns = min(columns, n)
    rows = -(-n // columns)
    side = min(6.4 / columns, 2.4 + 0.15 * max(T, S) if n == 1 else 2.7 if columns == 2 else 1.7)
    with style.drawing() as look:
        figure = style.figure(0.8 + columns * side, rows * ((side - 0.1) * T / S + 0.28) + 1.15)
        figure.set_layout_engine(ConstrainedLayoutEngine(w_pad=0.04, h_pad=0.04, wspace=0.0, hspace=0.0))
        panels = figure.subplots(rows, columns, squeeze=False)
        for axes in list(panels.flat)[n:]:
            axes.set_axis_off()
        for number, (axes, head) in enumerate(zip(panels.flat, heads, strict=False)):
            image = marks.cells(axes, head, look.amounts, PowerNorm(ROOT, 0.0, 1.0), absent=absent[number])
            if number < len(titles):
                axes.set_title(titles[number], fontsize=9, pad=4)
            _name(axes.yaxis, tokens, number % columns == 0)
            _name(axes.xaxis, keys, number + columns >= n)
        figure.supylabel("query", fontsize=10)
        figure.supxlabel("key", fontsize=10)
        bar = marks.scale_bar(
            figure, image, "", ax=panels, location="top", ticks=[0, 0.05, 0.2, 0.5, 1], format="%g",
            shrink=min(0.6, 2.4 / (columns * side)), aspect=24,
        )  # fmt: skip
        bar.set_label("probability", fontsize=9)
        bar.ax.tick_params(labelsize=9)
    return figure


def steps(
    q: Float[np.ndarray, "T K"] = QUERIES,
    k: Float[np.ndarray, "S K"] = KEYS,
    v: Float[np.ndarray, "S K"] = VALUES,
) -> Picture:
    """Four matrices, two above two: scores, scores behind the mask, probabilities, and the output."""
    y, saved = attention.forward(q[None, None], k[None, None], v[None, None])
    probs = saved.probs.y[0, 0, 0]
    scores = q @ k.T * saved.scale
    absent = later(*scores.shape)
    tokens, components = ([str(1 + i) for i in range(n)] for n in v.shape)
    with style.drawing() as look:
        figure = style.figure(4.6, 4.8)
        panels = figure.subplots(2, 2).ravel()
        shown = (
            (r"$S = QK^\top/\sqrt{d}$", scores, look.signed, marks.around_zero(scores), None),
            ("masked", scores, look.signed, marks.around_zero(scores), absent),
            (r"$P = \mathrm{softmax}$", probs, look.amounts, Normalize(0.0, 1.0), absent),
            ("$Y = PV$", y[0, 0], look.signed, marks.around_zero(y), None),
        )
        for axes, (title, matrix, colours, scale, hidden) in zip(panels, shown, strict=True):
            marks.cells(axes, matrix, colours, scale, texts=marks.numbers(matrix), absent=hidden)
            axes.set_title(title, fontsize=10)
            is_output = axes is panels[3]
            marks.name_rows_and_columns(axes, tokens, components if is_output else tokens)
            axes.set(
                xlabel="component" if is_output else "key", ylabel="query" if axes in panels[::2] else ""
            )
    return figure


def later(T: int, S: int) -> Bool[np.ndarray, "T S"]:
    """The keys after each query."""
    return np.arange(S)[None, :] > np.arange(S - T, S)[:, None]


def _name(axis: Axis, tokens: Sequence[str], shown: bool) -> None:
    """A token at every tick, or none."""
    if shown:
        names = [marks.visible(token) for token in tokens]
        axis.set_ticks(np.arange(len(names)), names, family="monospace", fontsize=8)
    else:
        axis.set_ticks([])
    axis.set_tick_params(length=0, pad=3)
