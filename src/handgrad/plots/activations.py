"""Pictures of activations: a curve with its slope, what is left of a gradient deep in a stack, units that no
input reaches, and the softmax with its Jacobian.

Every curve is what the op's own forward returns, and every slope what its backward makes of a gradient of
one.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.colors import to_rgb

from handgrad import ops
from handgrad.errors import require_known
from handgrad.ops import softmax
from handgrad.plots import style
from handgrad.shapes import Array, Float

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
"""Of every activation that works element by element, and of the error function inside the GELU."""

NAMES = tuple(name for name in FORMULAS if name != "erf")
"""The activations among them."""

ALPHAS = {"leaky_relu": 0.1, "prelu": 0.25}
"""The slopes below zero that are drawn if none is asked for: the leaky ReLU's usual 0.01 is hard to see."""

KINKED = ("relu", "leaky_relu", "prelu")
MARKERS = "os^Dv*"
UNIT, UNREACHED = "unit", "unit that no input reaches"


def curve(
    name: str = "sigmoid", *, alpha: float | None = None, window: tuple[float, float] = (-4.0, 4.0)
) -> style.Picture:
    """One activation, solid, and its slope, dashed, with a dot where it is steepest.

    Where the slope jumps, the open dot is left out and the full one is the slope that the library takes at
    the kink. Of the parametric ReLU a third curve shows how its output changes with `alpha`.
    """
    with style.drawing() as look:
        figure = style.figure(6.0, 4.0)
        axes: Any = figure.add_subplot(title=_title(name, alpha))
        drawn = _draw(axes, name, alpha, window)
        if name == "prelu":
            by_alpha = _by_alpha(drawn.x, drawn.alpha)
            signs = {"color": look.series[2], "linestyle": style.DASHES[3]}
            axes.plot(drawn.x, by_alpha, **signs, label=r"$\partial f/\partial\alpha$")
        axes.set(xlabel="$x$", xlim=window, ylim=drawn.heights)
        if name == "prelu":
            axes.set_ylim(-2.5, 4.7)
        axes.grid(visible=True)
        figure.legend(loc="outside lower center", ncols=3)
    return figure


def several(names: Sequence[str] = NAMES, *, window: tuple[float, float] = (-3.0, 3.0)) -> style.Picture:
    """A gallery: one small panel an activation, all on the same scale; solid the value, dashed the slope."""
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


def compare(
    names: Sequence[str] = ("relu", "gelu", "silu"), *, window: tuple[float, float] = (-4.0, 4.0)
) -> style.Picture:
    """Several activations upon each other: their values on the left, their slopes on the right."""
    with style.drawing() as look:
        figure = style.figure(7.2, 3.8)
        left, right = figure.subplots(1, 2)
        for name, colour, dashes in zip(names, look.series, style.DASHES, strict=False):
            curve = _curve(name, None, window)
            signs = {"color": colour, "linestyle": dashes, "label": name}
            left.plot(curve.x, curve.y, **signs)
            right.plot(curve.x, curve.slope, **signs)
        left.set(xlabel="$x$", title="$f(x)$", xlim=window)
        right.set(xlabel="$x$", title="$f'(x)$", xlim=window)
        for axes in (left, right):
            axes.grid(visible=True)
        handles, labels = left.get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=len(names))
    return figure


def gradients_by_layer(norms: Mapping[str, Sequence[float]]) -> style.Picture:
    """The length of the loss's gradient at every layer, first to last, on a logarithmic scale.

    A level line: every layer is told as much as the last one. One that falls towards the left: the gradient
    shrinks on its way back, and the first layers hardly learn.
    """
    with style.drawing() as look:
        figure = style.figure(6.4, 4.0)
        axes: Any = figure.add_subplot()
        kinds = zip(norms.items(), look.series, style.DASHES, MARKERS, strict=False)
        for (name, lengths), colour, dashes, marker in kinds:
            layers = np.arange(1, len(lengths) + 1)
            axes.semilogy(layers, lengths, color=colour, linestyle=dashes, marker=marker, label=name)
        axes.set(xlabel="layer, from the input", ylabel="length of the gradient")
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.grid(visible=True)
        axes.legend(loc="lower right")
    return figure


