"""Pictures of losses: their curves and slopes, the noise that squared error believes in, how far one
distribution is from another, and why softmax and cross-entropy belong together.

Losses and slopes are what the ops' own forwards and backwards return.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np

from handgrad.foundations.descent import Function, Path, height
from handgrad.ops import cross_entropy as cross_entropy_op
from handgrad.ops import mse as mse_op
from handgrad.ops import sigmoid, softmax_cross_entropy
from handgrad.plots import style
from handgrad.plots.descent import Window
from handgrad.shapes import Array, Float

ValueAndSlope: TypeAlias = tuple[float, float]

MAP_SIDE = 81
"""Points along each side of a map."""

N_LEVELS = 16


def mse(target: float = 1.0) -> style.Picture:
    """The squared error of one prediction, solid, and its slope, dashed: the farther off, the steeper."""
    at = target + np.linspace(-2.0, 2.0, 161)
    values, slopes = _along(at, lambda y: _squared(y, target))
    with style.drawing() as look:
        figure = style.figure(6.0, 4.0)
        axes: Any = figure.add_subplot(title=r"$L = (\hat{y}-y)^2$")
        _curves(axes, at, values, slopes, r"$dL/d\hat{y}$")
        axes.axvline(target, color=look.quiet, linewidth=1, linestyle=":")
        axes.annotate(
            f"target {target:g}", (target, 4.0), (5, -4), textcoords="offset points", color=look.quiet
        )
        axes.set(xlabel=r"prediction $\hat{y}$", xlim=(at[0], at[-1]))
        axes.legend(loc="lower right")
    return figure


def cross_entropy() -> style.Picture:
    """The loss $-\\ln p$ of the probability that the right class was given, solid, and its slope, dashed.

    Certainty costs nothing, one half costs one bit, and the price of a mistake made with certainty has no
    limit. The slope, $-1/p$, is cut off below.
    """
    at = np.linspace(0.004, 1.0, 250)
    values, slopes = _along(at, _surprise)
    with style.drawing() as look:
        figure = style.figure(6.0, 4.4)
        axes: Any = figure.add_subplot(title=r"$L = -\ln\,p$")
        _curves(axes, at, values, slopes, r"$dL/dp = -1/p$")
        for p in (0.5, 0.1, 0.01):
            loss, _ = _surprise(p)
            axes.plot(p, loss, "o", markersize=5, color=look.series[1])
            text = f"$p$ = {p:g}: {loss:.2f} nats"
            axes.annotate(text, (p, loss), (8, 5), textcoords="offset points", fontsize=9)
        axes.set(xlabel="probability $p$ of the right class", xlim=(0, 1), ylim=(-11, 6))
        axes.legend(loc="lower right")
    return figure


def normal_noise(
    x: Float[Array, " N"], targets: Float[Array, " N"], line: Callable[[Any], Any], *, deviation: float
) -> style.Picture:
    """Points about a line, and what squared error believes of them: at every x a normal distribution of
    targets, lying on its side, of which the line gives the mean.
    """
    with style.drawing() as look:
        figure = style.figure(6.4, 4.0)
        axes: Any = figure.add_subplot()
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


def divergence(p: float = 0.7) -> style.Picture:
    """What it costs to expect heads with probability q of a coin that shows them with probability p.

    The lowest point is at q = p, and its height is the coin's own entropy; what lies above it is the
    Kullback-Leibler divergence, the price of being wrong about the coin.
    """
    q = np.linspace(0.005, 0.995, 199)
    truth = np.array([[p, 1 - p]])
    cost = np.array([cross_entropy_op.forward(np.array([[a, 1 - a]]), truth)[0] for a in q])
    entropy = float(cross_entropy_op.forward(truth, truth)[0])
    with style.drawing() as look:
        figure = style.figure(6.4, 4.0)
        axes: Any = figure.add_subplot()
        axes.fill_between(q, entropy, cost, color=look.sides[0], label="divergence from $p$ to $q$")
        axes.plot(q, cost, color=look.series[1], label="cross-entropy $H(p, q)$")
        signs = {"color": look.series[0], "linestyle": "--"}
        axes.axhline(entropy, **signs, label=f"entropy $H(p)$ = {entropy:.3f} nats")
        axes.plot(p, entropy, "o", color=look.series[0], label="$q = p$")
        axes.set_title(f"the truth: $p = {p:g}$")
        axes.set(xlabel="predicted probability $q$", ylabel="nats", xlim=(0, 1), ylim=(0, 4))
        axes.legend(loc="upper center")
    return figure


def gradient(logits: Sequence[float] = (2.0, 1.0, 0.0, -1.0), target: int = 1) -> style.Picture:
    """Softmax and cross-entropy in one. Left: the probabilities, and the target as open bars. Right: the
    gradient by the logits, the one minus the other: the target's logit is to rise, all others are to sink.
    """
    z = np.asarray(logits, dtype=np.float64)
    loss, saved = softmax_cross_entropy.forward(z[None], np.array([target]))
    (dz,) = softmax_cross_entropy.backward(1.0, saved)
    places = np.arange(len(z))
    with style.drawing() as look:
        figure = style.figure(7.2, 3.8)
        left, right = figure.subplots(1, 2)
        signs = {"facecolor": "none", "edgecolor": look.series[0], "linestyle": "--", "linewidth": 1.5}
        left.bar(places, saved.probs[0], width=0.6, color=look.series[1], label="$p$")
        left.bar(target, 1.0, width=0.75, **signs, label="target")
        left.set(title=f"loss {loss:.3f} nats", ylabel="probability", ylim=(0, 1.25))
        left.legend(loc="upper right", ncols=2)
        colours = [look.series[0] if place == target else look.series[1] for place in places]
        right.bar(places, dz[0], width=0.6, color=colours)
        for place, slope in zip(places, dz[0], strict=True):
            words = {"ha": "center", "va": "bottom" if slope >= 0 else "top", "fontsize": 9}
            right.text(place, slope + (0.03 if slope >= 0 else -0.03), _number(slope), **words)
        right.axhline(0.0, color=look.quiet, linewidth=0.8)
        right.set(title="gradient $p - t$", ylim=(-1.2, 1.2))
        for axes in (left, right):
            axes.set_xticks(places, [f"${value:g}$" for value in z])
            axes.set_xlabel("logit of the class")
    return figure


def through_sigmoid() -> style.Picture:
    """Squared error and cross-entropy of one logit through a sigmoid with the target 1, and their slopes.

    On the left of both pictures the answer is as wrong as can be: there cross-entropy is steepest, with a
    slope of nearly -1, and squared error is flat.
    """
    z = np.linspace(-8.0, 6.0, 281)
    losses = {"squared error": _squared_of_logit, "cross-entropy": _entropy_of_logit}
    with style.drawing() as look:
        figure = style.figure(7.2, 3.8)
        left, right = figure.subplots(1, 2, sharex=True)
        for (name, loss), colour, dashes in zip(losses.items(), look.series, style.DASHES, strict=False):
            values, slopes = _along(z, loss)
            signs = {"color": colour, "linestyle": dashes, "label": name}
            left.plot(z, values, **signs)
            right.plot(z, slopes, **signs)
        left.plot(z, 1.0 * (z < 0), color=look.quiet, linestyle=":", label="mistakes counted")
        left.set(title="loss", xlabel="logit $z$, target 1", ylim=(-0.15, 4))
        right.set(title="slope $dL/dz$", xlabel="logit $z$, target 1", ylim=(-1.1, 0.1))
        for axes in (left, right):
            axes.set_xticks([-8, -4, 0, 4])
            axes.grid(visible=True)
        handles, labels = left.get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=3)
    return figure


def learning(probs: Mapping[str, Float[Array, " n_steps"]]) -> style.Picture:
    """The probability of the right answer after every step, a line for each loss that was trained with."""
    with style.drawing() as look:
        figure = style.figure(6.4, 3.8)
        axes: Any = figure.add_subplot()
        for (name, p), colour, dashes in zip(probs.items(), look.series, style.DASHES, strict=False):
            axes.plot(p, color=colour, linestyle=dashes, label=name)
        axes.set(xlabel="step", ylabel="probability of the right answer", ylim=(-0.03, 1.03))
        axes.grid(visible=True)
        axes.legend(loc="center right")
    return figure


def surfaces(
    losses: Mapping[str, Function], paths: Mapping[str, Path], *, window: Window, axes_names: tuple[str, str]
) -> style.Picture:
    """Maps of losses of two weights side by side, the deeper the darker, each with the walk that bears its
    name: from the open circle to the full one. Lines of equal height are equally far apart in height: where
    there are none, the ground is level.
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
            bar = figure.colorbar(filled, orientation="horizontal", format="%.2g", shrink=0.9)
            bar.ax.locator_params(nbins=5)
            bar.set_label("loss")
            bar.outline.set_visible(False)
            path = paths[name]
            at, signs = path.positions.T, {"linestyle": "", "marker": "o", "zorder": 4}
            panel.plot(*at, color=look.series[0], path_effects=look.halo)
            edges = {"markeredgecolor": look.series[0], "markeredgewidth": 1.5}
            panel.plot(*at[:, :1], **signs, **edges, markerfacecolor=look.paper)
            panel.plot(*at[:, -1:], **signs, color=look.ink)
            panel.set(title=name, xlabel=axes_names[0], xlim=window[0], ylim=window[1])
        panels[0].set_ylabel(axes_names[1])
    return figure


