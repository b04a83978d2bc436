"""Pictures of the lesson on scaling: losses by arithmetic, a law beside what was measured, the best size."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from handgrad.plots import marks, style
from handgrad.plots.style import Picture

Point = tuple[int, int, float]
"""Weights, tokens, loss."""
Law = Callable[[float, float], float]


def by_compute(points: Mapping[int, Sequence[Point]]) -> Picture:
    """The loss against the operations of the training, a line for each size."""
    with style.drawing() as look:
        figure = style.figure(6.0, 3.8)
        axes = figure.add_subplot()
        for row, line in zip(points.values(), marks.lines(), strict=False):
            n, d, losses = np.array(row, float).T
            axes.semilogx(6 * n * d, losses, **line, marker="o", markersize=4, label=f"{n[0]:,.0f}")
        axes.set(xlabel="operations", ylabel="validation loss (nats a token)")
        axes.grid(visible=True, color=look.grid)
        figure.legend(title="weights", loc="outside right upper")
    return figure


def fitted(points: Mapping[int, Sequence[Point]], law: Law) -> Picture:
    """Measured losses against what the law says; both agree on the diagonal. The last size is drawn full."""
    with style.drawing() as look:
        figure = style.figure(4.6, 4.2)
        axes = figure.add_subplot(aspect="equal")
        *_, last = points
        every = [point for row in points.values() for point in row]
        ends = [min(loss for *_, loss in every) - 0.1, max(loss for *_, loss in every) + 0.1]
        axes.plot(ends, ends, color=look.quiet, linewidth=1)
        for size, row in points.items():
            said, measured = [law(n, d) for n, d, _ in row], [loss for *_, loss in row]
            face = look.series[0] if size == last else look.paper
            axes.plot(said, measured, "o", color=look.series[0], markerfacecolor=face)
        axes.set(xlabel="by the law", ylabel="measured", xlim=ends, ylim=ends)
    return figure


def valley(operations: float, law: Law) -> Picture:
    """The loss that the law gives each size for so many operations; the best size is marked."""
    n = np.geomspace(1e3, 1e7, 401)
    losses = np.array([law(each, operations / (6 * each)) for each in n])
    best = int(np.argmin(losses))
    with style.drawing() as look:
        figure = style.figure(5.6, 3.4)
        axes = figure.add_subplot()
        axes.semilogx(n, losses, color=look.series[0])
        axes.plot(n[best], losses[best], "o", color=look.series[1])
        tokens = operations / (6 * n[best])
        axes.set_title(f"best: {n[best]:,.0f} weights, {tokens:,.0f} tokens", fontsize=10)
        axes.set(xlabel="weights", ylabel="loss by the law", ylim=(losses[best] - 0.1, losses[best] + 1.5))
    return figure
