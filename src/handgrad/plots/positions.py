"""Pictures of tokens becoming vectors, and of where they stand: waves, clocks, and products that depend on
distance alone.
"""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Circle

from handgrad.ops import rope, sinusoidal_position
from handgrad.plots import style
from handgrad.plots.attention import cells
from handgrad.plots.style import Picture
from handgrad.shapes import Float, Int

TABLE = np.array([[1.0, 0.0, 2.0], [0.0, 3.0, -1.0], [2.0, 1.0, 0.0], [-2.0, 0.0, 1.0]])
TOKEN_IDS = np.array([1, 0, 1, 3, 2])
"""A table of four tokens, three numbers each, and a text of five."""

Q, K = np.array([1.0, 0.2, 1.0, -0.3, 1.0, 0.5]), np.array([0.8, 0.0, 1.0, 0.3, 0.7, 0.2])
"""A query and a key of three pairs."""


def lookup(
    weight: Float[np.ndarray, "V D"] = TABLE,
    token_ids: Int[np.ndarray, " T"] = TOKEN_IDS,
    *,
    tokens: Sequence[str] | None = None,
    vocabulary: Sequence[str] | None = None,
) -> Picture:
    """One-hot rows times a table: the single one of each row picks a row of the table, and nothing else."""
    V = weight.shape[0]
    one_hot = (token_ids[:, None] == np.arange(V)).astype(float)
    vocabulary = [str(v) for v in range(V)] if vocabulary is None else vocabulary
    tokens = [vocabulary[v] for v in token_ids] if tokens is None else tokens
    names = (
        ("one-hot rows $E$", tokens, vocabulary),
        ("table $W$", vocabulary, None),
        ("$EW$", tokens, None),
    )
    return _product((one_hot, weight, one_hot @ weight), names)


def scatter(
    dy: Float[np.ndarray, "T D"] | None = None,
    token_ids: Int[np.ndarray, " T"] = TOKEN_IDS,
    *,
    tokens: Sequence[str] | None = None,
    vocabulary: Sequence[str] | None = None,
) -> Picture:
    """The gradient of the table: each row of dy goes home to the row its token came from; equals add up."""
    V = len(vocabulary) if vocabulary is not None else int(token_ids.max()) + 1
    dy = np.arange(1.0, 1 + 2 * token_ids.size).reshape(-1, 2) if dy is None else dy
    to_one_hot = (token_ids[None, :] == np.arange(V)[:, None]).astype(float)
    vocabulary = [str(v) for v in range(V)] if vocabulary is None else vocabulary
    tokens = [vocabulary[v] for v in token_ids] if tokens is None else tokens
    names = ((r"$E^\top$", vocabulary, tokens), ("$dy$", tokens, None), (r"$dW$", vocabulary, None))
    return _product((to_one_hot, dy, to_one_hot @ dy), names)


