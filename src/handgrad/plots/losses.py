"""Pictures of losses with their slopes: what the ops' forwards and backwards return."""

from collections.abc import Callable, Sequence
from typing import TypeAlias

import numpy as np
from matplotlib.axes import Axes

from handgrad.ops import cross_entropy as cross_entropy_op
from handgrad.ops import mse as mse_op
from handgrad.ops import softmax_cross_entropy
from handgrad.plots import marks, style
from handgrad.plots.style import Picture
from handgrad.shapes import Float

ValueAndSlope: TypeAlias = tuple[float, float]


def mse(target: float = 1.0) -> Picture:
    """The squared error of one prediction, solid, and its slope, dashed: the farther off, the steeper."""
    at = target + np.linspace(-2.0, 2.0, 161)
    values, slopes = along(at, lambda y: squared(y, target))
    with style.drawing() as look:
        figure = style.figure(6.0, 4.0)
        axes = figure.add_subplot(title=r"$L = (\hat{y}-y)^2$")
        _curves(axes, at, values, slopes, r"$dL/d\hat{y}$")
        axes.axvline(target, color=look.quiet, linewidth=1, linestyle=":")
        axes.annotate(
            f"target {target:g}", (target, 4.0), (5, -4), textcoords="offset points", color=look.quiet
        )
        axes.set(xlabel=r"prediction $\hat{y}$", xlim=(at[0], at[-1]))
        axes.legend(loc="lower right")
    return figure


def cross_entropy() -> Picture:
    """The loss $-\\ln p$ of the probability that the right class was given, solid, and its slope, dashed.

    Certainty costs nothing, one half costs one bit, and a mistake made with certainty costs without limit.
    The slope, $-1/p$, is cut off below.
    """
    at = np.linspace(0.004, 1.0, 250)
    values, slopes = along(at, _surprise)
    with style.drawing() as look:
        figure = style.figure(6.0, 4.4)
        axes = figure.add_subplot(title=r"$L = -\ln\,p$")
        _curves(axes, at, values, slopes, r"$dL/dp = -1/p$")
        for p in (0.5, 0.1, 0.01):
            loss, _ = _surprise(p)
            axes.plot(p, loss, "o", markersize=5, color=look.series[1])
            text = f"$p$ = {p:g}: {loss:.2f} nats"
            axes.annotate(text, (p, loss), (8, 5), textcoords="offset points", fontsize=9)
        axes.set(xlabel="probability $p$ of the right class", xlim=(0, 1), ylim=(-11, 6))
        axes.legend(loc="lower right")
    return figure


def gradient(logits: Sequence[float] = (2.0, 1.0, 0.0, -1.0), target: int = 1) -> Picture:
    """Softmax and cross-entropy: left the probabilities, and the target as open bars; right the gradient.

    The gradient by the logits is the probabilities minus the target: a step of descent raises the target's
    logit and lowers all others.
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
            right.text(place, slope + (0.03 if slope >= 0 else -0.03), marks.number(slope, "+.3f"), **words)
        right.axhline(0.0, color=look.quiet, linewidth=0.8)
        right.set(title="gradient $p - t$", ylim=(-1.2, 1.2))
        for axes in (left, right):
            axes.set_xticks(places, [f"${value:g}$" for value in z])
            axes.set_xlabel("logit of the class")
    return figure


def _curves(
    axes: Axes,
    at: Float[np.ndarray, " n"],
    values: Float[np.ndarray, " n"],
    slopes: Float[np.ndarray, " n"],
    slope_name: str,
) -> None:
    look = style.look()
    axes.axhline(0.0, color=look.quiet, linewidth=0.8)
    axes.plot(at, values, color=look.series[1], label="loss $L$")
    axes.plot(at, slopes, color=look.series[0], linestyle="--", label=f"slope {slope_name}")
    axes.grid(visible=True)


def along(
    at: Float[np.ndarray, " n"], loss: Callable[[float], ValueAndSlope]
) -> tuple[Float[np.ndarray, " n"], Float[np.ndarray, " n"]]:
    """The values and the slopes of a loss at many points."""
    values, slopes = zip(*(loss(float(point)) for point in at), strict=True)
    return np.array(values), np.array(slopes)


def squared(prediction: float, target: float) -> ValueAndSlope:
    """The squared error of one prediction, and its slope."""
    loss, saved = mse_op.forward(np.array([prediction]), np.array([target]))
    return float(loss), float(mse_op.backward(1.0, saved)[0][0])


def _surprise(p: float) -> ValueAndSlope:
    loss, saved = cross_entropy_op.forward(np.array([[p, 1 - p]]), np.array([[1.0, 0.0]]))
    return float(loss), float(cross_entropy_op.backward(1.0, saved)[0][0, 0])
