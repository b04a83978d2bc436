"""Pictures of lesson 15: batches, baselines, averages, learning rates, lengths of gradients, losses."""

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, MaxNLocator

from handgrad.plots import marks, style
from handgrad.plots.style import Picture
from handgrad.shapes import Float

Row: TypeAlias = tuple[int, float | None, float]
"""Step, mean training loss since the row before (the first has none), validation loss."""


def batch(text: str, starts: Sequence[int], context_length: int) -> Picture:
    """A batch as it is cut from a text: above the text, its windows in brackets; below the windows.

    Targets are the inputs one place further on. Every column is a guess: from the inputs up to this one, the
    target below it.
    """
    with style.drawing():
        figure = style.figure(5.6, 1.0 + 0.85 * len(starts))
        strip, table = figure.subplots(2, height_ratios=(0.5 + 0.25 * len(starts), 0.75 * len(starts)))
        for place, character in enumerate(text):
            strip.text(place, 0, marks.visible(character), ha="center", va="center", **_ink(character))
        for number, (start, line) in enumerate(zip(starts, marks.lines(), strict=False)):
            _window(strip, number, start, start + context_length - 1, line)
            _guesses(table, number, text[start : start + context_length + 1], line)
        strip.set(xlim=(-1, len(text)), ylim=(-len(starts) - 0.7, 0.7))
        table.set(xlim=(-3.5, context_length), ylim=(2.6 * len(starts) - 0.6, 0.0))
        strip.set_axis_off()
        table.set_axis_off()
    return figure


def _ink(character: str) -> dict[str, Any]:
    """How a character is written; those without ink have a quiet sign."""
    colour = style.look().quiet if character.isspace() else style.look().ink
    return {"family": "monospace", "fontsize": 8.5, "color": colour}


def _window(axes: Axes, number: int, first: int, last: int, line: dict[str, Any]) -> None:
    """A bracket under the characters from `first` to `last`."""
    bottom = -1.0 - number
    corners = (first - 0.4, first - 0.4, last + 0.4, last + 0.4)
    axes.plot(corners, (bottom + 0.4, bottom, bottom, bottom + 0.4), **line)


def _guesses(axes: Axes, number: int, window: str, line: dict[str, Any]) -> None:
    """Inputs and targets of a window, character below character."""
    look, top = style.look(), 2.6 * number
    axes.plot((-3.3, -3.3), (top + 0.1, top + 1.9), **line)
    for row, (name, characters) in enumerate((("inputs", window[:-1]), ("targets", window[1:]))):
        axes.text(-0.3, top + row + 0.5, name, fontsize=9, ha="right", va="center")
        for place, character in enumerate(characters):
            corner, ground = (place, top + row), look.sides[row]
            marks.box(
                axes, corner, marks.visible(character), ground=ground, edge=look.paper, **_ink(character)
            )


def baselines(losses: Mapping[str, float]) -> Picture:
    """Losses as bars, and beside each the number of equally likely choices that would be as hard."""
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
    """Noisy numbers as dots, one a step, and several averages of them as curves."""
    with style.drawing() as look:
        figure = style.figure(5.6, 3.5)
        axes = figure.add_subplot()
        steps = np.arange(1, len(values) + 1)
        axes.plot(steps, values, "o", color=look.background, markersize=3, alpha=0.7, label="gradient")
        for (name, curve), line in zip(curves.items(), marks.lines(), strict=False):
            axes.plot(steps, curve, **line, label=name, path_effects=look.halo)
        axes.axhline(0, color=look.quiet, linewidth=0.8)
        axes.set(xlabel="step", xlim=(0, len(values) + 1))
        axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=3)
    return figure


def learning_rates(rates: Mapping[str, Sequence[float]]) -> Picture:
    """Learning rates against the steps, one line for each schedule."""
    with style.drawing():
        figure = style.figure(5.6, 3.3)
        axes = figure.add_subplot()
        for (name, rate), line in zip(rates.items(), marks.lines(), strict=False):
            axes.plot(rate, **line, label=name)
        highest = max(max(rate) for rate in rates.values())
        axes.set(xlabel="step", ylabel="learning rate", ylim=(0, 1.08 * highest))
        axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=3)
    return figure


def gradient_norms(norms: Sequence[float], max_norm: float) -> Picture:
    """The length of the gradient at every step; a line at `max_norm`, to which longer ones are clipped."""
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

    Where both fall, the model learns; where the training loss falls and the validation loss rises, it
    overfits.
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
