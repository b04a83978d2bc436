"""The loss of a run against its steps, beside what writers who know little would reach."""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from handgrad.plots import style
from handgrad.plots.style import Picture

N_BINS = 200


def draw(rows: Iterable[Mapping[str, Any]], baselines: Mapping[str, float]) -> Picture:
    """Both losses from the rows of metrics.jsonl, in nats a token; baselines as dashed lines."""
    rows = list(rows)
    steps = np.array([(row["step"], row["loss"]) for row in rows if "loss" in row]).reshape(-1, 2)
    judged = [(row["step"], row["validation_loss"]) for row in rows if "validation_loss" in row]
    with style.drawing() as look:
        figure = style.figure(7.2, 4.2)
        axes = figure.add_subplot()
        if len(steps):
            axes.plot(
                *_smoothed(steps).T,
                color=look.background,
                linewidth=1.2,
                label="training, mean of a few steps",
            )
        if judged:
            name = f"validation, {judged[-1][1]:.3f} at the end"
            axes.plot(*np.array(judged).T, color=look.series[0], marker="o", markersize=4, label=name)
        for name, loss in baselines.items():
            axes.axhline(loss, color=look.quiet, linewidth=0.9, linestyle="--", zorder=0)
            beside: dict[str, Any] = {
                "xycoords": axes.get_yaxis_transform(),
                "textcoords": "offset points",
                "va": "center",
            }
            axes.annotate(f"{name} {loss:.2f}", (1, loss), (4, 0), fontsize=8, color=look.quiet, **beside)
        axes.set(xlabel="step", ylabel="loss (nats a token)", title="Loss")
        axes.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=2, borderaxespad=0.2)
    return figure


def _smoothed(points: np.ndarray) -> np.ndarray:
    """The means of `N_BINS` runs of neighbouring points: single batches are too noisy to read."""
    return np.array([part.mean(axis=0) for part in np.array_split(points, min(N_BINS, len(points)))])
