"""Formulas between arrays, drawn as the arrays themselves: coloured cells, with the signs between them."""

import numpy as np

from handgrad.plots import style
from handgrad.shapes import Array, Float

CELL = 0.26
"""Inches of a cell's side."""
SIGN = 0.45
"""Inches for a sign between two arrays."""
MARGIN = 0.55


def equation(*parts: tuple[str, Array] | str) -> style.Picture:
    """Arrays, each as ("name", array), and signs between them, as in `equation(("x", x), "+", ("y", y))`.

    Numbers above zero are orange; those below are blue, with a dash. The largest absolute value has the
    darkest shade. A vector is one row.
    """
    arrays = {i: np.atleast_2d(np.asarray(p[1])) for i, p in enumerate(parts) if not isinstance(p, str)}
    largest = max(float(np.max(np.abs(a))) for a in arrays.values()) or 1.0
    widths = [arrays[i].shape[1] * CELL if i in arrays else SIGN for i in range(len(parts))]
    height = max(a.shape[0] for a in arrays.values()) * CELL
    total = sum(widths) + 2 * MARGIN
    with style.drawing() as look:
        figure = style.figure(total, height + 2 * MARGIN)
        figure.set_layout_engine("none")
        left = MARGIN
        for i, (part, width) in enumerate(zip(parts, widths, strict=True)):
            if i in arrays:
                box = (
                    left,
                    MARGIN + (height - arrays[i].shape[0] * CELL) / 2,
                    width,
                    arrays[i].shape[0] * CELL,
                )
                _draw(figure, box, arrays[i], str(part[0]), largest, look)
            else:
                at = ((left + width / 2) / total, 0.5)
                figure.text(*at, str(part), ha="center", va="center", fontsize=13, color=look.ink)
            left += width
    return figure


def _draw(
    figure: style.Picture,
    box: tuple[float, float, float, float],
    array: Float[np.ndarray, "N M"],
    name: str,
    largest: float,
    look: style.Theme,
) -> None:
    """One array in a box (left, bottom, width, height), in inches."""
    width, height = figure.get_size_inches()
    left, bottom, wide, high = box
    axes = figure.add_axes((left / width, bottom / height, wide / width, high / height))
    rows, columns = array.shape
    axes.pcolormesh(array, cmap=look.signed, vmin=-largest, vmax=largest, edgecolors=look.grid, linewidth=0.5)
    negative = np.argwhere(array < 0)
    axes.plot(*(negative[:, ::-1] + 0.5).T, "_", color=look.quiet, markersize=5, markeredgewidth=1)
    axes.set(xlim=(0, columns), ylim=(rows, 0), xticks=[], yticks=[])
    for spine in axes.spines.values():
        spine.set(visible=True, color=look.quiet)
    axes.set_title(f"${name}$", loc="center", fontsize=10, pad=4)
    axes.set_xlabel(f"{rows} x {columns}", fontsize=8, color=look.quiet, labelpad=3)
