"""Pictures of lesson 16: the next token's probabilities, temperature and cuts, a draw, a text's surprise."""

from collections.abc import Mapping, Sequence
from itertools import pairwise

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Patch, Rectangle

from handgrad.ops import softmax
from handgrad.plots import marks, style
from handgrad.plots.marks import visible
from handgrad.plots.style import Picture
from handgrad.shapes import Float, Int

LOGITS = np.array([3.0, 2.0, 1.5, 0.0, -1.0])
TEMPERATURES = np.logspace(-2, 2, 121)


def distribution(
    probs: Float[np.ndarray, " V"],
    tokens: Sequence[str],
    *,
    after: Float[np.ndarray, " V"] | None = None,
    n: int = 20,
    title: str = "",
) -> Picture:
    """The probabilities of the next token, the likeliest first; the last bar is all others together.

    `after` is the distribution without some of the tokens: those are hatched, and a short line shows the new
    probability of each of the others.
    """
    order = np.argsort(-probs, kind="stable")
    shown, rest = order[:n], order[n:]
    heights = np.append(probs[shown], probs[rest].sum()) if rest.size else probs[shown]
    names = [visible(tokens[i]) for i in shown] + [f"+{rest.size}"] * bool(rest.size)
    with style.drawing() as look:
        figure = style.figure(5.8, 3.0)
        axes = figure.add_subplot()
        axes.set_title(title)
        bars = axes.bar(range(len(heights)), heights, 0.72, color=look.series[1], linewidth=0.8)
        if rest.size:
            bars[-1].set(facecolor="none", edgecolor=look.quiet, linestyle=":")
        if after is not None:
            _show_cut(axes, bars, probs, after, order, n)
        axes.set(xlabel="next token", ylabel="probability", xlim=(-0.8, len(heights) - 0.2))
        _name_bars(axes, names)
    return figure


def temperatures(
    logits: Float[np.ndarray, " V"] = LOGITS,
    tokens: Sequence[str] = "abcde",
    *,
    temperatures: Sequence[float] = (0.5, 1.0, 2.0),
) -> Picture:
    """The same logits at several temperatures, one below the other: the order stays, the contrast changes."""
    order = np.argsort(-logits, kind="stable")[:20]
    with style.drawing():
        figure = style.figure(5.8, 0.9 + 1.15 * len(temperatures))
        panels = np.atleast_1d(figure.subplots(len(temperatures), sharex=True, sharey=True))
        for axes, temperature, line in zip(panels, temperatures, marks.lines(), strict=False):
            probs, _ = softmax.forward(logits / temperature)
            axes.bar(range(len(order)), probs[order], 0.72, color=line["color"])
            said = f"$T$ = {temperature:g}\nentropy {_entropy(probs):.2f} nats"
            axes.text(0.98, 0.9, said, transform=axes.transAxes, ha="right", va="top", linespacing=1.4)
            axes.set_xlim(-0.8, len(order) - 0.2)
            axes.tick_params(axis="x", length=0)
        _name_bars(panels[-1], [visible(tokens[i]) for i in order])
        panels[-1].set_xlabel("next token")
        figure.supylabel("probability", fontsize=10)
    return figure


def entropy(
    logits: Float[np.ndarray, " V"] = LOGITS, *, temperatures: Float[np.ndarray, " n"] = TEMPERATURES
) -> Picture:
    """The entropy of the softmax of logits / T against T, between none and that of a blind guess."""
    probs, _ = softmax.forward(logits / temperatures[:, None])
    own, most = _entropy(softmax.forward(logits)[0]), float(np.log(logits.size))
    with style.drawing() as look:
        figure = style.figure(5.6, 3.3)
        axes = figure.add_subplot(xscale="log")
        axes.axhline(most, color=look.quiet, linewidth=1, linestyle="--")
        axes.annotate(
            f"every token alike: $\\ln\\,{logits.size}$ = {most:.2f}", (temperatures[0], most), (2, 4),
            textcoords="offset points", color=look.quiet, fontsize=9,
        )  # fmt: skip
        axes.plot(temperatures, [_entropy(row) for row in probs], color=look.series[1])
        axes.plot([1.0], [own], "o", color=look.series[0])
        axes.annotate(f"$T$ = 1: {own:.2f} nats", (1.0, own), (9, -4), textcoords="offset points", va="top")
        axes.set(xlabel="temperature $T$", ylabel="entropy (nats)", ylim=(-0.04 * most, 1.14 * most))
        axes.set_xlim(temperatures[0], temperatures[-1])
    return figure


def staircase(
    probs: Float[np.ndarray, " V"], tokens: Sequence[str], *, draws: Sequence[float] = ()
) -> Picture:
    """Probabilities stacked to a staircase from 0 to 1: a step is as high as its token is likely.

    Each number of `draws` goes right at its own height, and takes the step that it meets.
    """
    edges = np.append(0.0, np.cumsum(probs))
    with style.drawing() as look:
        figure = style.figure(6.0, 3.6)
        axes = figure.add_subplot()
        for i, (low, high) in enumerate(pairwise(edges)):
            axes.add_patch(
                Rectangle((i - 0.5, low), 1, high - low, facecolor=look.sides[0], edgecolor=look.series[1])
            )
            axes.text(i, (low + high) / 2, f"{probs[i]:g}", ha="center", va="center", fontsize=9)
        colour = look.series[0]
        for u, dashes in zip(draws, style.DASHES[1:], strict=False):
            i = int(np.searchsorted(edges[1:], u, side="right"))
            axes.plot([-1.3, i - 0.5], [u, u], color=colour, linestyle=dashes, linewidth=1.4)
            axes.plot([i - 0.5], [u], marker=">", color=colour)
            axes.annotate(
                f"$u$ = {u:g}", (-1.3, u), (4, 3), textcoords="offset points", color=colour, fontsize=9
            )
        axes.set(
            xlim=(-1.3, len(probs) - 0.3), ylim=(0, 1.02), xlabel="token", ylabel="cumulative probability"
        )
        axes.set_yticks(edges, [f"{edge:.2g}" for edge in edges])
        _name_bars(axes, [visible(token) for token in tokens])
    return figure


