"""Draw minutes.svg, losses against time, from runs and from what the PyTorch peer printed.

    python docs/images/minutes.py runs/one-minute runs/ten-minutes --torch torch.log

A log has a line of JSON for each training of PyTorch's: its curve, and its loss after all seconds.
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullLocator

from handgrad.plots import style
from handgrad.training import run

NANOGPT = 1.4697
"""Its README's best on this text, by an A100."""


def draw(folders: Sequence[Path], logs: Sequence[Path]) -> Figure:
    """The validation loss of every run against the minutes since its command began; each end is a dot."""
    lines = [line for log in logs for line in log.read_text(encoding="utf-8").splitlines()]
    peers = [json.loads(line) for line in lines if line.startswith("{")]
    with style.drawing() as look:
        figure = style.figure(7, 4.2)
        axes = figure.add_subplot()
        for number, folder in enumerate(folders):
            rows = [row for row in run.about(folder).evaluations if row.step]
            curve = [(row.seconds / 60, row.validation_loss) for row in rows]
            _plot(
                axes, curve, style.BLUE, "-", None if number else "handgrad, by how many minutes it was given"
            )
        for number, peer in enumerate(peers):
            points = [
                *((seconds, loss) for _, seconds, loss in peer["curve"]),
                (peer["seconds"], peer["validation_loss"]),
            ]
            curve = [((peer["warm_up_seconds"] + seconds) / 60, loss) for seconds, loss in points]
            _plot(
                axes,
                curve,
                style.VERMILION,
                "--",
                None if number else "PyTorch, compiled, bfloat16: nanoGPT's baby",
            )
        axes.axhline(NANOGPT, color=look.quiet, linewidth=0.8, linestyle=":")
        axes.annotate(
            f"{NANOGPT}: nanoGPT's best, on an A100",
            (0.17, NANOGPT),
            (0, -10),
            textcoords="offset points",
            fontsize=8,
        )
        axes.set(xscale="log", xlabel="minutes on two cores", ylabel="validation loss (nats a character)")
        axes.set_xticks([0.5, 1, 2, 3, 5, 10, 20, 30])
        axes.xaxis.set_major_formatter(FuncFormatter(lambda minutes, _: f"{minutes:g}"))
        axes.xaxis.set_minor_locator(NullLocator())
        figure.legend(loc="outside upper center", ncols=2)
    return figure


def _plot(axes, curve, colour, dashes, label):
    axes.plot(*zip(*curve, strict=True), dashes, color=colour, linewidth=1.4, label=label)
    axes.plot(*curve[-1], "o", color=colour, markersize=5)


if __name__ == "__main__":
    options = argparse.ArgumentParser()
    options.add_argument("runs", type=Path, nargs="+")
    options.add_argument("--torch", type=Path, nargs="*", default=[])
    given = options.parse_args()
    draw(given.runs, given.torch).savefig(Path(__file__).with_suffix(".svg"))
