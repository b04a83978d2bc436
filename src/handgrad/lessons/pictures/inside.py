"""Pictures of lesson 17: who writes into the residual stream, what it says early, which parts matter."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Normalize, PowerNorm
from matplotlib.patches import Rectangle

from handgrad.plots import marks, style
from handgrad.plots.marks import visible
from handgrad.plots.style import Picture
from handgrad.shapes import Float

WIDTH = 5.8


def contributions(parts: Mapping[str, float], *, xlabel: str, total: bool = True) -> Picture:
    """One bar for each part, from top to bottom: to the right what it adds, to the left what it takes away.

    With `total` the last bar is their sum.
    """
    values = np.array([*parts.values(), *([sum(parts.values())] if total else [])])
    names = [*parts, *(["sum"] if total else [])]
    with style.drawing() as look:
        figure = style.figure(5.6, 0.9 + 0.27 * len(names))
        axes = figure.add_subplot()
        bars = axes.barh(range(len(values)), values, 0.66, color=look.series[1])
        for bar, value in zip(bars, values, strict=True):
            if value < 0:
                bar.set(facecolor="none", edgecolor=look.series[0], hatch="/////")
        if total:
            bars[-1].set(facecolor=look.ink, edgecolor=look.ink, hatch="")
        reach = max(float(np.abs(values).max()), 1e-9)
        for place, value in enumerate(values):
            axes.annotate(
                marks.number(value, ".2f"), (max(value, 0.0), place), (4, 0), textcoords="offset points",
                va="center", fontsize=9,
            )  # fmt: skip
        axes.axvline(0, color=look.quiet, linewidth=0.8)
        axes.spines["left"].set_visible(False)
        axes.set_yticks(range(len(values)), names)
        axes.tick_params(axis="y", length=0)
        low = min(0.0, float(values.min()))
        axes.set(xlabel=xlabel, xlim=(1.05 * low, max(float(values.max()), 0.0) + 0.14 * reach))
        axes.set_ylim(len(values) - 0.4, -0.6)
    return figure


def logit_lens(
    tokens: Sequence[str],
    best: Sequence[Sequence[str]],
    probs: Float[np.ndarray, "N T"],
    *,
    stages: Sequence[str],
) -> Picture:
    """The answer of the stream when it is read early: a row for every stage, a column for every token.

    In each cell stands the likeliest next token; a stronger ground means a likelier one. A frame marks an
    answer that is right: the token below the next column.
    """
    n_stages, T = probs.shape
    with style.drawing() as look:
        figure = style.figure(WIDTH, 1.2 + 0.3 * n_stages)
        axes = figure.add_subplot()
        texts = [[visible(token) for token in row] for row in best]
        image = marks.cells(axes, probs, look.amounts, Normalize(0, 1), texts=texts, aspect="auto")
        for row, column in np.ndindex(n_stages, T - 1):
            if best[row][column] == tokens[column + 1]:
                axes.add_patch(
                    Rectangle(
                        (column - 0.44, row - 0.44), 0.88, 0.88, facecolor="none", edgecolor=look.series[0],
                        linewidth=1.3,
                    )
                )  # fmt: skip
        _name_columns(axes, tokens, "tokens read")
        axes.set_yticks(range(n_stages), stages)
        marks.scale_bar(figure, image, "probability", ax=axes, pad=0.02, aspect=12)
    return figure


def by_distance(mean: Float[np.ndarray, "N n"], *, heads: Sequence[str]) -> Picture:
    """The attention of each head, a row each, to the token itself, to the token before it, and so on."""
    with style.drawing() as look:
        figure = style.figure(5.6, max(2.2, 0.9 + 0.22 * len(heads)))
        axes = figure.add_subplot()
        highest = max(float(mean.max()), 1e-9)
        image = marks.cells(axes, mean, look.amounts, Normalize(0, highest), aspect="auto")
        axes.set_yticks(range(len(heads)), heads, fontsize=9)
        axes.set(xlabel="distance to the token looked at", ylabel="layer.head")
        axes.set_xticks(range(mean.shape[1]))
        marks.scale_bar(figure, image, "mean attention", ax=axes, pad=0.02, aspect=12)
    return figure


def ablation(rises: Float[np.ndarray, "L N"], *, layers: Sequence[str], parts: Sequence[str]) -> Picture:
    """The rise of the loss, in nats a token, when one part of one layer is switched off.

    Colours follow the square root, so that small rises can be told apart beside large ones.
    """
    with style.drawing() as look:
        figure = style.figure(5.6, 1.1 + 0.42 * len(layers))
        axes = figure.add_subplot()
        scale = PowerNorm(0.5, 0, max(float(rises.max()), 1e-9))
        texts = [[marks.number(value, ".3f") for value in row] for row in rises]
        marks.cells(axes, np.maximum(rises, 0.0), look.amounts, scale, texts=texts, aspect="auto")
        axes.set_xticks(range(len(parts)), parts)
        axes.set_yticks(range(len(layers)), layers)
        axes.xaxis.tick_top()
        axes.set_xlabel("rise of the loss, nats a token")
    return figure


def patching(
    shares: Float[np.ndarray, "N T"], clean: Sequence[str], corrupted: Sequence[str], *, stages: Sequence[str]
) -> Picture:
    """The share of the clean answer that returns with one place of the clean stream in the other run.

    A row for every stage, a column for every position. Above stands the clean text, below the corrupted one;
    bold tokens differ.
    """
    differ = [one != other for one, other in zip(clean, corrupted, strict=True)]
    with style.drawing() as look:
        figure = style.figure(WIDTH, 1.5 + 0.34 * len(stages))
        axes = figure.add_subplot()
        texts = [
            [marks.number(value, ".1f") if abs(value) >= 0.05 else "" for value in row] for row in shares
        ]
        marks.cells(axes, shares, look.signed, Normalize(-1.4, 1.4), texts=texts, aspect="auto", fontsize=8)
        _name_columns(axes, corrupted, "corrupted text")
        above = axes.secondary_xaxis("top")
        above.set_xticks(range(len(clean)), [visible(token) for token in clean], family="monospace")
        above.set_xlabel("clean text")
        above.tick_params(length=0)
        for labels in (axes.get_xticklabels(), above.get_xticklabels()):
            for label, different in zip(labels, differ, strict=True):
                if different:
                    label.set(color=look.series[0], fontweight="bold", fontsize=12)
        axes.set_yticks(range(len(stages)), stages)
    return figure


def saliency(
    tokens: Sequence[str],
    predicted: Float[np.ndarray, " T"],
    measured: Float[np.ndarray, " T"],
    *,
    ylabel: str = "change of the answer",
) -> Picture:
    """What each token changes in the answer: bars as the gradient predicts, dots as measured."""
    with style.drawing() as look:
        figure = style.figure(WIDTH, 3.2)
        axes = figure.add_subplot()
        places = range(len(tokens))
        axes.bar(places, predicted, 0.7, color=look.background, label="gradient predicts")
        axes.plot(places, measured, "o", color=look.series[0], markersize=4.5, label="measured")
        axes.axhline(0, color=look.quiet, linewidth=0.8)
        _name_columns(axes, tokens, "")
        axes.set(ylabel=ylabel, xlim=(-0.8, len(tokens) - 0.2))
        axes.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=2, borderaxespad=0.1)
    return figure


def neighbours(
    vectors: Float[np.ndarray, "V D"], tokens: Sequence[str], *, kinds: Mapping[str, Sequence[str]]
) -> Picture:
    """Embeddings on the plane in which they differ most, their first two principal components.

    `kinds` names groups of tokens, each with its colour. Tokens near each other may still differ in
    directions that are not shown; the axes say how much of the variance they show.
    """
    centred = vectors - vectors.mean(axis=0)
    _, sizes, directions = np.linalg.svd(centred, full_matrices=False)
    places = centred @ directions[:2].T
    shares = sizes[:2] ** 2 / np.sum(sizes**2)
    with style.drawing() as look:
        figure = style.figure(5.8, 5.2)
        axes = figure.add_subplot()
        kind_of = {token: kind for kind, members in kinds.items() for token in members}
        colours = dict(zip(kinds, look.series, strict=False))
        for (x, y), token in zip(places, tokens, strict=True):
            axes.text(
                x, y, visible(token), ha="center", va="center", family="monospace", fontsize=11,
                fontweight="bold", color=colours.get(kind_of.get(token, ""), look.quiet),
            )  # fmt: skip
        for (kind, members), colour in zip(kinds.items(), look.series, strict=False):
            sign = f"${visible(members[0])}$"
            axes.plot([], [], linestyle="", marker=sign, color=colour, markersize=8, label=kind)
        margin = 0.07 * np.ptp(places, axis=0)
        axes.set_xlim(places[:, 0].min() - margin[0], places[:, 0].max() + margin[0])
        axes.set_ylim(places[:, 1].min() - margin[1], places[:, 1].max() + margin[1])
        axes.set(
            xlabel=f"first direction: {shares[0]:.0%} of the variance",
            ylabel=f"second direction: {shares[1]:.0%}",
        )
        figure.legend(loc="outside upper left", ncols=len(kinds), columnspacing=1.2, handletextpad=0.3)
    return figure


def _name_columns(axes: Axes, tokens: Sequence[str], label: str) -> None:
    axes.set_xticks(range(len(tokens)), [visible(token) for token in tokens], family="monospace")
    axes.tick_params(axis="x", length=0)
    axes.set_xlabel(label)
