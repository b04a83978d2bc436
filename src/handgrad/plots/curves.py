"""The losses of several runs over each other, against their steps, tokens or seconds."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import EngFormatter

from handgrad.plots import marks, style
from handgrad.plots.loss_curve import Losses, in_bits, smoothed
from handgrad.plots.style import Picture

MARKERS = "os^Dvp"
N_BINS = 100
BEGINNING = 0.1
"""The share of the picture's width whose losses may lie above it: runs are told apart by their ends."""
SAME = 1e-6
"""Relative difference of bits a nat up to which tokens are the same tokenizer's, of the same text."""


class Curve(NamedTuple):
    """The losses of a run, in nats a token."""

    name: str
    training: Losses
    validation: Losses
    bits_per_nat: float
    """Bits a byte of one nat a token."""


def draw(curves: Sequence[Curve], along: str) -> Picture:
    """Training losses, smoothed, pale; validation losses with marks; in the legend the last ones.

    `along` names the horizontal axis. Runs with the same tokens are in nats a token, and on the right in bits
    a byte; others compare in bits a byte alone.
    """
    bits = curves[0].bits_per_nat
    same_tokens = all(math.isclose(curve.bits_per_nat, bits, rel_tol=SAME) for curve in curves)
    if not same_tokens:
        curves = [_in_bits(curve) for curve in curves]
    with style.drawing():
        figure = style.figure(8.0, 4.6)
        axes = figure.add_subplot(
            xlabel=along, ylabel=f"loss ({'nats a token' if same_tokens else 'bits a byte'})"
        )
        for i, (curve, line) in enumerate(zip(curves, marks.lines(), strict=False)):
            _plot(axes, curve, line | {"marker": MARKERS[i % len(MARKERS)]})
        axes.set_ylim(top=_highest(curves))
        axes.xaxis.set_major_formatter(EngFormatter(sep=""))
        if same_tokens:
            in_bits(axes, bits)
        axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=1 if len(curves) < 3 else 2)
    return figure


def _in_bits(curve: Curve) -> Curve:
    training, validation = (
        [(x, loss * curve.bits_per_nat) for x, loss in points]
        for points in (curve.training, curve.validation)
    )
    return Curve(curve.name, training, validation, 1.0)


def _plot(axes: Axes, curve: Curve, line: dict[str, Any]) -> None:
    if curve.training:
        label = None if curve.validation else f"{curve.name}: no validation yet"
        pale = {"color": line["color"], "linewidth": 1.0, "alpha": 0.4}
        axes.plot(*smoothed(curve.training, N_BINS).T, **pale, label=label)
    if curve.validation:
        label = f"{curve.name}: {curve.validation[-1][1]:.3f}"
        axes.plot(*np.array(curve.validation).T, **line, linewidth=1.4, markersize=4.5, label=label)


def _highest(curves: Sequence[Curve]) -> float:
    """Above all that is drawn after the beginning."""
    drawn = [points for curve in curves for points in (curve.training, curve.validation) if points]
    x, losses = np.concatenate([smoothed(points) for points in drawn]).T
    later = losses[x >= BEGINNING * x.max()]
    return later.max() + 0.1 * (later.max() - later.min()) + 0.01
