"""Pictures of training: batches cut from a text, what a loss is worth, averages, learning rates, gradients'
lengths, and the two curves that one reads.
"""

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
from matplotlib.patches import Rectangle
from matplotlib.ticker import FuncFormatter, MaxNLocator

from handgrad.plots import style
from handgrad.plots.style import Picture
from handgrad.shapes import Float

Row: TypeAlias = tuple[int, float | None, float]
"""Step, mean training loss since the row before (the first has none), validation loss."""

VISIBLE = {"\n": "\u21b5", " ": "\u2423", "\t": "\u2192"}
"""What stands for characters that leave no ink."""


def batch(text: str, starts: Sequence[int], context_length: int) -> Picture:
    """A batch as it is cut from a text: above, the text with a bracket under every window; below, what the
    model reads, and what it should say: the same characters, one place further on.

    Every column is a guess: from the inputs up to this one, the target below it.
    """
    with style.drawing():
        figure = style.figure(5.6, 1.0 + 0.85 * len(starts))
        strip, table = figure.subplots(2, height_ratios=(0.5 + 0.25 * len(starts), 0.75 * len(starts)))
        for place, character in enumerate(text):
            _character(strip, place, 0.0, character)
        for number, start in enumerate(starts):
            _window(strip, number, start, start + context_length - 1)
            _guesses(table, number, text[start : start + context_length + 1])
        strip.set(xlim=(-1, len(text)), ylim=(-len(starts) - 0.7, 0.7))
        table.set(xlim=(-3.5, context_length), ylim=(2.6 * len(starts) - 0.6, 0.0))
        strip.set_axis_off()
        table.set_axis_off()
    return figure


def _character(axes: Any, x: float, y: float, character: str) -> None:
    colour = style.look().quiet if character in VISIBLE else style.look().ink
    shown = VISIBLE.get(character, character)
    axes.text(x, y, shown, family="monospace", fontsize=8.5, color=colour, ha="center", va="center")


def _signs(number: int) -> dict[str, Any]:
    """How window `number` is marked."""
    series = style.look().series
    return {"color": series[number % len(series)], "linestyle": style.DASHES[number % len(style.DASHES)]}


def _window(axes: Any, number: int, first: int, last: int) -> None:
    """A bracket under the characters from `first` to `last`."""
    bottom = -1.0 - number
    corners = (first - 0.4, first - 0.4, last + 0.4, last + 0.4)
    axes.plot(corners, (bottom + 0.4, bottom, bottom, bottom + 0.4), **_signs(number))


def _guesses(axes: Any, number: int, window: str) -> None:
    """Inputs and targets of a window, character below character."""
    look, top = style.look(), 2.6 * number
    axes.plot((-3.3, -3.3), (top + 0.1, top + 1.9), **_signs(number))
    for row, (name, characters) in enumerate((("inputs", window[:-1]), ("targets", window[1:]))):
        axes.text(-0.3, top + row + 0.5, name, fontsize=9, ha="right", va="center")
        for place, character in enumerate(characters):
            axes.add_patch(
                Rectangle((place, top + row), 1, 1, facecolor=look.sides[row], edgecolor=look.paper)
            )
            _character(axes, place + 0.5, top + row + 0.5, character)


def baselines(losses: Mapping[str, float]) -> Picture:
    """Losses of several writers as bars, the shorter the better, and beside each the number of equally likely
    choices that would be as hard.
    """
    with style.drawing() as look:
        figure = style.figure(5.6, 0.9 + 0.45 * len(losses))
        axes = figure.add_subplot()
        for row, loss in enumerate(losses.values()):
            axes.barh(row, loss, height=0.6, color=look.series[1], alpha=0.75)
            choices = np.exp(loss)
            text = f"{loss:.2f}, like {choices:,.{0 if choices > 99.95 else 1}f} choices"
            axes.annotate(text, (loss, row), (6, 0), textcoords="offset points", va="center", fontsize=9)
        axes.set_yticks(range(len(losses)), list(losses))
        axes.set(xlabel="loss (nats a token)", xlim=(0, 1.45 * max(losses.values())))
        axes.tick_params(axis="y", length=0)
        axes.invert_yaxis()
    return figure