def _curves(axes: Any, at: np.ndarray, values: np.ndarray, slopes: np.ndarray, slope_name: str) -> None:
    look = style.look()
    axes.axhline(0.0, color=look.quiet, linewidth=0.8)
    axes.plot(at, values, color=look.series[1], label="loss $L$")
    axes.plot(at, slopes, color=look.series[0], linestyle="--", label=f"slope {slope_name}")
    axes.grid(visible=True)


def _along(at: np.ndarray, loss: Callable[[float], ValueAndSlope]) -> tuple[np.ndarray, np.ndarray]:
    values, slopes = zip(*(loss(float(point)) for point in at), strict=True)
    return np.array(values), np.array(slopes)


def _squared(prediction: float, target: float) -> ValueAndSlope:
    loss, saved = mse_op.forward(np.array([prediction]), np.array([target]))
    return float(loss), float(mse_op.backward(1.0, saved)[0][0])


def _surprise(p: float) -> ValueAndSlope:
    loss, saved = cross_entropy_op.forward(np.array([[p, 1 - p]]), np.array([[1.0, 0.0]]))
    return float(loss), float(cross_entropy_op.backward(1.0, saved)[0][0, 0])


def _squared_of_logit(z: float) -> ValueAndSlope:
    """(sigma(z) - 1)^2, its slope carried back through the sigmoid."""
    y, saved = sigmoid.forward(np.array([z]))
    loss, slope = _squared(float(y[0]), 1.0)
    return loss, float(sigmoid.backward(np.array([slope]), saved)[0][0])


def _entropy_of_logit(z: float) -> ValueAndSlope:
    """-ln sigma(z): two classes, the other's logit is zero."""
    loss, saved = softmax_cross_entropy.forward(np.array([[0.0, z]]), np.array([1]))
    return float(loss), float(softmax_cross_entropy.backward(1.0, saved)[0][0, 1])


def _number(value: float) -> str:
    """With its sign, and a minus as wide as the plus."""
    return f"{value:+.3f}".replace("-", "\N{MINUS SIGN}")