def reach(
    x: Float[Array, " N"],
    z: Float[Array, "N F"],
    *,
    target: Float[Array, " N"],
    output: Float[Array, " N"],
) -> style.Picture:
    """A hidden layer over a single input x, and what becomes of it.

    Left: what enters each unit's activation, `z`; a unit whose line, dashed, lies wholly below zero is
    reached by no input. Right: the network's output, and its target.
    """
    with style.drawing() as look:
        figure = style.figure(7.2, 3.8)
        left, right = figure.subplots(1, 2)
        reached = np.any(z > 0, axis=0)
        top = 1.15 * max(1.0, float(np.max(z)))
        bottom = max(-3.0 * top, 1.15 * min(-1.0, float(np.min(z))))
        left.axhspan(bottom, 0.0, color=look.sides[0])
        left.axhline(0.0, color=look.quiet, linewidth=0.8)
        for line, alive in zip(z.T, reached, strict=True):
            colour, dashes = (look.series[1], "-") if alive else (look.series[0], "--")
            name = UNIT if alive else UNREACHED
            left.plot(x, line, color=colour, linestyle=dashes, linewidth=1.4, label=name)
        left.set(xlabel="$x$", ylabel="$z$ of every unit", xlim=(x[0], x[-1]), ylim=(bottom, top))
        left.set_title(f"{np.sum(~reached)} of {len(reached)} units unreached")
        right.plot(x, target, "o", markersize=3.5, color=look.quiet, label="target")
        right.plot(x, output, color=look.ink, label="network")
        right.set(xlabel="$x$", title=f"mean squared error {np.mean((output - target) ** 2):.4f}")
        signs: dict[str, Any] = {}
        for axes in (left, right):
            signs |= {name: sign for sign, name in zip(*axes.get_legend_handles_labels(), strict=True)}
        shown = [name for name in (UNIT, UNREACHED, "target", "network") if name in signs]
        figure.legend([signs[name] for name in shown], shown, loc="outside lower center", ncols=4)
    return figure