def averages(values: Float[np.ndarray, " n"], curves: Mapping[str, Float[np.ndarray, " n"]]) -> Picture:
    """Noisy numbers as dots, one a step, and what several averages make of them."""
    with style.drawing() as look:
        figure = style.figure(5.6, 3.5)
        axes = figure.add_subplot()
        steps = np.arange(1, len(values) + 1)
        axes.plot(steps, values, "o", color=look.background, markersize=3, alpha=0.7, label="gradient")
        for (name, curve), colour, dashes in zip(curves.items(), look.series, style.DASHES, strict=False):
            axes.plot(steps, curve, color=colour, linestyle=dashes, label=name, path_effects=look.halo)
        axes.axhline(0, color=look.quiet, linewidth=0.8)
        axes.set(xlabel="step", xlim=(0, len(values) + 1))
        axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=3)
    return figure


def learning_rates(rates: Mapping[str, Sequence[float]]) -> Picture:
    """Learning rates against the steps, one line for each schedule."""
    with style.drawing() as look:
        figure = style.figure(5.6, 3.3)
        axes = figure.add_subplot()
        for (name, rate), colour, dashes in zip(rates.items(), look.series, style.DASHES, strict=False):
            axes.plot(rate, color=colour, linestyle=dashes, label=name)
        highest = max(max(rate) for rate in rates.values())
        axes.set(xlabel="step", ylabel="learning rate", ylim=(0, 1.08 * highest))
        axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=3)
    return figure


def gradient_norms(norms: Sequence[float], max_norm: float) -> Picture:
    """The length of the gradient at every step, and the length to which those above it were shortened."""
    with style.drawing() as look:
        figure = style.figure(5.6, 3.3)
        axes = figure.add_subplot()
        lengths, steps = np.asarray(norms), np.arange(1, len(norms) + 1)
        longer = lengths > max_norm
        for which, name, colour, marker in (
            (longer, "clipped", look.series[0], "^"),
            (~longer, "as it was", look.series[1], "."),
        ):
            share = f"{name}: {np.mean(which):.0%} of the steps"
            axes.semilogy(steps[which], lengths[which], marker, color=colour, markersize=4, label=share)
        axes.axhline(max_norm, color=look.ink, linestyle="--", linewidth=1)
        for formatter in (axes.yaxis.set_major_formatter, axes.yaxis.set_minor_formatter):
            formatter(FuncFormatter(lambda length, _: f"{length:g}"))
        axes.set(xlabel="step", ylabel="length of the gradient", xlim=(0, len(norms) + 1))
        axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=2)
    return figure


def curves(runs: Mapping[str, Sequence[Row]], baselines: Mapping[str, float] | None = None) -> Picture:
    """Training and validation loss of runs side by side, on one scale; the lowest validation loss is circled.

    Where both fall, the model learns; where the training loss goes on falling and the validation loss turns,
    it learns by heart.
    """
    with style.drawing() as look:
        figure = style.figure(max(4.8, 0.6 + 2.5 * len(runs)), 3.7)
        panels = np.atleast_1d(figure.subplots(1, len(runs), sharey=True))
        for axes, (name, rows) in zip(panels, runs.items(), strict=True):
            step, train, validation = (np.array(column, dtype=float) for column in zip(*rows, strict=True))
            axes.plot(step, train, color=look.series[1], linestyle="--", label="training")
            axes.plot(step, validation, color=look.series[0], marker="o", markersize=3, label="validation")
            best = int(np.argmin(validation))
            axes.plot(step[best], validation[best], "o", markersize=9, fillstyle="none", color=look.ink)
            for baseline, loss in (baselines or {}).items():
                axes.axhline(loss, color=look.quiet, linewidth=0.9, linestyle=":", zorder=0)
                if axes is panels[-1]:
                    axes.annotate(
                        baseline, (1, loss), (4, 0), xycoords=axes.get_yaxis_transform(), va="center",
                        textcoords="offset points", fontsize=8, color=look.quiet,
                    )  # fmt: skip
            axes.set(xlabel="step", title=name)
            axes.xaxis.set_major_locator(MaxNLocator(3, integer=True))
        panels[0].set_ylabel("loss (nats a token)")
        handles, labels = panels[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=2)
    return figure
