"""Pictures of lesson 9: how much text a token holds."""

from collections.abc import Mapping

from handgrad.plots import style
from handgrad.plots.style import Picture


def bytes_a_token(by_size: Mapping[int, float]) -> Picture:
    """Bytes a token against the size of the vocabulary, on a logarithmic axis."""
    with style.drawing() as look:
        figure = style.figure(5.6, 3.3)
        axes = figure.add_subplot()
        axes.semilogx(list(by_size), list(by_size.values()), "o-", color=look.series[0], base=2)
        axes.set_xticks(list(by_size), [f"{size:,}" for size in by_size])
        axes.minorticks_off()
        axes.set(xlabel="vocabulary", ylabel="bytes a token", ylim=(0, None))
    return figure
