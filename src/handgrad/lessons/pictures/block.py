"""Pictures of lesson 14: a block's wiring, forward beside backward, and the sizes of gradients in a stack."""

import itertools
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.patches import FancyBboxPatch
from matplotlib.ticker import MaxNLocator

from handgrad.errors import require_known
from handgrad.plots import marks, style
from handgrad.plots.style import Picture
from handgrad.shapes import Float


class _Part(NamedTuple):
    """A box, or a place where the stream is copied or added to, at a height counted downwards."""

    kind: str
    height: float
    on_stream: bool = True


WIRING: dict[str, tuple[_Part, ...]] = {
    "pre": (
        _Part("copy", 1.0),
        _Part("norm", 2.0, on_stream=False),
        _Part("attention", 3.3, on_stream=False),
        _Part("add", 4.4),
        _Part("copy", 5.4),
        _Part("norm", 6.4, on_stream=False),
        _Part("feed-forward", 7.7, on_stream=False),
        _Part("add", 8.8),
    ),
    "post": (
        _Part("copy", 1.0),
        _Part("attention", 2.1, on_stream=False),
        _Part("add", 3.2),
        _Part("norm", 4.3),
        _Part("copy", 5.4),
        _Part("feed-forward", 6.5, on_stream=False),
        _Part("add", 7.6),
        _Part("norm", 8.7),
    ),
}
END = 9.9
BOX = (2.3, 0.72)
UNDONE = {"copy": "add", "add": "copy"}

ZERO = 1e-12
"""A gradient this much smaller than the largest is zero up to rounding."""
SIZES = (1e-9, 1e5)
"""Gradients outside leave the picture; they would squeeze the others."""


def drawing(placement: str = "pre") -> Picture:
    """A block, forward left and backward right; norms before the layers ("pre") or after the sums ("post").

    The thick line is the residual stream. Forward runs down, backward up, through the same boxes in the
    opposite order; each backward box takes what its forward has saved (dotted). Where forward copies,
    backward adds, and where forward adds, backward copies.
    """
    require_known("placement", placement, WIRING)
    with style.drawing() as look:
        figure = style.figure(6.6, 6.0)
        axes = figure.add_subplot(xlim=(-0.4, 10.4), ylim=(END + 0.45, -0.75))
        axes.set_axis_off()
        sides = (
            _Side(axes, 1.3, 3.5, forward=True, colour=look.series[1], dashes="-"),
            _Side(axes, 8.7, 6.5, forward=False, colour=look.series[0], dashes="--"),
        )
        for side in sides:
            side.draw(WIRING[placement])
        for part in WIRING[placement]:
            if part.kind in UNDONE:
                continue
            left, right = (side.place(part) for side in sides)
            start, end = left + BOX[0] / 2 + 0.08, right - BOX[0] / 2 - 0.08
            marks.arrow(axes, (start, part.height), (end, part.height), look.quiet, dashes=":", linewidth=1)
            axes.text(5.0, part.height - 0.1, "saved", color=look.quiet, fontsize=8, ha="center", va="bottom")
    return figure


