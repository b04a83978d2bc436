"""Pictures of lesson 10: the gradient of a table, clocks, and products that depend on the distance alone."""

from collections.abc import Sequence

import numpy as np

from handgrad.ops import rope, sinusoidal_position
from handgrad.plots import marks, style
from handgrad.plots.positions import QUERY, TOKEN_IDS, dials, product
from handgrad.plots.style import Picture
from handgrad.shapes import Float, Int

KEY = np.array([0.8, 0.0, 1.0, 0.3, 0.7, 0.2])


def scatter(
    dy: Float[np.ndarray, "T D"] | None = None,
    token_ids: Int[np.ndarray, " T"] = TOKEN_IDS,
    *,
    vocabulary: Sequence[str] | None = None,
) -> Picture:
    """The gradient of the table: each row of dy is added to the row that its token came from."""
    V = len(vocabulary) if vocabulary is not None else int(token_ids.max()) + 1
    dy = np.arange(1.0, 1 + 2 * token_ids.size).reshape(-1, 2) if dy is None else dy
    to_one_hot = (token_ids[None, :] == np.arange(V)[:, None]).astype(float)
    vocabulary = [str(v) for v in range(V)] if vocabulary is None else vocabulary
    tokens = [vocabulary[v] for v in token_ids]
    names = ((r"$E^\top$", vocabulary, tokens), ("$dy$", tokens, None), (r"$dW$", vocabulary, None))
    return product((to_one_hot, dy, to_one_hot @ dy), names)


def similarity(T: int = 64, d_model: int = 64, *, rows: Sequence[int] = (8, 32, 56)) -> Picture:
    """Scalar products between sinusoidal positions: left all with all, right some rows against the distance.

    Every diagonal has one colour, and the rows lie on one curve, a sum of cosines.
    """
    base = 10_000.0
    table = sinusoidal_position.table(T, d_model, base=base)
    products = table @ table.T
    distance = np.linspace(-T, T, 801)
    frequencies = base ** (-np.arange(0, d_model, 2) / d_model)
    curve = np.cos(distance[:, None] * frequencies).sum(axis=1)
    return _by_distance(products, distance, curve, rows=rows, name="scalar product", side="position")


def relative_scores(
    q: Float[np.ndarray, " K"] = QUERY,
    k: Float[np.ndarray, " K"] = KEY,
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

    The first clock goes round once in $2\\pi$ positions, each later clock more slowly.
    """
    hands = sinusoidal_position.table(1, d_model, offset=position, base=base).reshape(-1, 2)
    upright = np.tile([0.0, 1.0], (len(hands), 1))
    return dials(upright, hands, position * base ** (-np.arange(0, d_model, 2) / d_model), position, sense=-1)


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
        marks.scale_bar(figure, image, name, ax=left, location="top", shrink=0.8)
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
