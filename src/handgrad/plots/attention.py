"""Pictures of attention: who looks at whom, the steps from scores to the output and back, and what it costs.

Rows are queries, columns are keys. What the causal mask forbids is hatched: it is not a small number, it is
not there.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Colormap, Normalize, PowerNorm, to_rgb
from matplotlib.image import AxesImage
from matplotlib.patches import Rectangle

from handgrad.ops import attention, softmax
from handgrad.plots import style
from handgrad.plots.style import Picture
from handgrad.shapes import Bool, Float

MOST_NUMBERS = 6
"""Matrices of at most so many rows and columns are written out, number by number."""

ROOT = 0.5
"""The power of a probability that its shade in a map follows."""

QUERIES = math.sqrt(2) * np.log([[5.0, 1.0], [3.0, 1.0], [2.0, 3.0]])
KEYS = np.array([[1.0, 0.0], [0.0, 1.0], [0.0, 0.0]])
VALUES = np.array([[12.0, 0.0], [0.0, 12.0], [12.0, 12.0]])
"""Three tokens of two numbers each: their probabilities are 1; 3/4, 1/4; 2/6, 3/6, 1/6."""


def weights(
    probs: Float[np.ndarray, "T S"],
    tokens: Sequence[str],
    *,
    keys: Sequence[str] | None = None,
    causal: bool = True,
    title: str = "",
) -> Picture:
    """The attention map: in the row of each query, the stronger a cell, the more it takes from that key.

    Every row sums to one; shades follow the root of a probability, or small ones could not be seen.
    With fewer queries than keys the queries are the last positions.
    """
    T, S = probs.shape
    width = min(6.4, 3.2 + 0.19 * max(T, S))
    with style.drawing() as look:
        figure = style.figure(width, width - (0.9 if title else 1.15))
        axes = figure.add_subplot(title=title)
        absent = _later(T, S) if causal else None
        image = cells(axes, probs, look.amounts, PowerNorm(ROOT, 0.0, 1.0), absent=absent, numbers="")
        name_axes(axes, tokens, tokens if keys is None else keys)
        bar = figure.colorbar(
            image, label="probability", shrink=0.7, ticks=[0, 0.05, 0.2, 0.5, 1], format="%g"
        )
        bar.outline.set_visible(False)
    return figure


def steps(
    q: Float[np.ndarray, "T K"] = QUERIES,
    k: Float[np.ndarray, "S K"] = KEYS,
    v: Float[np.ndarray, "S K"] = VALUES,
    *,
    tokens: Sequence[str] = ("1", "2", "3"),
) -> Picture:
    """Four matrices, two above two: scores, scores behind the mask, probabilities, and the output."""
    y, saved = attention.forward(q[None, None], k[None, None], v[None, None])
    probs = saved.probs.y[0, 0, 0]
    scores = q @ k.T * saved.scale
    absent = _later(*scores.shape)
    range_of_scores = _around_zero(scores)
    with style.drawing() as look:
        figure = style.figure(4.6, 4.8)
        panels = figure.subplots(2, 2).ravel()
        titles = (r"$S = QK^\top/\sqrt{d}$", "masked", r"$P = \mathrm{softmax}$", "$Y = PV$")
        for axes, title in zip(panels, titles, strict=True):
            axes.set_title(title, fontsize=10)
        cells(panels[0], scores, look.signed, range_of_scores)
        cells(panels[1], scores, look.signed, range_of_scores, absent=absent)
        cells(panels[2], probs, look.amounts, (0.0, 1.0), absent=absent)
        cells(panels[3], y[0, 0], look.signed, _around_zero(y))
        for axes in panels[:3]:
            name_axes(axes, tokens, tokens, queries="" if axes is panels[1] else "query")
        name_axes(panels[3], tokens, [str(1 + i) for i in range(v.shape[1])], queries="", keys="component")
    return figure


def gradients(
    q: Float[np.ndarray, "T K"] = QUERIES,
    k: Float[np.ndarray, "S K"] = KEYS,
    v: Float[np.ndarray, "S K"] = VALUES,
    dy: Float[np.ndarray, "T K"] | None = None,
    *,
    tokens: Sequence[str] = ("1", "2", "3"),
) -> Picture:
    """Backward through softmax: probabilities, their gradients, and the gradients of the scores.

    A score is pushed where its key has some probability, and by how much its value is better or worse than
    the mean of its row: in every row of dS the two colours balance, and the sum is zero. Without `dy` all
    outputs pull with 1.
    """
    dy = np.ones((q.shape[0], v.shape[1])) if dy is None else dy
    _, saved = attention.forward(q[None, None], k[None, None], v[None, None])
    probs = saved.probs.y[0, 0, 0]
    dprobs = dy @ v.T
    (dscores,) = softmax.backward(dprobs, saved.probs._replace(y=probs))
    absent = _later(*probs.shape)
    with style.drawing() as look:
        figure = style.figure(5.4, 2.5)
        panels = figure.subplots(1, 3)
        shown = {
            "$P$": (probs, look.amounts, (0.0, 1.0)),
            r"$dP = dY\,V^\top$": (dprobs, look.signed, _around_zero(dprobs[~absent])),
            "$dS$: rows sum to 0": (dscores, look.signed, _around_zero(dscores)),
        }
        for axes, (title, (matrix, colours, limits)) in zip(panels, shown.items(), strict=True):
            cells(axes, matrix, colours, limits, absent=absent)
            axes.set_title(title, fontsize=10)
            name_axes(axes, tokens, tokens, queries="query" if axes is panels[0] else "")
    return figure


def four_indices(jacobian: Float[np.ndarray, "T K T K"]) -> Picture:
    r"""The derivative of a matrix by a matrix, $\partial Y_{ik}/\partial Q_{jl}$, laid out as a flat table.

    A row for every number of Y, a column for every number of Q; a square for every pair of tokens. Squares
    off the diagonal are empty: an output knows no other token's query.
    """
    T, K, _, _ = jacobian.shape
    flat = jacobian.reshape(T * K, T * K)
    with style.drawing() as look:
        figure = style.figure(5.0, 4.4)
        axes = figure.add_subplot()
        image = cells(axes, flat, look.signed, _around_zero(flat), numbers="")
        for edge in np.arange(1, T) * K - 0.5:
            axes.axhline(edge, color=look.quiet, linewidth=0.8)
            axes.axvline(edge, color=look.quiet, linewidth=0.8)
        middles = np.arange(T) * K + (K - 1) / 2
        axes.set_yticks(middles, [f"$y_{{{i + 1}}}$" for i in range(T)])
        axes.set_xticks(middles, [f"$q_{{{i + 1}}}$" for i in range(T)])
        axes.set(xlabel=f"queries, {K} numbers each", ylabel=f"outputs, {K} numbers each")
        bar = figure.colorbar(image, label=r"$\partial Y_{ik}\,/\,\partial Q_{jl}$", shrink=0.7)
        bar.outline.set_visible(False)
    return figure


def scaling(q: Float[np.ndarray, " K"], k: Float[np.ndarray, "S K"]) -> Picture:
    r"""One query and many keys: the probabilities of $q\cdot k$, and of $q\cdot k/\sqrt d$, largest first.

    The sum of $p(1-p)$ is what a gradient can pass through this softmax: near zero, nothing is learned.
    """
    raw = k @ q
    scores = {r"softmax of $q\cdot k$": raw, r"softmax of $q\cdot k/\sqrt{d}$": raw / math.sqrt(q.size)}
    with style.drawing() as look:
        figure = style.figure(5.4, 3.2)
        panels = figure.subplots(1, 2, sharex=True, sharey=True)
        hatches = ("", "///")
        for axes, (title, row), colour, hatch in zip(
            panels, scores.items(), look.series, hatches, strict=False
        ):
            probs = np.sort(softmax.forward(row)[0])[::-1]
            ground = "none" if hatch else colour
            places = range(1, probs.size + 1)
            axes.bar(places, probs, 0.75, edgecolor=colour, facecolor=ground, hatch=hatch, linewidth=1.0)
            axes.set(title=title, xlabel="keys, by rank", ylim=(0, 1.05))
            said = f"largest $p$ = {probs[0]:.3f}\n$\\sum p(1-p)$ = {np.sum(probs * (1 - probs)):.3f}"
            axes.text(0.97, 0.95, said, transform=axes.transAxes, ha="right", va="top", linespacing=1.6)
        panels[0].set(ylabel="probability", xlim=(0.2, raw.size + 0.8))
        figure.suptitle(f"$d$ = {q.size}", x=0.02, ha="left", fontsize=11)
    return figure


def cost(d_model: int = 768, n_heads: int = 12) -> Picture:
    """What one layer's attention costs as the text grows, forward, in float32; both axes are logarithmic.

    Left, operations: of the four affine maps and of the two products with T x T numbers. Right, bytes: of
    queries, keys, values and outputs, and of the probabilities of all heads. Lines that are twice as steep
    win in the end; the dotted line is where they begin to.
    """
    T = np.logspace(7, 17, 41, base=2)
    with style.drawing():
        figure = style.figure(5.6, 3.9)
        figure.suptitle(
            f"one layer, $d_\\mathrm{{model}}$ = {d_model}, {n_heads} heads", x=0.02, ha="left", fontsize=11
        )
        left, right = figure.subplots(1, 2)
        operations = {"four affine maps": 8 * T * d_model**2, "scores and mixture": 4 * T**2 * d_model}
        numbers = {"q, k, v and y": 16 * T * d_model, "probabilities": 4 * T**2 * n_heads}
        _straight_lines(left, T, operations, crossing=2 * d_model)
        _straight_lines(right, T, numbers, crossing=4 * d_model / n_heads)
        for axes, unit in ((left, "operations"), (right, "bytes")):
            axes.set(xlabel="tokens $T$", ylabel=unit, xlim=(T[0], T[-1]))
            axes.grid(visible=True)
            axes.legend(loc="lower left", bbox_to_anchor=(0, 1), handlelength=2.6)
    return figure


def cells(
    axes: Axes,
    matrix: Float[np.ndarray, "T S"],
    colours: Colormap,
    scale: tuple[float, float] | Normalize,
    *,
    absent: Bool[np.ndarray, "T S"] | None = None,
    numbers: str = "{:.4g}",
) -> AxesImage:
    """A matrix as coloured cells, with its numbers if they are few; `absent` ones are hatched paper."""
    look = style.look()
    absent = np.zeros(matrix.shape, bool) if absent is None else absent
    norm = scale if isinstance(scale, Normalize) else Normalize(*scale)
    image = axes.imshow(np.where(absent, np.nan, matrix), cmap=colours, norm=norm)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(True)
    axes.spines[:].set(color=look.grid)
    for row, column in np.argwhere(absent):
        corner = (column - 0.5, row - 0.5)
        axes.add_patch(Rectangle(corner, 1, 1, fill=False, edgecolor=look.grid, hatch="////", linewidth=0))
    if numbers and max(matrix.shape) <= MOST_NUMBERS:
        for (row, column), value in np.ndenumerate(matrix):
            if not absent[row, column]:
                ground = colours(norm(value))
                said = numbers.format(round(float(value), 2) + 0.0)  # + 0.0: no minus before a zero
                said = said.replace("-", "\N{MINUS SIGN}")
                axes.text(column, row, said, ha="center", va="center", fontsize=9, color=_readable_on(ground))
    return image


def name_axes(
    axes: Axes,
    rows: Sequence[str],
    columns: Sequence[str],
    *,
    queries: str = "query",
    keys: str = "key",
) -> None:
    """The tokens at the edges of a matrix; a blank is shown as an open box."""
    axes.set_yticks(range(len(rows)), [token.replace(" ", "␣") for token in rows])
    axes.set_xticks(range(len(columns)), [token.replace(" ", "␣") for token in columns])
    axes.set(ylabel=queries, xlabel=keys)


def _later(T: int, S: int) -> Bool[np.ndarray, "T S"]:
    """The keys after each query."""
    return np.arange(S)[None, :] > np.arange(S - T, S)[:, None]


def _around_zero(matrix: Float[np.ndarray, "..."]) -> tuple[float, float]:
    size = float(np.max(np.abs(matrix))) or 1.0
    return -1.4 * size, 1.4 * size  # the ends of the scale are too dark to read numbers on


def _readable_on(ground: Any) -> str:
    """Ink or paper, whichever stands out more."""
    look = style.look()

    def brightness(colour: Any) -> float:
        return float(np.dot(to_rgb(colour), (0.3, 0.6, 0.1)))

    def distance(colour: str) -> float:
        return abs(brightness(colour) - brightness(ground))

    return max((look.ink, look.paper), key=distance)


def _straight_lines(
    axes: Axes, T: Float[np.ndarray, " n"], costs: dict[str, Float[np.ndarray, " n"]], *, crossing: float
) -> None:
    look = style.look()
    for (name, values), colour, dashes in zip(costs.items(), look.series[1::-1], style.DASHES, strict=False):
        axes.loglog(T, values, color=colour, linestyle=dashes, label=name)
    axes.axvline(crossing, color=look.quiet, linewidth=1, linestyle=":")
    axes.annotate(
        f"$T$ = {crossing:.0f}", (crossing, 0.04), (4, 0), xycoords=("data", "axes fraction"),
        textcoords="offset points", color=look.quiet, fontsize=9,
    )  # fmt: skip
