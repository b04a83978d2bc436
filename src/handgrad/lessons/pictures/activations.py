"""Pictures of lesson 7: activations compared, gradients deep in a stack, units that no input reaches."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.ticker import MaxNLocator

from handgrad.ops import softmax
from handgrad.plots import marks, style
from handgrad.plots.activations import sampled
from handgrad.plots.style import Picture
from handgrad.shapes import Array, Float

MARKERS = "os^Dv*"
UNIT, UNREACHED = "unit", "unit that no input reaches"


def compare(names: Sequence[str] = ("relu", "gelu", "silu")) -> Picture:
    """Several activations upon each other: their values on the left, their slopes on the right."""
    window = (-4.0, 4.0)
    with style.drawing():
        figure = style.figure(7.2, 3.8)
        left, right = figure.subplots(1, 2)
        for name, line in zip(names, marks.lines(), strict=False):
            curve = sampled(name, None, window)
            left.plot(curve.x, curve.y, **line, label=name)
            right.plot(curve.x, curve.slope, **line, label=name)
        left.set(xlabel="$x$", title="$f(x)$", xlim=window)
        right.set(xlabel="$x$", title="$f'(x)$", xlim=window)
        for axes in (left, right):
            axes.grid(visible=True)
        handles, labels = left.get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=len(names))
    return figure


def gradients_by_layer(norms: Mapping[str, Sequence[float]]) -> Picture:
    """The length of the loss's gradient at every layer, first to last, on a logarithmic scale.

    On a level line every layer learns as much as the last one. On a line that falls towards the left the
    gradient shrinks on its way back, and the first layers hardly learn.
    """
    with style.drawing():
        figure = style.figure(6.4, 4.0)
        axes = figure.add_subplot()
        for (name, lengths), line, marker in zip(norms.items(), marks.lines(), MARKERS, strict=False):
            axes.semilogy(np.arange(1, len(lengths) + 1), lengths, **line, marker=marker, label=name)
        axes.set(xlabel="layer, from the input", ylabel="length of the gradient")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(visible=True)
        axes.legend(loc="lower right")
    return figure


def reach(
    x: Float[Array, " N"],
    z: Float[Array, "N F"],
    *,
    target: Float[Array, " N"],
    output: Float[Array, " N"],
) -> Picture:
    """A hidden layer over a single input x: left the units, right the network's output and its target.

    `z` is what enters each unit's activation. A unit whose line lies wholly below zero, dashed, is reached by
    no input.
    """
    with style.drawing() as look:
        figure = style.figure(7.2, 3.8)
        left, right = figure.subplots(1, 2)
        reached = np.any(z > 0, axis=0)
        top = 1.15 * max(1.0, float(np.max(z)))
        bottom = max(-3.0 * top, 1.15 * min(-1.0, float(np.min(z))))
        left.axhspan(bottom, 0.0, color=look.sides[0])
        left.axhline(0.0, color=look.quiet, linewidth=0.8)
        for line, alive in zip(z.T, reached, strict=True):
            colour, dashes = (look.series[1], "-") if alive else (look.series[0], "--")
            name = UNIT if alive else UNREACHED
            left.plot(x, line, color=colour, linestyle=dashes, linewidth=1.4, label=name)
        left.set(xlabel="$x$", ylabel="$z$ of every unit", xlim=(x[0], x[-1]), ylim=(bottom, top))
        left.set_title(f"{np.sum(~reached)} of {len(reached)} units unreached")
        right.plot(x, target, "o", markersize=3.5, color=look.quiet, label="target")
        right.plot(x, output, color=look.ink, label="network")
        right.set(xlabel="$x$", title=f"mean squared error {np.mean((output - target) ** 2):.4f}")
        signs: dict[str, Any] = {}
        for axes in (left, right):
            signs |= {name: sign for sign, name in zip(*axes.get_legend_handles_labels(), strict=True)}
        shown = [name for name in (UNIT, UNREACHED, "target", "network") if name in signs]
        figure.legend([signs[name] for name in shown], shown, loc="outside lower center", ncols=4)
    return figure


def temperature(logits: Sequence[float], temperature: float = 1.0) -> Picture:
    """The softmax of logits divided by a temperature, as bars; dashes show it at temperature one."""
    z = np.asarray(logits, dtype=np.float64)
    probs, _ = softmax.forward(z / temperature)
    plain, _ = softmax.forward(z)
    with style.drawing() as look:
        figure = style.figure(6.0, 3.6)
        axes = figure.add_subplot(title=f"temperature {temperature:g}")
        places = np.arange(len(z))
        axes.bar(places, probs, width=0.6, color=look.series[1])
        signs = {"color": look.series[0], "linestyles": "--", "linewidth": 1.8}
        axes.hlines(plain, places - 0.4, places + 0.4, **signs, label="at temperature 1")
        for place, p, q in zip(places, probs, plain, strict=True):
            above = max(p, q) if abs(p - q) < 0.08 else p  # where the dashes leave room, at the bar
            axes.text(float(place), above + 0.015, f"{p:.2f}", ha="center", fontsize=9)
        axes.set(ylabel="probability", ylim=(0, 1.12), xticks=places)
        axes.set_xticklabels([f"logit ${value:g}$" for value in z])
        axes.legend(loc="upper right")
    return figure
