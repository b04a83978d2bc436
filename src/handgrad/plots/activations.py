"""Pictures of activations: curves with their slopes, and the softmax with its Jacobian.

A curve is what the op's forward returns; a slope is what its backward makes of a gradient of one.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes

from handgrad import ops
from handgrad.errors import require_known
from handgrad.ops import activation, softmax
from handgrad.plots import marks, style
from handgrad.plots.style import Picture
from handgrad.shapes import Float

FORMULAS = {
    "sigmoid": r"f(x) = 1/(1+e^{-x})",
    "tanh": r"f(x) = \tanh\,x",
    "relu": r"f(x) = \max(0, x)",
    "leaky_relu": r"f(x) = \max(0, x) + \alpha\,\min(0, x)",
    "prelu": r"f(x) = \max(0, x) + \alpha\,\min(0, x)",
    "relu_squared": r"f(x) = \max(0, x)^2",
    "gelu": r"f(x) = x\,\Phi(x)",
    "gelu_tanh": r"f(x) = \frac{x}{2}\,(1+\tanh\,\sqrt{2/\pi}\,(x+0.044715\,x^3))",
    "silu": r"f(x) = x\,\sigma(x)",
    "erf": r"f(x) = \mathrm{erf}\,x",
}
"""The formulas of the activations that work element by element, and of the error function inside the GELU."""

NAMES = tuple(name for name in FORMULAS if name != "erf")
"""The activations among them."""

ALPHAS = {"leaky_relu": 0.1, "prelu": 0.25}
"""The default slopes below zero: the leaky ReLU's usual 0.01 is hard to see."""


def curve(name: str = "sigmoid", *, alpha: float | None = None) -> Picture:
    """One activation, solid, and its slope, dashed, with a dot where it is steepest.

    Where the slope jumps, the full dot is the slope that the library takes at the kink; the open dot is not
    taken. For the parametric ReLU a third curve shows how its output changes with `alpha`.
    """
    window = (-4.0, 4.0)
    with style.drawing() as look:
        figure = style.figure(6.0, 4.0)
        axes = figure.add_subplot(title=_title(name, alpha))
        drawn = _draw(axes, name, alpha, window)
        if name == "prelu":
            words = r"$\partial f/\partial\alpha$"
            by_alpha = _by_alpha(drawn.x, drawn.alpha)
            axes.plot(drawn.x, by_alpha, color=look.series[2], linestyle=style.DASHES[3], label=words)
        axes.set(xlabel="$x$", xlim=window, ylim=drawn.heights)
        if name == "prelu":
            axes.set_ylim(-2.5, 4.7)
        axes.grid(visible=True)
        figure.legend(loc="outside lower center", ncols=3)
    return figure


