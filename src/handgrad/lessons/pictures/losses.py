"""Pictures of lesson 8: the noise behind squared error, divergence, and losses through a sigmoid."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from handgrad.foundations.descent import Function, Path, height
from handgrad.ops import cross_entropy, sigmoid, softmax_cross_entropy
from handgrad.plots import descent, marks, style
from handgrad.plots.descent import Window
from handgrad.plots.losses import ValueAndSlope, along, squared
from handgrad.plots.style import Picture
from handgrad.shapes import Array, Float

MAP_SIDE = 81
"""Points along each side of a map."""
N_LEVELS = 16


def normal_noise(
    x: Float[Array, " N"], targets: Float[Array, " N"], line: Callable[[Any], Any], *, deviation: float
) -> Picture:
    """Points about a line, and what squared error assumes: at every x a normal distribution of targets.

    The distributions lie on their sides; the line gives their means.
    """
    with style.drawing() as look:
        figure = style.figure(6.4, 4.0)
        axes = figure.add_subplot()
        ends = np.array([float(np.min(x)), float(np.max(x))])
        span = ends[1] - ends[0]
        axes.plot(ends, line(ends), color=look.ink, label="prediction")
        spread = np.linspace(-3.0, 3.0, 121)
        for number, at in enumerate(np.linspace(ends[0], ends[1], 6)[1:-1]):
            heights, bell = line(at) + deviation * spread, 0.13 * span * np.exp(-(spread**2) / 2)
            axes.plot([at, at], heights[[0, -1]], color=look.quiet, linewidth=0.8)
            axes.fill_betweenx(heights, at, at + bell, color=look.sides[0])
            name = "density of the targets" if number == 0 else None
            axes.plot(at + bell, heights, color=look.series[1], linestyle="--", label=name)
        axes.plot(x, targets, "o", markersize=5, color=look.series[0], label="target")
        axes.set(xlabel="$x$", ylabel="$y$")
        figure.legend(loc="outside lower center", ncols=3)
    return figure


def divergence(p: float = 0.7) -> Picture:
    """What it costs to expect heads with probability q of a coin that shows them with probability p.

    The lowest point is at q = p; its height is the coin's entropy. What lies above is the Kullback-Leibler
    divergence, the price of being wrong about the coin.
    """
    q = np.linspace(0.005, 0.995, 199)
    truth = np.array([[p, 1 - p]])
    cost = np.array([cross_entropy.forward(np.array([[a, 1 - a]]), truth)[0] for a in q])
    entropy = float(cross_entropy.forward(truth, truth)[0])
    with style.drawing() as look:
        figure = style.figure(6.4, 4.0)
        axes = figure.add_subplot()
        axes.fill_between(q, entropy, cost, color=look.sides[0], label="divergence from $p$ to $q$")
        axes.plot(q, cost, color=look.series[1], label="cross-entropy $H(p, q)$")
        words = f"entropy $H(p)$ = {entropy:.3f} nats"
        axes.axhline(entropy, color=look.series[0], linestyle="--", label=words)
        axes.plot(p, entropy, "o", color=look.series[0], label="$q = p$")
        axes.set_title(f"the truth: $p = {p:g}$")
        axes.set(xlabel="predicted probability $q$", ylabel="nats", xlim=(0, 1), ylim=(0, 4))
        axes.legend(loc="upper center")
    return figure


def through_sigmoid() -> Picture:
    """Squared error and cross-entropy of one logit through a sigmoid with the target 1, and their slopes.

    On the left of both pictures the answer is as wrong as can be: there cross-entropy is steepest, with a
    slope of nearly -1, and squared error is flat.
    """
    z = np.linspace(-8.0, 6.0, 281)
    losses = {"squared error": _squared_of_logit, "cross-entropy": _entropy_of_logit}
    with style.drawing() as look:
        figure = style.figure(7.2, 3.8)
        left, right = figure.subplots(1, 2, sharex=True)
        for (name, loss), line in zip(losses.items(), marks.lines(), strict=False):
            values, slopes = along(z, loss)
            left.plot(z, values, **line, label=name)
            right.plot(z, slopes, **line, label=name)
        left.plot(z, 1.0 * (z < 0), color=look.quiet, linestyle=":", label="mistakes counted")
        left.set(title="loss", xlabel="logit $z$, target 1", ylim=(-0.15, 4))
        right.set(title="slope $dL/dz$", xlabel="logit $z$, target 1", ylim=(-1.1, 0.1))
        for axes in (left, right):
            axes.set_xticks([-8, -4, 0, 4])
            axes.grid(visible=True)
        handles, labels = left.get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=3)
    return figure


def learning(probs: Mapping[str, Float[Array, " n_steps"]]) -> Picture:
    """The probability of the right answer after every step, a line for each loss that was trained with."""
    with style.drawing():
        figure = style.figure(6.4, 3.8)
        axes = figure.add_subplot()
        for (name, p), line in zip(probs.items(), marks.lines(), strict=False):
            axes.plot(p, **line, label=name)
        axes.set(xlabel="step", ylabel="probability of the right answer", ylim=(-0.03, 1.03))
        axes.grid(visible=True)
        axes.legend(loc="center right")
    return figure


def surfaces(
    losses: Mapping[str, Function], paths: Mapping[str, Path], *, window: Window, axes_names: tuple[str, str]
) -> Picture:
    """Maps of losses of two weights, each with the walk of the same name, from open circle to full one.

    Deeper is darker. Lines of equal height are equally far apart in height: where there are none, the ground
    is level.
    """
    x, y = np.meshgrid(*(np.linspace(*side, MAP_SIDE) for side in window))
    points = np.stack([x, y], -1).reshape(-1, 2)
    with style.drawing() as look:
        figure = style.figure(7.2, 4.0)
        panels = figure.subplots(1, len(losses), sharex=True, sharey=True, squeeze=False)[0]
        for panel, (name, loss) in zip(panels, losses.items(), strict=True):
            z = np.array([height(loss, point) for point in points]).reshape(x.shape)
            filled = panel.contourf(x, y, z, N_LEVELS, cmap=look.depths)
            panel.contour(x, y, z, N_LEVELS, colors=look.contour, linewidths=0.5)
            bar = marks.scale_bar(figure, filled, "loss", orientation="horizontal", format="%.2g", shrink=0.9)
            bar.ax.locator_params(nbins=5)
            descent.draw_walk(panel, paths[name].positions.T, {"color": look.series[0]})
            panel.set(title=name, xlabel=axes_names[0], xlim=window[0], ylim=window[1])
        panels[0].set_ylabel(axes_names[1])
    return figure


def _squared_of_logit(z: float) -> ValueAndSlope:
    """(sigma(z) - 1)^2, its slope carried back through the sigmoid."""
    y, saved = sigmoid.forward(np.array([z]))
    loss, slope = squared(float(y[0]), 1.0)
    return loss, float(sigmoid.backward(np.array([slope]), saved)[0][0])


def _entropy_of_logit(z: float) -> ValueAndSlope:
    """-ln sigma(z): two classes, the other's logit is zero."""
    loss, saved = softmax_cross_entropy.forward(np.array([[0.0, z]]), np.array([1]))
    return float(loss), float(softmax_cross_entropy.backward(1.0, saved)[0][0, 1])