def jacobian(x: Sequence[float] = (2.0, 1.0, 0.0, -1.0)) -> style.Picture:
    """The softmax of `x` as bars, and beside them its Jacobian, row by row: how every output answers to every
    input. Its own input pushes an output up, each other pulls it down, and every row sums to zero.
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
        most = float(np.max(np.abs(matrix)))
        right.imshow(matrix, cmap=look.signed, vmin=-most, vmax=most, aspect="auto")
        for (i, j), value in np.ndenumerate(matrix):
            colour = _readable(look.signed((value / most + 1) / 2))
            right.text(j, i, _number(value), ha="center", va="center", fontsize=9, color=colour)
        right.set(title=r"$J_{ij} = \partial f_i/\partial x_j$", xticks=rows, yticks=rows)
        right.set(yticklabels=[f"$f_{{{i + 1}}}$" for i in rows])
        right.set(xticklabels=[f"$x_{{{j + 1}}} = {value:g}$" for j, value in enumerate(at)])
        right.spines[:].set_visible(False)
        right.tick_params(length=0)
    return figure


def temperature(logits: Sequence[float], temperature: float = 1.0) -> style.Picture:
    """The softmax of logits divided by a temperature, as bars; the dashes are the same at temperature one."""
    z = np.asarray(logits, dtype=np.float64)
    probs, _ = softmax.forward(z / temperature)
    plain, _ = softmax.forward(z)
    with style.drawing() as look:
        figure = style.figure(6.0, 3.6)
        axes: Any = figure.add_subplot(title=f"temperature {temperature:g}")
        places = np.arange(len(z))
        axes.bar(places, probs, width=0.6, color=look.series[1])
        signs = {"color": look.series[0], "linestyles": "--", "linewidth": 1.8}
        axes.hlines(plain, places - 0.4, places + 0.4, **signs, label="at temperature 1")
        for place, p, q in zip(places, probs, plain, strict=True):
            above = max(p, q) if abs(p - q) < 0.08 else p  # where the dashes leave room, at the bar
            axes.text(place, above + 0.015, f"{p:.2f}", ha="center", fontsize=9)
        axes.set(ylabel="probability", ylim=(0, 1.12), xticks=places)
        axes.set_xticklabels([f"logit ${value:g}$" for value in z])
        axes.legend(loc="upper right")
    return figure


class _Curve(NamedTuple):
    """An activation on a window; where its slope jumps, a gap separates the two pieces."""

    x: Float[np.ndarray, " n"]
    y: Float[np.ndarray, " n"]
    slope: Float[np.ndarray, " n"]
    alpha: float | None

    @property
    def heights(self) -> tuple[float, float]:
        """From the lowest to the highest of value and slope, with a margin, and not much above four."""
        both = np.concatenate([self.y, self.slope])
        low, high = float(np.nanmin(both)), min(float(np.nanmax(both)), 4.0)
        margin = 0.06 * (high - low)
        return low - margin, high + 3 * margin


def _curve(name: str, alpha: float | None, window: tuple[float, float]) -> _Curve:
    require_known("activation", name, FORMULAS)
    low, high = window
    x = np.linspace(low, high, 401)
    if name in KINKED:
        x = np.concatenate([np.linspace(low, -1e-9, 200), [np.nan], np.linspace(1e-9, high, 200)])
    alpha = ALPHAS.get(name) if alpha is None else alpha
    y, slope = _value_and_slope(name, np.nan_to_num(x), alpha)
    gap = np.where(np.isnan(x), np.nan, 0.0)
    return _Curve(x, y, slope + gap, alpha)


def _value_and_slope(name: str, x: np.ndarray, alpha: float | None) -> tuple[np.ndarray, np.ndarray]:
    """f and f' by the op's forward and backward."""
    op = ops.ALL[name]
    if name == "prelu":
        y, saved = op.forward(x, np.array([alpha]))
    else:
        y, saved = op.forward(x, **({} if alpha is None else {"alpha": alpha}))
    return y, op.backward(np.ones_like(x), saved)[0]


def _by_alpha(x: np.ndarray, alpha: float | None) -> np.ndarray:
    """The slope of every output of the parametric ReLU in alpha: each has an alpha of its own here."""
    _, saved = ops.ALL["prelu"].forward(x, np.full(x.shape, alpha))
    return ops.ALL["prelu"].backward(np.ones_like(x), saved)[1]


def _draw(axes: Any, name: str, alpha: float | None, window: tuple[float, float]) -> _Curve:
    look, curve = style.look(), _curve(name, alpha, window)
    axes.axhline(0.0, color=look.quiet, linewidth=0.8)
    axes.plot(curve.x, curve.y, color=look.series[1], label="$f(x)$")
    colour = look.series[0]
    axes.plot(curve.x, curve.slope, color=colour, linestyle="--", label="$f'(x)$")
    if name in KINKED:
        _, taken = _value_and_slope(name, np.zeros(1), curve.alpha)
        signs = {"linestyle": "", "marker": "o", "markersize": 5, "markeredgecolor": colour, "zorder": 4}
        axes.plot([0], [1], **signs, markerfacecolor=look.paper)
        axes.plot([0], taken, **signs, markerfacecolor=colour)
    elif 0 < (place := int(np.argmax(curve.slope))) < len(curve.x) - 1:
        axes.plot(curve.x[place], curve.slope[place], "o", markersize=5, color=colour)
        if axes.get_title(loc="left"):
            text, at = f"{curve.slope[place]:.3g}", (curve.x[place], curve.slope[place])
            signs = {"textcoords": "offset points", "ha": "center", "fontsize": 9, "color": colour}
            axes.annotate(text, at, (0, -15), **signs)
    return curve


def _title(name: str, alpha: float | None) -> str:
    require_known("activation", name, FORMULAS)
    alpha = ALPHAS.get(name) if alpha is None else alpha
    return f"${FORMULAS[name]}$" + ("" if name not in ALPHAS else f",   $\\alpha = {alpha:g}$")


def _number(value: float) -> str:
    """With its sign, and a minus as wide as the plus."""
    return f"{value:+.3f}".replace("-", "\N{MINUS SIGN}")


def _readable(colour: Any) -> str:
    """Black or white, whichever is the easier to read on `colour`."""
    return "#000000" if np.dot(to_rgb(colour), (0.299, 0.587, 0.114)) > 0.5 else "#ffffff"
