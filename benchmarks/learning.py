"""Do precisions learn the same? The curves of two or more runs over each other, and their differences below.

    python benchmarks/learning.py runs/float32 runs/auto --out docs/images/learning.svg

The first run is what the others are compared with. Runs of one seed see the same batches and drop the same
activations, so that the difference of two losses of a step is what the precision makes of it. Prints the last
losses as Markdown.
"""

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from handgrad.plots import style
from handgrad.plots.style import Picture
from handgrad.training import metrics

NEIGHBOURS = 20
"""Steps whose mean is drawn: single batches are too noisy to read."""
MARKERS = "os^Dvp"
ALLOWED = 0.01
"""Last losses may differ by so much, in nats a token."""


@dataclass(frozen=True)
class Curve:
    """What a run learned."""

    name: str
    training: dict[int, float]
    """The loss of each step, in nats a token."""
    validation: dict[int, float]

    @property
    def last(self) -> float:
        """The last validation loss."""
        return self.validation[max(self.validation)]


def read(folder: Path) -> Curve:
    """A run's curve, named after its precision; of a run still training, as far as it is."""
    training, validation = metrics.losses(metrics.read(folder))
    name = json.loads((folder / "config.json").read_text(encoding="utf-8"))["precision"]
    return Curve(name, dict(training), dict(validation))


def draw(curves: Sequence[Curve]) -> Picture:
    """Above the losses, below by how much they differ from the first run's."""
    with style.drawing() as look:
        figure = style.figure(9.0, 5.0)
        above, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 2))
        for i, curve in enumerate(curves):
            _losses(above, curve, i)
        for i, curve in enumerate(curves[1:], start=1):
            _difference(below, curves[0], curve, i)
        allowed = f"within {ALLOWED:g}"
        below.axhspan(-ALLOWED, ALLOWED, color=look.grid, alpha=0.6, linewidth=0, zorder=0, label=allowed)
        below.axhline(0.0, color=look.quiet, linewidth=0.8)
        above.set(ylabel="loss (nats a token)", title="Loss, and how it differs")
        below.set(xlabel="step", ylabel=f"minus that of {curves[0].name}")
        for axes in (above, below):
            axes.legend(loc="upper left", bbox_to_anchor=(1, 1))
    return figure


def _losses(axes: Axes, curve: Curve, i: int) -> None:
    """Training as a line, every validation loss as a mark; the first run's are wide and lie behind."""
    line, mark = _signs(i)
    if i == 0:
        line, mark = line | {"linewidth": 3.0, "alpha": 0.45}, mark | {"markersize": 9, "fillstyle": "none"}
    axes.plot(*smoothed(curve.training), **line, label=f"{curve.name}, training")
    label = f"{curve.name}, validation: {curve.last:.3f} after step {max(curve.validation):,}"
    axes.plot(*np.array(sorted(curve.validation.items())).T, **mark, label=label)


def _difference(axes: Axes, first: Curve, curve: Curve, i: int) -> None:
    line, mark = _signs(i)
    training = smoothed(_minus(curve.training, first.training))
    axes.plot(*training, **line, label=f"{curve.name}, training")
    steps, differences = np.array(sorted(_minus(curve.validation, first.validation).items())).T
    label = f"{curve.name}, validation: {differences[-1]:+.4f} after step {steps[-1]:,.0f}"
    axes.plot(steps, differences, **mark, label=label)


def _signs(i: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """How a run's line and its marks look."""
    colour = style.look().series[i]
    line = {"color": colour, "linestyle": style.DASHES[i], "linewidth": 1.3}
    return line, {"color": colour, "linestyle": "none", "marker": MARKERS[i], "markersize": 5}


def smoothed(losses: dict[int, float]) -> np.ndarray:
    """The means over each `NEIGHBOURS` steps: (2, n) of steps and losses."""
    points = np.array(sorted(losses.items()))
    whole = points[: len(points) // NEIGHBOURS * NEIGHBOURS]
    return whole.reshape(-1, NEIGHBOURS, 2).mean(axis=1).T


def _minus(losses: dict[int, float], others: dict[int, float]) -> dict[int, float]:
    """The differences at the steps that both have."""
    return {step: loss - others[step] for step, loss in losses.items() if step in others}


def table(curves: Sequence[Curve]) -> str:
    """The losses of the last evaluation that all runs have, as Markdown."""
    step = max(set.intersection(*(set(curve.validation) for curve in curves)))
    rows = [f"| precision | validation loss after step {step:,} | minus {curves[0].name} |", "|---|---|---|"]
    for curve in curves:
        loss = curve.validation[step]
        rows.append(f"| {curve.name} | {loss:.4f} | {loss - curves[0].validation[step]:+.4f} |")
    return "\n".join(rows)


def main() -> None:
    options = argparse.ArgumentParser(description="The curves of runs over each other.")
    options.add_argument("runs", nargs="+", type=Path, help="folders of runs; the first is compared with")
    options.add_argument("--out", type=Path, default=Path("learning.svg"), help="the picture: svg or png")
    given = options.parse_args()
    curves = [read(folder) for folder in given.runs]
    print(table(curves))
    draw(curves).savefig(given.out)


if __name__ == "__main__":
    main()
