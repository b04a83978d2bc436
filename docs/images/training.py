"""Draw training.png, the README's picture, from a run: python docs/images/training.py runs/NAME

The run in the README: handgrad train tinyshakespeare.txt --preset nano --seed 1337
"""

import sys
import textwrap
from pathlib import Path

from matplotlib.figure import Figure

from handgrad.plots import style
from handgrad.training import run

SHOWN = (0, 1, -1)
"""Which evaluations: the first, the second, the last."""


def draw(folder: Path) -> Figure:
    """Left the validation loss, right what the model wrote at the evaluations that are marked."""
    about = run.about(folder)
    evaluations = about.evaluations
    with style.drawing() as look:
        figure = Figure(figsize=(10, 3.1), dpi=150, facecolor=look.paper)
        axes = figure.add_axes((0.06, 0.16, 0.26, 0.78))
        steps, losses = ([getattr(row, name) for row in evaluations] for name in ("step", "validation_loss"))
        axes.plot(steps, losses, color=style.BLUE, marker="o", markersize=3.5)
        for name, loss in about.config.baselines.items():
            axes.axhline(loss, color=look.quiet, linewidth=0.8, linestyle="--", zorder=0)
            axes.annotate(name, (steps[-1], loss), (0, 3), textcoords="offset points", ha="right", fontsize=8)
        axes.set(xlabel="step", ylabel="validation loss (nats a character)")
        for i, number in enumerate(SHOWN):
            row = evaluations[number]
            axes.plot(row.step, row.validation_loss, "o", color=style.VERMILION, markersize=7)
            left = 0.37 + 0.215 * i
            figure.text(left, 0.9, f"after {row.step:,} steps: {row.validation_loss:.2f}", weight="bold")
            figure.text(
                left,
                0.82,
                excerpt(row.sample),
                va="top",
                family="monospace",
                fontsize=7.5,
                linespacing=1.4,
            )
    return figure


def excerpt(text: str) -> str:
    """The first lines, folded to the column."""
    lines = [part for line in text.strip("\n").split("\n") for part in textwrap.wrap(line, 29) or [""]]
    return "\n".join(lines[:16]).replace("$", r"\$")


if __name__ == "__main__":
    draw(Path(sys.argv[1])).savefig(Path(__file__).with_suffix(".png"))