def sinusoid(
    T: int = 100,
    d_model: int = 32,
    *,
    base: float = 10_000.0,
    shown: Sequence[int] = (0, 6, 12, 18),
) -> Picture:
    """The sinusoidal positions: a column for each position, and below, some components as waves.

    From top to bottom the waves grow longer; the lowest are so long that they hardly move. A position is told
    by its whole column, as a time is by all hands of a clock.
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
        bar = figure.colorbar(image, cax=beside, ticks=[-1, 0, 1], boundaries=np.linspace(-1, 1, 101))
        bar.outline.set_visible(False)
        for row, (component, colour) in enumerate(zip(shown, _repeated(look.series), strict=False)):
            axes = figure.add_subplot(grid[1 + row], sharex=top)
            axes.plot(table[:, component], color=colour, marker=".", markersize=3, linewidth=1.2)
            axes.set(yticks=[-1, 1], ylim=(-1.15, 1.15), xlim=(-0.5, T - 0.5))
            last = row == len(shown) - 1
            axes.tick_params(labelbottom=last)
            said = f"component {component}\nwavelength {_length(component, d_model, base)}"
            axes.text(1.02, 0.5, said, transform=axes.transAxes, va="center", color=colour, fontsize=9)
            if last:
                axes.set(xlabel="position")
    return figure


def similarity(
    T: int = 64, d_model: int = 64, *, base: float = 10_000.0, rows: Sequence[int] = (8, 32, 56)
) -> Picture:
    """Scalar products between sinusoidal positions. Left, of all with all: every diagonal has one colour.

    Right, some rows of it, against the distance: they lie on one curve, a sum of cosines.
    """
    table = sinusoidal_position.table(T, d_model, base=base)
    products = table @ table.T
    distance = np.linspace(-T, T, 801)
    frequencies = base ** (-np.arange(0, d_model, 2) / d_model)
    curve = np.cos(distance[:, None] * frequencies).sum(axis=1)
    return _by_distance(products, distance, curve, rows=rows, name="scalar product", side="position")


def relative_scores(
    q: Float[np.ndarray, " K"] = Q,
    k: Float[np.ndarray, " K"] = K,
    *,
    T: int = 48,
    base: float = 100.0,
    rows: Sequence[int] = (6, 24, 42),
) -> Picture:
    """One query and one key, each turned by its position (RoPE), at every pair of positions.

    Left, the scores; right, some rows of them against the distance of query and key: they lie on one curve.
    """
    turned_q, _ = rope.forward(np.tile(q, (T, 1)), base=base)
    turned_k, _ = rope.forward(np.tile(k, (T, 1)), base=base)
    distance = np.linspace(-T, T, 801)
    angle = distance[:, None] * base ** (-np.arange(0, q.size, 2) / q.size)
    curve = rope.turn(np.tile(q, (distance.size, 1)), np.cos(angle), np.sin(angle)) @ k
    return _by_distance(turned_q @ turned_k.T, distance, curve, rows=rows, name=r"$q\cdot k$")


def clocks(position: int = 12, d_model: int = 8, *, base: float = 10_000.0) -> Picture:
    """A sinusoidal position as a row of clocks: each pair (sine, cosine) is a hand that began upright.

    The first clock goes round once in $2\\pi$ positions, each later one more slowly.
    """
    hands = sinusoidal_position.table(1, d_model, offset=position, base=base).reshape(-1, 2)
    upright = np.tile([0.0, 1.0], (len(hands), 1))
    return _dials(
        upright, hands, position * base ** (-np.arange(0, d_model, 2) / d_model), position, sense=-1
    )


def rotation(x: Float[np.ndarray, " K"] = Q, *, position: int = 3, base: float = 10_000.0) -> Picture:
    """The pairs of a vector as hands: dashed as they are, full as RoPE turns them at `position`.

    Lengths stay. The first pair turns by one radian a position, every later one more slowly.
    """
    turned, _ = rope.forward(x[None], offset=position, base=base)
    angles = position * base ** (-np.arange(0, x.size, 2) / x.size)
    return _dials(x.reshape(-1, 2), turned.reshape(-1, 2), angles, position, sense=1)


def _dials(
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
            _arrow(axes, before[i], look.series[1], "--")
            _arrow(axes, after[i], look.series[0], "-")
            axes.set_title(f"pair {i}: {_degrees(angles[i])}", fontsize=10)
    return figure


def _product(
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
            size = 1.6 * float(np.max(np.abs(matrix)))
            cells(axes, matrix, look.signed, (-size, size))
            axes.set_title(title, fontsize=10)
            axes.set_yticks(range(len(left)), [_shown(token) for token in left])
            axes.set_xticks(*((range(len(below)), [_shown(token) for token in below]) if below else ([], [])))
        for axes, sign in zip(panels[1:], "×=", strict=True):
            axes.set_ylabel(sign, rotation=0, fontsize=14, labelpad=10, va="center")
    return figure


def _by_distance(
    products: Float[np.ndarray, "T T"],
    distance: Float[np.ndarray, " n"],
    curve: Float[np.ndarray, " n"],
    *,
    rows: Sequence[int],
    name: str,
    side: str = "",
) -> Picture:
    """A matrix beside some of its rows, moved so that the diagonal is at zero."""
    T = len(products)
    size = float(np.max(np.abs(products)))
    first, second = (side, side) if side else ("position of the query", "position of the key")
    with style.drawing() as look:
        figure = style.figure(6.6, 3.6)
        left, right = figure.subplots(1, 2, width_ratios=[1, 1.15])
        scale = (
            {"cmap": look.amounts, "vmin": 0.0, "vmax": size}
            if np.min(products) >= 0
            else {"cmap": look.signed, "vmin": -1.3 * size, "vmax": 1.3 * size}
        )
        image = left.imshow(products, **scale)
        left.set(xlabel=second, ylabel=first, yticks=rows)
        bar = figure.colorbar(image, ax=left, location="top", shrink=0.8, label=name)
        bar.outline.set_visible(False)
        right.plot(distance, curve, color=look.quiet, linewidth=1, zorder=1)
        for number, (row, colour, marker) in enumerate(zip(rows, look.series, "o^s", strict=False)):
            columns = np.arange(number, T, 3)  # a third of the points each, or the last would hide the others
            right.plot(
                row - columns, products[row, columns], linestyle="", marker=marker, markersize=4,
                color=colour, markerfacecolor=look.paper, label=f"row {row}",
            )  # fmt: skip
        right.set(xlabel="distance: row \N{MINUS SIGN} column", ylabel=name, xlim=(-T, T))
        right.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=3, handletextpad=0.1, columnspacing=1.0)
        right.grid(visible=True)
    return figure


def _arrow(axes: Axes, tip: Float[np.ndarray, " 2"], colour: str, dashes: str) -> None:
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


def _shown(token: str) -> str:
    return token.replace(" ", "␣")


def _repeated(colours: Sequence[str]) -> Sequence[str]:
    return [*colours] * 3
