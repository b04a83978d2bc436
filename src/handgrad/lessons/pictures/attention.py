"""Pictures of lesson 11: attention backward, why scores are scaled, and what attention costs."""

import math
from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Normalize

from handgrad.ops import attention, softmax
from handgrad.plots import marks, style
from handgrad.plots.attention import KEYS, QUERIES, VALUES, later
from handgrad.plots.style import Picture
from handgrad.shapes import Float


def gradients(
    q: Float[np.ndarray, "T K"] = QUERIES,
    k: Float[np.ndarray, "S K"] = KEYS,
    v: Float[np.ndarray, "S K"] = VALUES,
    dy: Float[np.ndarray, "T K"] | None = None,
) -> Picture:
    """Backward through softmax: probabilities, their gradients, and the gradients of the scores.

    The gradient of a score is its probability times how far dP lies above the mean of its row: every row of
    dS sums to zero. Without `dy` every output's gradient is 1.
    """
    dy = np.ones((q.shape[0], v.shape[1])) if dy is None else dy
    _, saved = attention.forward(q[None, None], k[None, None], v[None, None])
    probs = saved.probs.y[0, 0, 0]
    dprobs = dy @ v.T
    (dscores,) = softmax.backward(dprobs, saved.probs._replace(y=probs))
    absent = later(*probs.shape)
    tokens = [str(1 + i) for i in range(len(q))]
    with style.drawing() as look:
        figure = style.figure(5.4, 2.5)
        panels = figure.subplots(1, 3)
        shown = {
            "$P$": (probs, look.amounts, Normalize(0.0, 1.0)),
            r"$dP = dY\,V^\top$": (dprobs, look.signed, marks.around_zero(dprobs[~absent])),
            "$dS$: rows sum to 0": (dscores, look.signed, marks.around_zero(dscores)),
        }
        for axes, (title, (matrix, colours, scale)) in zip(panels, shown.items(), strict=True):
            marks.cells(axes, matrix, colours, scale, texts=marks.numbers(matrix), absent=absent)
            axes.set_title(title, fontsize=10)
            marks.name_rows_and_columns(axes, tokens, tokens)
            axes.set(xlabel="key", ylabel="query" if axes is panels[0] else "")
    return figure


def four_indices(jacobian: Float[np.ndarray, "T K T K"]) -> Picture:
    r"""The derivative of a matrix by a matrix, $\partial Y_{ik}/\partial Q_{jl}$, laid out as a flat table.

    A row for every number of Y, a column for every number of Q, a square for every pair of tokens. Squares
    off the diagonal are zero: an output depends on its own token's query alone.
    """
    T, K, _, _ = jacobian.shape
    flat = jacobian.reshape(T * K, T * K)
    with style.drawing() as look:
        figure = style.figure(5.0, 4.4)
        axes = figure.add_subplot()
        image = marks.cells(axes, flat, look.signed, marks.around_zero(flat))
        for edge in np.arange(1, T) * K - 0.5:
            axes.axhline(edge, color=look.quiet, linewidth=0.8)
            axes.axvline(edge, color=look.quiet, linewidth=0.8)
        middles = np.arange(T) * K + (K - 1) / 2
        axes.set_yticks(middles, [f"$y_{{{i + 1}}}$" for i in range(T)])
        axes.set_xticks(middles, [f"$q_{{{i + 1}}}$" for i in range(T)])
        axes.set(xlabel=f"queries, {K} numbers each", ylabel=f"outputs, {K} numbers each")
        marks.scale_bar(figure, image, r"$\partial Y_{ik}\,/\,\partial Q_{jl}$", shrink=0.7)
    return figure


def scaling(q: Float[np.ndarray, " K"], k: Float[np.ndarray, "S K"]) -> Picture:
    r"""One query and many keys: the probabilities of $q\cdot k$, and of $q\cdot k/\sqrt d$, largest first.

    The sum of $p(1-p)$ says how much gradient passes through this softmax: near zero, nothing is learned.
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
    queries, keys, values and outputs, and of the probabilities of all heads. Right of the dotted line the
    steeper curve is the larger one.
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


def _straight_lines(
    axes: Axes, T: Float[np.ndarray, " n"], costs: Mapping[str, Float[np.ndarray, " n"]], *, crossing: float
) -> None:
    look = style.look()
    for (name, values), colour, dashes in zip(costs.items(), look.series[1::-1], style.DASHES, strict=False):
        axes.loglog(T, values, color=colour, linestyle=dashes, label=name)
    axes.axvline(crossing, color=look.quiet, linewidth=1, linestyle=":")
    axes.annotate(
        f"$T$ = {crossing:.0f}", (crossing, 0.04), (4, 0), xycoords=("data", "axes fraction"),
        textcoords="offset points", color=look.quiet, fontsize=9,
    )  # fmt: skip
