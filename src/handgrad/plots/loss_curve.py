"""The loss of a run against its steps, beside its baselines, in nats a token and in bits a byte."""

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
from matplotlib.axes import Axes

from handgrad.plots import style
from handgrad.plots.style import Picture
from handgrad.shapes import Float

Losses: TypeAlias = Sequence[tuple[float, float]]
"""(step, loss) pairs, in nats a token."""

N_BINS = 200
LEAST_GAP = 0.045
"""Names of baselines are so far apart, as a share of the axis, however near the baselines are."""


def draw(
    training: Losses, validation: Losses, baselines: Mapping[str, float], bits_per_nat: float
) -> Picture:
    """The training loss, averaged over neighbouring steps; every validation loss; baselines, dashed.

    The right axis is in bits a byte, `bits_per_nat` for each nat a token.
    """
    with style.drawing() as look:
        figure = style.figure(8.0, 4.6)
        axes = figure.add_subplot()
        if training:
            axes.plot(
                *smoothed(training).T,
                color=look.background,
                linewidth=1.2,
                label="training, mean of a few steps",
            )
        if validation:
            last = validation[-1][1]
            name = f"validation, {last:.3f} at the end, {last * bits_per_nat:.3f} bits a byte"
            axes.plot(*np.array(validation).T, color=look.series[0], marker="o", markersize=4, label=name)
        for loss in baselines.values():
            axes.axhline(loss, color=look.quiet, linewidth=0.9, linestyle="--", zorder=0)
        axes.set(xlabel="step", ylabel="loss (nats a token)")
        in_bits(axes, bits_per_nat)
        _name(axes, baselines)
        if training or validation:
            axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=2, borderaxespad=0.2)
    return figure


def smoothed(points: Losses, n_bins: int = N_BINS) -> Float[np.ndarray, "M 2"]:
    """The means of `n_bins` groups of neighbouring points: single batches are too noisy to read."""
    parts = np.array_split(np.array(points, dtype=float), min(n_bins, len(points)))
    return np.array([part.mean(axis=0) for part in parts])


def in_bits(axes: Axes, bits_per_nat: float) -> None:
    """A right axis in bits a byte, for a left one in nats a token."""
    functions = (lambda nats: nats * bits_per_nat, lambda bits: bits / bits_per_nat)
    right = axes.secondary_yaxis("right", functions=functions)
    right.set_ylabel("bits a byte")
    right.spines["right"].set_visible(True)


def _name(axes: Axes, baselines: Mapping[str, float]) -> None:
    """Names and losses of the baselines, right of the right axis, pushed up where two are too near."""
    low, high = axes.get_ylim()
    place = -np.inf
    for name, loss in sorted(baselines.items(), key=lambda item: item[1]):
        place = max((loss - low) / (high - low), place + LEAST_GAP)
        beside: dict[str, Any] = {"xycoords": "axes fraction", "textcoords": "offset points", "va": "center"}
        colour = style.look().quiet
        axes.annotate(f"{name} {loss:.2f}", (1, place), (46, 0), fontsize=8, color=colour, **beside)