class _Side(NamedTuple):
    """One half of the drawing: where its stream and its branches run, and which way."""

    axes: Axes
    stream: float
    branch: float
    forward: bool
    colour: str
    dashes: str

    def draw(self, parts: Sequence[_Part]) -> None:
        look = style.look()
        name = "forward: read down" if self.forward else "backward: read up"
        self.axes.text(self.stream, -0.55, name, ha="left" if self.forward else "right", weight="bold")
        self._stream(parts)
        self._branches(parts)
        for part in parts:
            if part.kind in UNDONE:
                self._junction(part)
            else:
                self._box(part)
        outward = -0.25 if self.forward else 0.25
        for height, text in (
            (0.25, "$x$" if self.forward else "$dx$"),
            (END, "$y$" if self.forward else "$dy$"),
        ):
            self.axes.text(
                self.stream + outward, height, text, color=look.ink, va="center",
                ha="right" if self.forward else "left",
            )  # fmt: skip

    def place(self, part: _Part) -> float:
        """The middle of a part."""
        return self.stream if part.on_stream else self.branch

    def _arrow(self, start: tuple[float, float], end: tuple[float, float], *, width: float = 1.6) -> None:
        """From `start` to `end` as the forward goes; the backward goes the other way."""
        if not self.forward:
            start, end = end, start
        marks.arrow(self.axes, start, end, self.colour, dashes=self.dashes, linewidth=width)

    def _line(self, x: Sequence[float], y: Sequence[float], *, width: float = 1.6) -> None:
        self.axes.plot(x, y, color=self.colour, linestyle=self.dashes, linewidth=width, zorder=1)

    def _shown(self, part: _Part) -> str:
        """What a part is on this side: where the forward copies, the backward adds."""
        return part.kind if self.forward else UNDONE.get(part.kind, part.kind)

    def _half(self, part: _Part) -> float:
        """How far a part reaches above and below its middle."""
        return {"copy": 0.0, "add": 0.22}.get(self._shown(part), BOX[1] / 2)

    def _stream(self, parts: Sequence[_Part]) -> None:
        """The residual stream from part to part: it runs through what copies, and into what adds."""
        stops = [(0.0, 0.0, False)]
        stops += [(p.height, self._half(p), self._shown(p) == "copy") for p in parts if p.on_stream]
        stops.append((END + 0.2, 0.0, False))
        for (above, half_above, from_copy), (below, half_below, into_copy) in itertools.pairwise(stops):
            start, end = (self.stream, above + half_above), (self.stream, below - half_below)
            if into_copy if self.forward else from_copy:
                self._line((self.stream, self.stream), (start[1], end[1]), width=2.8)
            else:
                self._arrow(start, end, width=2.8)

    def _branches(self, parts: Sequence[_Part]) -> None:
        """From each copy into the boxes beside the stream, and back into the next sum."""
        x, height = self.branch, 0.0
        towards = 0.22 if self.forward else -0.22
        for part in parts:
            if part.kind == "copy":
                height = part.height
                if self.forward:
                    self._line((self.stream, x), (height, height))
                else:
                    self._line((x, x), (height, height))
                    self._arrow((self.stream + towards, height), (x, height))
            elif part.kind == "add":
                self._line((x, x), (height, part.height))
                if self.forward:
                    self._arrow((x, part.height), (self.stream + towards, part.height))
                else:
                    self._line((self.stream, x), (part.height, part.height))
                letter = "$h$" if self.forward else "$dh$"
                self.axes.text(
                    x + towards,
                    (height + part.height) / 2,
                    letter,
                    ha="left" if self.forward else "right",
                    va="center",
                )
            elif not part.on_stream:
                self._arrow((x, height), (x, part.height - self._half(part)))
                height = part.height + self._half(part)

    def _junction(self, part: _Part) -> None:
        look = style.look()
        kind = self._shown(part)
        if kind == "copy":
            self.axes.plot(self.stream, part.height, "o", color=self.colour, markersize=7, zorder=3)
        else:
            self.axes.plot(
                self.stream, part.height, "o", color=look.paper, markeredgecolor=self.colour,
                markeredgewidth=1.8, markersize=15, zorder=3,
            )  # fmt: skip
            self.axes.plot(self.stream, part.height, "+", color=self.colour, markersize=9, zorder=4)
        outward = -0.32 if self.forward else 0.32
        self.axes.text(
            self.stream + outward, part.height, kind, color=look.quiet, fontsize=9, va="center",
            ha="right" if self.forward else "left",
        )  # fmt: skip

    def _box(self, part: _Part) -> None:
        look = style.look()
        width, height = BOX
        corner = (self.place(part) - width / 2, part.height - height / 2)
        self.axes.add_patch(
            FancyBboxPatch(
                corner,
                width,
                height,
                boxstyle="round,pad=0,rounding_size=0.12",
                facecolor=look.paper,
                edgecolor=self.colour,
                linestyle=self.dashes,
                linewidth=1.4,
                zorder=2,
            )
        )
        name = part.kind if self.forward else f"{part.kind}\nbackward"
        self.axes.text(
            self.place(part),
            part.height,
            name,
            ha="center",
            va="center",
            fontsize=9,
            linespacing=1.0,
            zorder=3,
        )


def gradient_sizes(sizes: Mapping[str, Float[np.ndarray, " n"]]) -> Picture:
    """The size of the gradient of the residual stream on its way back through a stack, for several stacks.

    Each curve has one number for every place between two blocks, from before the first to after the last. The
    gradient travels from right to left; on a level curve it keeps its size. Sizes outside `SIZES` leave the
    picture.
    """
    with style.drawing():
        figure = style.figure(6.4, 4.0)
        axes = figure.add_subplot()
        for (name, curve), line in zip(sizes.items(), marks.lines(), strict=False):
            axes.semilogy(curve, **line, marker="o", markersize=3, label=name)
        axes.set(
            xlabel="place in the stack: after so many blocks", ylabel="size of the gradient there", ylim=SIZES
        )
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(visible=True, axis="y")
        axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=2)
    return figure


def gradient_map(gradients: Mapping[str, np.ndarray]) -> Picture:
    """The root mean square of every weight's gradient, a row a kind of weight, a column a block.

    The names are those of `handgrad.loss_and_gradients`; what belongs to no block is left out. Zeros are zero
    up to rounding.
    """
    sizes: dict[str, dict[int, float]] = {}
    for name, gradient in gradients.items():
        if name.startswith("blocks."):
            _, layer, kind = name.split(".", 2)
            sizes.setdefault(kind, {})[int(layer)] = float(np.sqrt(np.mean(np.square(gradient))))
    table = np.array([list(row.values()) for row in sizes.values()])
    is_zero = table < ZERO * table.max()
    with style.drawing() as look:
        figure = style.figure(2.6 + 0.85 * table.shape[1], 1.1 + 0.3 * table.shape[0])
        axes = figure.add_subplot()
        least = table[~is_zero].min()
        scale = LogNorm(least / 3, table.max() * 3)  # room at both ends: no cell is quite like the paper
        texts = [
            ["0" if zero else _size(size) for size, zero in zip(row, zeros, strict=True)]
            for row, zeros in zip(table, is_zero, strict=True)
        ]
        marks.cells(axes, np.maximum(table, least / 3), look.amounts, scale, texts=texts, aspect="auto")
        axes.set_xticks(range(table.shape[1]), [f"block {n}" for n in range(table.shape[1])])
        axes.set_yticks(range(table.shape[0]), list(sizes))
        axes.set_title("root mean square of each gradient", fontsize=10)
        axes.tick_params(top=True, labeltop=True, bottom=False, labelbottom=False)
    return figure


def _size(size: float) -> str:
    return f"{size:.1e}".replace("e-0", "e-")
