"""Pictures of lesson 14: where weights are, where arithmetic goes, what training keeps in memory."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle
from matplotlib.ticker import FuncFormatter, MaxNLocator

from handgrad import tree
from handgrad.model.config import ModelConfig
from handgrad.model.init import shapes
from handgrad.plots import style
from handgrad.plots.style import Picture
from handgrad.shapes import Float

CONTEXTS = np.logspace(4, 17, 131, base=2)
BATCH_SIZES = range(1, 17)
FLOAT_BYTES = 4
NARROW, TOO_NARROW = 0.18, 0.04
"""The least shares of the picture's width for a horizontal name, and for an upright one."""
PALE = 0.75
"""The opacity of large areas."""

KINDS = {"attention": 1, "feed-forward": 0, "embedding": 2, "head": 4, "positions": 5, "norms and biases": 3}
"""What weights are for, and the number of its colour in the theme."""


def weights_by_kind(config: ModelConfig) -> dict[str, int]:
    """How many weights a model has of each of `KINDS`."""
    found = dict.fromkeys(KINDS, 0)
    for name, weight in tree.named_leaves(shapes(config)):
        part = name.split(".")[2 if name.startswith("blocks.") else 0].replace("_", "-")
        kind = part if weight.ndim == 2 else "norms and biases"
        found[kind] += weight.size
    return found


def parameters(config: ModelConfig) -> Picture:
    """Where the weights of a model are: every area is as large as the number of weights in it.

    From left to right: the embedding with learned positions; the blocks, side by side; the output head where
    it is not the embedding. Norms and biases are too few to be seen; the line below says how few.
    """
    n = weights_by_kind(config)
    total, unseen = sum(n.values()), n["norms and biases"]
    seen = total - unseen
    with style.drawing():
        figure = style.figure(6.6, 3.6)
        axes = figure.add_subplot(xlim=(0, 1), ylim=(0, 1))
        embedding = {kind: n[kind] / total for kind in ("positions", "embedding") if n[kind]}
        blocks = {kind: n[kind] / total for kind in ("attention", "feed-forward")}
        head = {"head": n["head"] / total} if n["head"] else {}
        left = 0.0
        for shares, n_columns in ((embedding, 1), (blocks, config.n_layers), (head, 1)):
            width = sum(shares.values()) * total / seen
            _columns(axes, shares, left, width, n_columns)
            left += width
        axes.set(yticks=[], xticks=[])
        axes.set_xlabel(
            f"{total:,} parameters; {unseen / total:.2%} of them, norms and biases, are not drawn", fontsize=9
        )
        axes.spines[:].set_visible(False)
    return figure


def _columns(axes: Axes, shares: dict[str, float], left: float, width: float, n_columns: int) -> None:
    """Columns side by side, all alike, each divided into the kinds of weights in it."""
    look, whole, top = style.look(), sum(shares.values()), 1.0
    for kind, share in shares.items():
        height = share / whole
        for column in range(n_columns):
            axes.add_patch(
                Rectangle(
                    (left + column * width / n_columns, top - height),
                    width / n_columns,
                    height,
                    facecolor=look.series[KINDS[kind]],
                    edgecolor=look.paper,
                    alpha=PALE,
                )
            )
        if width > TOO_NARROW and height > 0.1:
            _label(axes, _named(kind, share), (left + width / 2, top - height / 2), upright=width < NARROW)
        top -= height
    if shares and width <= TOO_NARROW:
        _above(axes, _named(" and ".join(reversed(shares)), whole), left, "left")
    elif n_columns > 1:
        _above(axes, f"{n_columns} blocks", left + width / 2, "center")


def _named(kind: str, share: float) -> str:
    return f"{kind} {share:.1%}" if share < 0.1 else f"{kind} {share:.0%}"


def _label(axes: Axes, text: str, middle: tuple[float, float], *, upright: bool = False) -> None:
    """A name upon an area."""
    axes.text(
        *middle, text, rotation=90 if upright else 0, ha="center", va="center", fontsize=9,
        bbox={"boxstyle": "round,pad=0.3", "facecolor": style.look().paper, "edgecolor": "none"},
    )  # fmt: skip


