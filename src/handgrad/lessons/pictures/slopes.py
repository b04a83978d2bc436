"""Pictures of lesson 2: secant and tangent, errors of measured slopes, gradients as arrows on a map."""

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np

from handgrad.foundations.descent import Function
from handgrad.plots import marks, style
from handgrad.plots.descent import Window, contours
from handgrad.plots.style import Picture

Curve: TypeAlias = Callable[[Any], Any]
"""A function of one number that also takes an array of them."""

STEPS = np.logspace(-16, 0, 97)


def secant(function: Curve, *, x: float, h: float, window: tuple[float, float]) -> Picture:
    """A curve, the secant through x and x + h, and the tangent at x, with the slopes of both."""
    with style.drawing() as look:
        figure = style.figure(6.0, 4.0)
        axes = figure.add_subplot()
        at = np.linspace(*window, 200)
        curve = function(at)
        nearby = 1e-5
        slopes = {
            "secant": (function(x + h) - function(x)) / h,
            "tangent": (function(x + nearby) - function(x - nearby)) / (2 * nearby),
        }
        axes.plot(at, curve, color=look.ink, label="$f$")
        for (name, slope), line in zip(slopes.items(), marks.lines(), strict=False):
            axes.plot(at, function(x) + slope * (at - x), **line, label=f"{name}, slope {slope:.3f}")
        axes.plot([x, x + h], [function(x), function(x + h)], "o", color=look.ink)
        margin = 0.1 * np.ptp(curve)
        axes.set(xlabel="$x$", ylabel="$f(x)$", ylim=(curve.min() - margin, curve.max() + margin))
        axes.legend(loc="upper left")
    return figure


def error_of_differences(function: Curve, derivative: Curve, *, x: float) -> Picture:
    """The errors of one-sided and central differences against the distance h, both logarithmic."""
    with style.drawing() as look:
        figure = style.figure(6.4, 4.2)
        axes = figure.add_subplot()
        slope = derivative(x)
        measured = {
            "one-sided: $(f(x+h) - f(x))/h$": (function(x + STEPS) - function(x)) / STEPS,
            "central: $(f(x+h) - f(x-h))/2h$": (function(x + STEPS) - function(x - STEPS)) / (2 * STEPS),
        }
        for (name, slopes), line in zip(measured.items(), marks.lines(), strict=False):
            errors = np.maximum(np.abs(slopes / slope - 1), 1e-14)  # an exact hit has no logarithm
            axes.loglog(STEPS, errors, **line, label=name)
        best = np.finfo(np.float64).eps ** (1 / 3)
        axes.axvline(best, color=look.quiet, linewidth=1, linestyle=":")
        axes.annotate(r"$\epsilon^{1/3}$", (best, 1e-1), (5, 0), textcoords="offset points", color=look.quiet)
        axes.set(xlabel="distance $h$", ylabel="relative error", ylim=(1e-13, 3))
        axes.grid(visible=True)
        axes.legend(loc="lower left", bbox_to_anchor=(0, 1))
    return figure


def gradient_field(function: Function, gradient: Function, *, window: Window, n: int = 13) -> Picture:
    """The map of a surface with its gradients as arrows, which point uphill and grow with the slope."""
    figure = contours(function, {}, window=window)
    with style.drawing() as look:
        points = np.stack(np.meshgrid(*(np.linspace(*side, n) for side in window)), -1).reshape(-1, 2)
        arrows = np.array([gradient(point) for point in points])
        lengths = np.linalg.norm(arrows, axis=1, keepdims=True)
        shown = arrows / np.maximum(np.sqrt(lengths), 1e-12)  # steep slopes would hide the gentle ones
        figure.axes[0].quiver(*points.T, *shown.T, color=look.series[0], width=0.005)
        figure.axes[0].set_title("arrows grow with the root of the slope", fontsize=9, color=look.quiet)
    return figure
