"""The marks that pictures share: signs for blanks, numbers, boxes, cells, what is hidden, arrows."""

from collections.abc import Iterator, Sequence
from itertools import count
from typing import Any, Literal, TypeAlias

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colorbar import Colorbar
from matplotlib.colors import Colormap, Normalize, to_rgb
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.patches import PathPatch, Rectangle
from matplotlib.path import Path
from matplotlib.typing import ColorType, LineStyleType

from handgrad.plots import style
from handgrad.shapes import Bool, Float

SIGNS = str.maketrans({" ": "␣", "\n": "↵", "\t": "⇥"})
DASHED = (0, (2, 2))
MOST_NUMBERS = 6
"""Matrices of at most so many rows and columns are written out, number by number."""

Point: TypeAlias = tuple[float, float] | Float[np.ndarray, " 2"]


def visible(token: str) -> str:
    """The token with a sign for each blank, line break and tab, which would be empty places in a picture."""
    return token.translate(SIGNS)


def number(value: float, spec: str = ".3g", *, decimals: int = 9) -> str:
    """A number for a label: rounded, with a minus as wide as a plus, and no minus before a zero."""
    return f"{round(float(value), decimals) + 0.0:{spec}}".replace("-", "\N{MINUS SIGN}")


def numbers(matrix: Float[np.ndarray, "N M"]) -> list[list[str]]:
    """The numbers of a matrix for its cells, to two decimals; none if they are too many to be read."""
    if max(matrix.shape) > MOST_NUMBERS:
        return []
    return [[number(value, ".4g", decimals=2) for value in row] for row in matrix]


def lines() -> Iterator[dict[str, Any]]:
    """The colour and the dashes of one curve after the other, without an end."""
    series = style.look().series
    for place in count():
        dashes = style.DASHES[place % len(style.DASHES)]
        yield {"color": series[place % len(series)], "linestyle": dashes}


def readable_on(ground: ColorType) -> str:
    """Ink or paper, whichever stands out more on the colour `ground`."""
    look = style.look()

    def brightness(colour: ColorType) -> float:
        return float(np.dot(to_rgb(colour), (0.299, 0.587, 0.114)))

    return max((look.ink, look.paper), key=lambda ink: abs(brightness(ink) - brightness(ground)))


def around_zero(matrix: Float[np.ndarray, "..."]) -> Normalize:
    """A scale for `look.signed`; its ends, too dark to write numbers on, lie beyond the matrix."""
    size = 1.4 * (float(np.max(np.abs(matrix))) or 1.0)
    return Normalize(-size, size)


def cells(
    axes: Axes,
    matrix: Float[np.ndarray, "N M"],
    colours: Colormap,
    scale: Normalize,
    *,
    texts: Sequence[Sequence[str]] = (),
    absent: Bool[np.ndarray, "N M"] | None = None,
    aspect: Literal["equal", "auto"] = "equal",
    fontsize: float = 9,
) -> AxesImage:
    """A matrix as coloured cells with `texts` in them; `absent` ones are hidden."""
    absent = np.zeros(matrix.shape, bool) if absent is None else absent
    image = axes.imshow(np.ma.masked_array(matrix, absent), cmap=colours, norm=scale, aspect=aspect)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(True)
    axes.spines[:].set_color(style.look().grid)
    hide(axes, absent)
    for row, column in np.argwhere(~absent) if len(texts) else ():
        colour = readable_on(colours(scale(matrix[row, column])))
        axes.text(column, row, texts[row][column], ha="center", va="center", fontsize=fontsize, color=colour)
    return image


def hide(axes: Axes, absent: Bool[np.ndarray, "N M"]) -> None:
    """Hatch the cells that are not there, as the future of a token that may not see it."""
    if not np.any(absent):
        return
    corners = np.array([(-0.5, -0.5), (0.5, -0.5), (0.5, 0.5), (-0.5, 0.5), (-0.5, -0.5)])
    squares = [Path(corners + place, closed=True) for place in np.argwhere(absent)[:, ::-1]]
    look = style.look()
    axes.add_patch(
        PathPatch(
            Path.make_compound_path(*squares), facecolor=look.paper, edgecolor=look.grid, hatch="////",
            linewidth=0,
        )
    )  # fmt: skip


def name_rows_and_columns(axes: Axes, rows: Sequence[str], columns: Sequence[str]) -> None:
    """Tokens, their blanks made visible, at the edges of a matrix."""
    axes.set_yticks(range(len(rows)), [visible(token) for token in rows])
    axes.set_xticks(range(len(columns)), [visible(token) for token in columns])


def box(
    axes: Axes,
    corner: Point,
    text: str,
    *,
    width: float = 1.0,
    ground: ColorType,
    edge: ColorType,
    dashed: bool = False,
    linewidth: float = 1.0,
    zorder: float = 2,
    **words: Any,
) -> None:
    """A box with its upper left at `corner`, y downwards, and a text in its middle."""
    axes.add_patch(
        Rectangle(
            (corner[0], corner[1]), width, 1, facecolor=ground, edgecolor=edge,
            linestyle=DASHED if dashed else "-", linewidth=linewidth, zorder=zorder,
        )
    )  # fmt: skip
    axes.text(
        corner[0] + width / 2, corner[1] + 0.52, text, ha="center", va="center", zorder=zorder + 2, **words
    )


def arrow(
    axes: Axes,
    start: Point,
    end: Point,
    colour: ColorType,
    *,
    dashes: LineStyleType = "-",
    linewidth: float = 1.5,
    zorder: float = 2,
) -> None:
    """An arrow from point to point."""
    how = {
        "arrowstyle": "-|>", "color": colour, "linestyle": dashes, "linewidth": linewidth,
        "mutation_scale": 12, "shrinkA": 0, "shrinkB": 0,
    }  # fmt: skip
    axes.annotate("", tuple(end), tuple(start), arrowprops=how, annotation_clip=False, zorder=zorder)


def scale_bar(figure: Figure, image: ScalarMappable, label: str, **how: Any) -> Colorbar:
    """The bar beside a map that says what its colours mean."""
    bar = figure.colorbar(image, label=label, **how)
    bar.outline.set_visible(False)
    return bar
