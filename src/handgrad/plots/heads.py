"""The picture of many heads: how the width is cut into them."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb

from handgrad.plots import marks, style
from handgrad.plots.style import Picture
from handgrad.shapes import Int, split_heads

N_POSITIONS, D_MODEL = 3, 8


def shapes(n_heads: int = 2) -> Picture:
    """How x of the shape (T, D) is cut into heads of the shape (T, K), and put together again.

    Every number is named by its place in the memory of x; the columns of one head have one colour. The strips
    below are the memory before and after: cutting moves numbers, and does nothing else.
    """
    T, D, K = N_POSITIONS, D_MODEL, D_MODEL // n_heads
    names = np.arange(T * D).reshape(T, D)
    heads = split_heads(names[None], n_heads)[0]
    gap = min(1.0, 4.0 / n_heads)
    with style.drawing() as look:
        figure = style.figure(6.0, 4.0)
        axes = figure.add_subplot(aspect="equal")
        left = (T * D - D) / 2
        _numbers(axes, names, (left, 0), D, K)
        axes.text(left - 0.6, T / 2, f"x\n(T, D) = ({T}, {D})", ha="right", va="center")
        width = D + gap * (n_heads - 1)
        left_most, top = (T * D - width) / 2, T + 3.4
        for number, head in enumerate(heads):
            corner = left_most + number * (K + gap)
            _numbers(axes, head, (corner, top), D, K)
            axes.text(corner + K / 2, top - 0.35, f"{number}", ha="center", va="bottom", fontsize=9)
        said = f"{n_heads} {'head' if n_heads == 1 else 'heads'}\n(H, T, K) = ({n_heads}, {T}, {K})"
        axes.text(left_most - 0.6, top - 0.35, "head", ha="right", va="bottom", fontsize=9)
        axes.text(left_most - 0.6, top + T / 2, said, ha="right", va="center")
        middle = T * D / 2
        for x, way, name, side in (
            (middle - 0.7, 1, "split_heads", -1),
            (middle + 0.7, -1, "merge_heads", 1),
        ):
            start, end = [(x, T + 0.4), (x, top - 1.3)][::way]
            marks.arrow(axes, start, end, look.ink)
            ha = "right" if side < 0 else "left"
            axes.text(x + 0.4 * side, T + 1.0, name, ha=ha, va="center", family="monospace", fontsize=9)
        bottom = top + T + 2.2
        for level, (strip, said) in enumerate(((names, "memory of x"), (heads, "memory of the heads"))):
            y = bottom + 2.7 * level
            _numbers(axes, strip.reshape(1, -1), (0, y), D, K)
            axes.text(0, y - 0.3, said, ha="left", va="bottom", fontsize=9)
        axes.set(xlim=(-0.3, T * D + 0.3), ylim=(bottom + 4.0, -0.3))
        axes.set_axis_off()
    return figure


def _numbers(
    axes: Axes, names: Int[np.ndarray, "N M"], corner: tuple[float, float], d_model: int, d_head: int
) -> None:
    """A grid of numbers, each on the ground of its head's colour."""
    look = style.look()
    for (row, column), name in np.ndenumerate(names):
        colour = look.series[name % d_model // d_head % len(look.series)]
        place = (corner[0] + column, corner[1] + row)
        marks.box(axes, place, str(name), ground=_pale(colour), edge=look.paper, linewidth=1.2, fontsize=8.5)


def _pale(colour: str) -> tuple[float, ...]:
    """The colour, mixed with much paper."""
    return tuple(0.38 * np.array(to_rgb(colour)) + 0.62 * np.array(to_rgb(style.look().paper)))