def surprise(text: str, nats: Float[np.ndarray, " T"], *, columns: int = 32) -> Picture:
    """A text with a bar above each character: its surprise -ln p, darker and higher where it is larger.

    A character whose surprise is NaN, as the first one's, has no bar.
    """
    n_rows = -(-len(text) // columns)
    highest = max(float(np.nanmax(nats)), 1e-9)
    with style.drawing() as look:
        figure = style.figure(max(3.2, 0.5 + 0.15 * columns), 0.6 + 0.7 * n_rows)
        axes = figure.add_subplot()
        axes.set_title(f"highest bar: {highest:.1f} nats", fontsize=9, color=look.quiet)
        for place, (character, value) in enumerate(zip(text, nats, strict=True)):
            row, column = divmod(place, columns)
            axes.text(
                column, -row, visible(character), ha="center", va="center", fontsize=9, family="monospace",
                color=look.quiet if character.isspace() else look.ink,
            )  # fmt: skip
            if np.isfinite(value):
                share = value / highest
                axes.add_patch(
                    Rectangle(
                        (column - 0.42, -row + 0.24),
                        0.84,
                        0.5 * share,
                        facecolor=look.amounts(0.3 + 0.5 * share),
                    )
                )
        axes.set(xlim=(-0.7, columns - 0.3), ylim=(-n_rows + 0.7, 0.8))
        axes.axis("off")
    return figure


def entropy_along(text: str, entropies: Float[np.ndarray, " T"], nats: Float[np.ndarray, " T"]) -> Picture:
    """Character by character: steps for the expected surprise, the entropy; dots for the surprise found."""
    places = np.arange(len(text))
    with style.drawing() as look:
        figure = style.figure(5.8, 3.4)
        axes = figure.add_subplot()
        axes.vlines(places, 0, nats, color=look.grid, linewidth=1.0)
        axes.step(
            places, entropies, where="mid", color=look.series[1], linewidth=1.4, label="expected: entropy"
        )
        axes.plot(places, nats, "o", color=look.series[0], markersize=4, label=r"found: surprise $-\ln p$")
        axes.set(ylabel="nats", xlim=(-0.8, len(text) - 0.2), ylim=(0, None))
        _name_bars(axes, [visible(character) for character in text])
        axes.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=2, borderaxespad=0.1)
    return figure


def multiply_adds(lengths: Float[np.ndarray, " n"], costs: Mapping[str, Float[np.ndarray, " n"]]) -> Picture:
    """The cost of writing a text against its length, both logarithmic.

    Where a line is twice as steep, twice the text costs four times as much.
    """
    with style.drawing():
        figure = style.figure(5.6, 3.6)
        axes = figure.add_subplot(xscale="log", yscale="log")
        for (name, values), line in zip(costs.items(), marks.lines(), strict=False):
            axes.plot(lengths, values, **line, label=name)
        axes.set(xlabel="tokens written", ylabel="multiply-adds in all", xlim=(lengths[0], lengths[-1]))
        axes.grid(visible=True)
        axes.legend(loc="upper left")
    return figure


def _show_cut(
    axes: Axes,
    bars: Sequence[Rectangle],
    probs: Float[np.ndarray, " V"],
    after: Float[np.ndarray, " V"],
    order: Int[np.ndarray, " V"],
    n: int,
) -> None:
    look = style.look()
    kept = after > 0
    for place, (bar, i) in enumerate(zip(bars, order[:n], strict=False)):
        if kept[i]:
            axes.plot([place - 0.46, place + 0.46], [after[i]] * 2, color=look.series[0], linewidth=1.6)
        else:
            bar.set(facecolor=look.paper, edgecolor=look.series[1], hatch="/////", alpha=0.6)
    n_kept, share = int(kept.sum()), float(probs[kept].sum())
    handles = [
        Patch(
            facecolor=look.series[1], label=f"kept: {n_kept} of {probs.size}, {share:.2f} of the probability"
        ),
        axes.plot([], [], color=look.series[0], linewidth=1.6, label="probability after the cut")[0],
        Patch(facecolor=look.paper, edgecolor=look.series[1], hatch="/////", alpha=0.6, label="left out"),
    ]
    axes.legend(handles=handles if n_kept < probs.size else handles[:2], loc="upper right")


def _name_bars(axes: Axes, names: Sequence[str]) -> None:
    axes.set_xticks(range(len(names)), names, family="monospace", fontsize=9)
    axes.tick_params(axis="x", length=0)


def _entropy(probs: Float[np.ndarray, " V"]) -> float:
    return float(-np.sum(probs * np.log(np.maximum(probs, 1e-300))))
