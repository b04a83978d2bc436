"""Pictures of embeddings and positions: a lookup as a product, sinusoids as waves, RoPE as turning hands."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Circle

from handgrad.ops import rope, sinusoidal_position
from handgrad.plots import marks, style
from handgrad.plots.style import Picture
from handgrad.shapes import Float, Int

TABLE = np.array([[1.0, 0.0, 2.0], [0.0, 3.0, -1.0], [2.0, 1.0, 0.0], [-2.0, 0.0, 1.0]])
TOKEN_IDS = np.array([1, 0, 1, 3, 2])
"""A table of four tokens, three numbers each, and a text of five."""

QUERY = np.array([1.0, 0.2, 1.0, -0.3, 1.0, 0.5])
"""Three pairs."""


def lookup(
    weight: Float[np.ndarray, "V D"] = TABLE,
    token_ids: Int[np.ndarray, " T"] = TOKEN_IDS,
    *,
    vocabulary: Sequence[str] | None = None,
) -> Picture:
    """One-hot rows times a table: the single 1 of each row picks a row of the table."""
    V = weight.shape[0]
    one_hot = (token_ids[:, None] == np.arange(V)).astype(float)
    vocabulary = [str(v) for v in range(V)] if vocabulary is None else vocabulary
    tokens = [vocabulary[v] for v in token_ids]
    names = (
        ("one-hot rows $E$", tokens, vocabulary),
        ("table $W$", vocabulary, None),
        ("$EW$", tokens, None),
    )
    return product((one_hot, weight, one_hot @ weight), names)


def sinusoid(
    T: int = 100,
    d_model: int = 32,
    *,
    base: float = 10_000.0,
    shown: Sequence[int] = (0, 6, 12, 18),
) -> Picture:
    """The sinusoidal positions: a column for each position, and below, some components as waves.

    From top to bottom the waves grow longer; the lowest hardly move. The whole column tells the position, as
    all hands of a clock tell the time.
    """
    table = sinusoidal_position.table(T, d_model, base=base)
    shown = [component for component in shown if component < d_model]
    with style.drawing() as look:
        figure = style.figure(6.4, 5.6)
        grid = figure.add_gridspec(1 + len(shown), 1, height_ratios=[3.2] + [0.7] * len(shown))
        top = figure.add_subplot(grid[0])
        image = top.imshow(table.T, cmap=look.signed, vmin=-1.6, vmax=1.6, aspect="auto")
        top.set(ylabel="component", yticks=sorted({0, *shown, d_model - 1}))
        top.tick_params(labelbottom=False)
        beside = top.inset_axes((1.02, 0.0, 0.025, 1.0))
        marks.scale_bar(figure, image, "", cax=beside, ticks=[-1, 0, 1], boundaries=np.linspace(-1, 1, 101))
        for row, (component, line) in enumerate(zip(shown, marks.lines(), strict=False)):
            axes, colour = figure.add_subplot(grid[1 + row], sharex=top), line["color"]
            axes.plot(table[:, component], color=colour, marker=".", markersize=3, linewidth=1.2)
            axes.set(yticks=[-1, 1], ylim=(-1.15, 1.15), xlim=(-0.5, T - 0.5))
            last = row == len(shown) - 1
            axes.tick_params(labelbottom=last)
            said = f"component {component}\nwavelength {_length(component, d_model, base)}"
            axes.text(1.02, 0.5, said, transform=axes.transAxes, va="center", color=colour, fontsize=9)
            if last:
                axes.set(xlabel="position")
    return figure


def rotation(x: Float[np.ndarray, " K"] = QUERY, *, position: int = 3, base: float = 10_000.0) -> Picture:
    """The pairs of a vector as hands: dashed as they are, full as RoPE turns them at `position`.

    Lengths stay. The first pair turns by one radian a position, every later pair more slowly.
    """
    turned, _ = rope.forward(x[None], offset=position, base=base)
    angles = position * base ** (-np.arange(0, x.size, 2) / x.size)
    return dials(x.reshape(-1, 2), turned.reshape(-1, 2), angles, position, sense=1)


def dials(
    before: Float[np.ndarray, "N 2"],
    after: Float[np.ndarray, "N 2"],
    angles: Float[np.ndarray, " N"],
    position: int,
    *,
    sense: int,
) -> Picture:
    """A circle for each pair, with the pair before and after; sense 1 is counterclockwise."""
    n = len(before)
    with style.drawing() as look:
        figure = style.figure(6.4, 6.4 / n + 0.7)
        figure.suptitle(f"position {position}", x=0.02, ha="left", fontsize=11)
        limit = 1.15 * float(np.max(np.linalg.norm(before, axis=1)))
        for i, axes in enumerate(np.atleast_1d(figure.subplots(1, n))):
            axes.set(xlim=(-limit, limit), ylim=(-limit, limit), aspect="equal", xticks=[], yticks=[])
            axes.spines[:].set_visible(False)
            axes.axhline(0, color=look.grid, linewidth=0.8)
            axes.axvline(0, color=look.grid, linewidth=0.8)
            radius = float(np.linalg.norm(before[i]))
            axes.add_patch(Circle((0, 0), radius, facecolor="none", edgecolor=look.quiet, linewidth=0.8))
            start = np.arctan2(before[i, 1], before[i, 0])
            arc = start + sense * np.linspace(0, min(angles[i], 2 * np.pi), 100)
            axes.plot(0.45 * radius * np.cos(arc), 0.45 * radius * np.sin(arc), color=look.quiet, linewidth=1)
            _hand(axes, before[i], look.series[1], "--")
            _hand(axes, after[i], look.series[0], "-")
            axes.set_title(f"pair {i}: {_degrees(angles[i])}", fontsize=10)
    return figure


def product(
    matrices: tuple[Float[np.ndarray, "..."], ...],
    names: Sequence[tuple[str, Sequence[str], Sequence[str] | None]],
) -> Picture:
    """Three matrices in a row: one times another is the third."""
    widths = [matrix.shape[1] for matrix in matrices]
    rows = max(matrix.shape[0] for matrix in matrices)
    with style.drawing() as look:
        cell = min(0.42, 4.4 / sum(widths))  # one size in all three
        figure = style.figure(1.9 + cell * sum(widths), 1.1 + cell * rows)
        panels = figure.subplots(1, 3, width_ratios=widths)
        for axes, matrix, (title, left, below) in zip(panels, matrices, names, strict=True):
            scale, texts = marks.around_zero(matrix), marks.numbers(matrix)
            marks.cells(axes, matrix, look.signed, scale, texts=texts)
            axes.set_title(title, fontsize=10)
            marks.name_rows_and_columns(axes, left, below or [])
        for axes, sign in zip(panels[1:], "×=", strict=True):
            axes.set_ylabel(sign, rotation=0, fontsize=14, labelpad=10, va="center")
    return figure


def _hand(axes: Axes, tip: Float[np.ndarray, " 2"], colour: str, dashes: str) -> None:
    axes.plot([0, tip[0]], [0, tip[1]], color=colour, linestyle=dashes, linewidth=1.8)
    axes.plot(
        *tip, "o", color=colour, markersize=6, markerfacecolor=colour if dashes == "-" else style.look().paper
    )


def _degrees(angle: float) -> str:
    degrees = np.degrees(angle)
    return f"{degrees:.3g}°" if degrees < 1000 else f"{degrees:.0f}°"


def _length(component: int, d_model: int, base: float) -> str:
    """The wavelength of a component, in positions."""
    length = 2 * np.pi * base ** (component // 2 * 2 / d_model)
    return f"{length:,.1f}" if length < 100 else f"{length:,.0f}"