def _above(axes: Axes, text: str, x: float, side: str) -> None:
    axes.annotate(text, (x, 1), (0, 4), textcoords="offset points", ha=side, fontsize=9)


def flops(config: ModelConfig, contexts: Sequence[float] | Float[np.ndarray, " n"] = CONTEXTS) -> Picture:
    """The shares of training's arithmetic as the context grows.

    Products with weights cost the same for every token; scores and the mixing of values cost more for more
    tokens. The line marks the context of the configuration.
    """
    n = weights_by_kind(config)
    T = np.asarray(contexts, dtype=float)
    width = config.n_heads * config.head_width
    parts = {
        "output head": 6.0 * (n["head"] or n["embedding"]) + 0 * T,
        "feed-forward": 6.0 * n["feed-forward"] + 0 * T,
        "attention: projections": 6.0 * n["attention"] + 0 * T,
        "attention: scores and values": 12.0 * config.n_layers * width * T,
    }
    total = sum(parts.values())
    with style.drawing() as look:
        figure = style.figure(6.6, 4.0)
        axes = figure.add_subplot()
        shares = [part / total for part in parts.values()]
        colours = [look.series[number] for number in (4, 0, 1, 2)]
        areas = axes.stackplot(T, shares, colors=colours, alpha=PALE)
        for area in areas:
            area.set_edgecolor(look.paper)
        axes.axvline(config.context_length, color=look.ink, linestyle="--", linewidth=1.2)
        axes.annotate(
            f"context of {config.context_length:,}", (config.context_length, 1), (0, 4),
            textcoords="offset points", ha="center", fontsize=9, annotation_clip=False,
        )  # fmt: skip
        axes.set(xlim=(T[0], T[-1]), ylim=(0, 1), xlabel="tokens in the context")
        axes.set_ylabel("share of the arithmetic")
        axes.set_xscale("log", base=2)
        axes.xaxis.set_major_formatter(FuncFormatter(lambda tokens, _: f"{tokens:,.0f}"))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda share, _: f"{share:.0%}"))
        _inside(axes, T, shares, list(parts))
    return figure


def _inside(
    axes: Axes, x: Float[np.ndarray, " n"], shares: list[Float[np.ndarray, " n"]], names: list[str]
) -> None:
    """The name of every area where it is widest."""
    tops = np.cumsum(shares, axis=0)
    for share, top, name in zip(shares, tops, names, strict=True):
        inner = slice(len(x) // 4, -len(x) // 4)
        best = int(np.argmax(share[inner])) + len(x) // 4
        if share[best] > 0.07:
            _label(axes, name, (x[best], top[best] - share[best] / 2))


def memory(config: ModelConfig, window_bytes: float, batch_sizes: Sequence[int] = BATCH_SIZES) -> Picture:
    """What a step of training keeps in memory, by kind, as the batch grows.

    Weights, gradients and Adam's two moments take the same at every batch size. What forward saves for
    backward, `window_bytes` for one window of text, grows with it. The names stand in the areas' order.
    """
    weights = FLOAT_BYTES * sum(weights_by_kind(config).values())
    B = np.asarray(batch_sizes, dtype=float)
    parts = {"weights": 1, "gradients": 1, "moments (two)": 2}
    heights = [n * weights + 0 * B for n in parts.values()] + [window_bytes * B]
    unit, scale = ("GB", 1e9) if max(map(max, heights)) > 2e9 else ("MB", 1e6)
    with style.drawing() as look:
        figure = style.figure(6.6, 4.0)
        axes = figure.add_subplot()
        colours = [look.series[number] for number in (1, 0, 4, 2)]
        names = [*parts, "activations"]
        areas = axes.stackplot(B, [h / scale for h in heights], colors=colours, alpha=PALE, labels=names)
        for area in areas:
            area.set_edgecolor(look.paper)
        axes.set(xlabel="windows in a batch", ylabel=f"memory ({unit})", xlim=(B[0], B[-1]), ylim=(0, None))
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda size, _: f"{size:,.0f}"))
        axes.legend(loc="upper left", reverse=True)
    return figure