def several(names: Sequence[str] = NAMES) -> Picture:
    """A gallery: one small panel for each activation, all on one scale; solid the value, dashed the slope."""
    window = (-3.0, 3.0)
    with style.drawing():
        n_rows = -(-len(names) // 3)
        figure = style.figure(6.4, 0.6 + 1.7 * n_rows)
        panels = figure.subplots(n_rows, 3, sharex=True, sharey=True, squeeze=False)
        for axes, name in zip(panels.flat, names, strict=False):
            _draw(axes, name, None, window)
            alpha = f"   $\\alpha = {ALPHAS[name]:g}$" if name in ALPHAS else ""
            axes.set_title(name + alpha, fontsize=9, pad=5)
            axes.set(xlim=window, ylim=(-1.4, 3.0), xticks=[-2, 0, 2], yticks=[-1, 0, 1, 2, 3])
            axes.grid(visible=True)
        for axes in panels.flat[len(names) :]:
            axes.set_visible(False)
        for lowest in panels[-1]:
            lowest.set_xlabel("$x$")
        handles, labels = panels[0, 0].get_legend_handles_labels()
        figure.legend(handles[:2], labels[:2], loc="outside lower center", ncols=2)
    return figure


def jacobian(x: Sequence[float] = (2.0, 1.0, 0.0, -1.0)) -> Picture:
    """The softmax of `x` as bars, and beside them its Jacobian: how every output answers to every input.

    Its own input pushes an output up, each other input pulls it down, and every row sums to zero.
    """
    at = np.asarray(x, dtype=np.float64)
    matrix, (probs, _) = softmax.jacobian(at), softmax.forward(at)
    with style.drawing() as look:
        figure = style.figure(7.2, 3.9)
        left, right = figure.subplots(1, 2, width_ratios=(1.0, 1.6))
        rows = np.arange(len(at))
        left.barh(rows, probs, height=0.6, color=look.series[1])
        for row, p in zip(rows, probs, strict=True):
            left.text(p + 0.02, row, f"{p:.3f}", va="center", fontsize=9)
        left.set(title="softmax $f_i(x)$", xlim=(0, 1.3 * np.max(probs)), ylim=(len(at) - 0.5, -0.5))
        left.set(yticks=rows, yticklabels=[f"$f_{{{i + 1}}}$" for i in rows], xlabel="probability")
        texts = [[marks.number(value, "+.3f") for value in row] for row in matrix]
        marks.cells(right, matrix, look.signed, marks.around_zero(matrix), texts=texts, aspect="auto")
        right.set(title=r"$J_{ij} = \partial f_i/\partial x_j$", xticks=rows, yticks=rows)
        right.set(yticklabels=[f"$f_{{{i + 1}}}$" for i in rows])
        right.set(xticklabels=[f"$x_{{{j + 1}}} = {value:g}$" for j, value in enumerate(at)])
    return figure


class Curve(NamedTuple):
    """An activation on a window, with a gap where its slope jumps."""

    x: Float[np.ndarray, " n"]
    y: Float[np.ndarray, " n"]
    slope: Float[np.ndarray, " n"]
    alpha: float | None

    @property
    def heights(self) -> tuple[float, float]:
        """The range of value and slope, with a margin, cut off above four."""
        both = np.concatenate([self.y, self.slope])
        low, high = float(np.nanmin(both)), min(float(np.nanmax(both)), 4.0)
        margin = 0.06 * (high - low)
        return low - margin, high + 3 * margin


def sampled(name: str, alpha: float | None, window: tuple[float, float]) -> Curve:
    """Value and slope of the activation `name` at 401 points of the window."""
    require_known("activation", name, FORMULAS)
    low, high = window
    x = np.linspace(low, high, 401)
    if name in activation.KINKED:
        x = np.concatenate([np.linspace(low, -1e-9, 200), [np.nan], np.linspace(1e-9, high, 200)])
    alpha = ALPHAS.get(name) if alpha is None else alpha
    y, slope = _value_and_slope(name, np.nan_to_num(x), alpha)
    gap = np.where(np.isnan(x), np.nan, 0.0)
    return Curve(x, y, slope + gap, alpha)


def _value_and_slope(name: str, x: np.ndarray, alpha: float | None) -> tuple[np.ndarray, np.ndarray]:
    """f and f' by the op's forward and backward."""
    op = ops.ALL[name]
    if name == "prelu":
        y, saved = op.forward(x, np.array([alpha]))
    else:
        y, saved = op.forward(x, **({} if alpha is None else {"alpha": alpha}))
    return y, op.backward(np.ones_like(x), saved)[0]


def _by_alpha(x: np.ndarray, alpha: float | None) -> np.ndarray:
    """The slope of the parametric ReLU in alpha, at every x."""
    _, saved = ops.ALL["prelu"].forward(x, np.full(x.shape, alpha))
    return ops.ALL["prelu"].backward(np.ones_like(x), saved)[1]


def _draw(axes: Axes, name: str, alpha: float | None, window: tuple[float, float]) -> Curve:
    look, curve = style.look(), sampled(name, alpha, window)
    axes.axhline(0.0, color=look.quiet, linewidth=0.8)
    axes.plot(curve.x, curve.y, color=look.series[1], label="$f(x)$")
    colour = look.series[0]
    axes.plot(curve.x, curve.slope, color=colour, linestyle="--", label="$f'(x)$")
    if name in activation.KINKED:
        _, taken = _value_and_slope(name, np.zeros(1), curve.alpha)
        signs: dict[str, Any] = {
            "linestyle": "",
            "marker": "o",
            "markersize": 5,
            "markeredgecolor": colour,
            "zorder": 4,
        }
        axes.plot([0], [1], **signs, markerfacecolor=look.paper)
        axes.plot([0], taken, **signs, markerfacecolor=colour)
    elif 0 < (place := int(np.argmax(curve.slope))) < len(curve.x) - 1:
        axes.plot(curve.x[place], curve.slope[place], "o", markersize=5, color=colour)
        if axes.get_title(loc="left"):
            text, at = f"{curve.slope[place]:.3g}", (curve.x[place], curve.slope[place])
            axes.annotate(
                text, at, (0, -15), textcoords="offset points", ha="center", fontsize=9, color=colour
            )
    return curve


def _title(name: str, alpha: float | None) -> str:
    require_known("activation", name, FORMULAS)
    alpha = ALPHAS.get(name) if alpha is None else alpha
    return f"${FORMULAS[name]}$" + ("" if name not in ALPHAS else f",   $\\alpha = {alpha:g}$")
