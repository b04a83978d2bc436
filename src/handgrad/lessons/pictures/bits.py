"""Pictures of the lesson on fewer bits and guesses: losses by bits, and what guessing ahead gains."""

from collections.abc import Mapping, Sequence

import numpy as np

from handgrad.plots import marks, style
from handgrad.plots.style import Picture


def losses_by_bits(losses: Mapping[int, float], whole: float) -> Picture:
    """The loss of a model whose weights have so many bits; the line is that of all bits."""
    with style.drawing() as look:
        figure = style.figure(5.6, 3.3)
        axes = figure.add_subplot()
        axes.axhline(whole, color=look.quiet, linestyle="--", label="32 bits")
        axes.plot(list(losses), list(losses.values()), "o-", color=look.series[0], label="in blocks of 32")
        axes.set(xlabel="bits a weight", ylabel="loss (nats a token)")
        axes.set_xticks(sorted(losses))
        axes.invert_xaxis()
        figure.legend(loc="outside upper center", ncols=2)
    return figure


def gain(guesses: int, costs: Sequence[float]) -> Picture:
    """Tokens for each time that the model alone would take, against how often a guess is kept.

    A line for each cost of a guess, in passes of the model.
    """
    kept = np.linspace(0.0, 0.99, 100)
    tokens = (1 - kept ** (guesses + 1)) / (1 - kept)
    with style.drawing() as look:
        figure = style.figure(5.6, 3.4)
        axes = figure.add_subplot()
        axes.axhline(1.0, color=look.quiet, linewidth=0.8)
        for cost, line in zip(costs, marks.lines(), strict=False):
            axes.plot(kept, tokens / (1 + guesses * cost), **line, label=f"a guess costs {cost:.0%}")
        axes.set(xlabel="share of guesses kept", ylabel="times as fast", xlim=(0, 1), ylim=(0, 9))
        figure.legend(loc="outside upper center", ncols=3)
    return figure
