"""The loss of a run against its steps, beside its baselines."""

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np

from handgrad.plots import style
from handgrad.plots.style import Picture
from handgrad.shapes import Float

Losses: TypeAlias = Sequence[tuple[int, float]]
"""(step, loss) pairs, in nats a token."""

N_BINS = 200


def draw(training: Losses, validation: Losses, baselines: Mapping[str, float]) -> Picture:
    """The training loss, averaged over neighbouring steps; every validation loss; baselines, dashed."""
    with style.drawing() as look:
        figure = style.figure(7.2, 4.2)
        axes = figure.add_subplot()
        if training:
            axes.plot(
                *_smoothed(np.array(training)).T,
                color=look.background,
                linewidth=1.2,
                label="training, mean of a few steps",
            )
        if validation:
            name = f"validation, {validation[-1][1]:.3f} at the end"
            axes.plot(*np.array(validation).T, color=look.series[0], marker="o", markersize=4, label=name)
        for name, loss in baselines.items():
            axes.axhline(loss, color=look.quiet, linewidth=0.9, linestyle="--", zorder=0)
            beside: dict[str, Any] = {
                "xycoords": axes.get_yaxis_transform(),
                "textcoords": "offset points",
                "va": "center",
            }
            axes.annotate(f"{name} {loss:.2f}", (1, loss), (4, 0), fontsize=8, color=look.quiet, **beside)
        axes.set(xlabel="step", ylabel="loss (nats a token)", title="Loss")
        if training or validation:
            axes.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=2, borderaxespad=0.2)
    return figure


def _smoothed(points: Float[np.ndarray, "N 2"]) -> Float[np.ndarray, "M 2"]:
    """The means of `N_BINS` groups of neighbouring points: single batches are too noisy to read."""
    return np.array([part.mean(axis=0) for part in np.array_split(points, min(N_BINS, len(points)))])
