"""Pictures of lesson 19: a machine's limits, where a step's time goes, what lies in memory, rounding.

All take what was measured or counted; nothing here measures.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator
from matplotlib.transforms import Transform

from handgrad.plots import marks, style
from handgrad.plots.style import Picture

Numbers: TypeAlias = Sequence[float] | np.ndarray
GIGA = 1e9
UNITS = {"GiB": 1 << 30, "MiB": 1 << 20, "KiB": 1 << 10}
ROUNDING = 2.0**-24
"""The largest relative error of rounding to float32."""


class Format(NamedTuple):
    """A binary floating-point format."""

    n_bits: int
    """Digits of a number, the leading one included."""
    least: int
    """Below 2 to this power, numbers are as far apart as there."""
    most: int
    """All numbers are below 2 to this power."""


FORMATS = {
    "bfloat16": Format(8, -126, 128),
    "float16": Format(11, -14, 16),
    "float32": Format(24, -126, 128),
}


def by_size(
    n_bytes: Numbers,
    series: Mapping[str, Numbers],
    *,
    caches: Mapping[str, int] | None = None,
    ylabel: str = "GB/s",
) -> Picture:
    """A speed (GB/s, or nanoseconds a number) against the bytes worked on.

    Data that fits into a level of the processor's cache is as fast as that level: each level is a step.
    `caches`, the levels' sizes, are dotted lines.
    """
    with style.drawing() as look:
        figure = style.figure(5.8, 3.8)
        axes = figure.add_subplot(ylabel=ylabel, xlabel="bytes worked on")
        for (name, values), line in zip(series.items(), marks.lines(), strict=False):
            axes.plot(n_bytes, values, **line, marker="o", markersize=4, label=name, zorder=3)
        axes.set(ylim=(0, 1.2 * max(float(np.max(values)) for values in series.values())))
        _scale_of_bytes(axes, "x", n_bytes)
        axes.grid(visible=True, axis="y")
        for name, size in _within(caches, n_bytes):
            axes.axvline(size, color=look.quiet, linewidth=1, linestyle=":")
            _say(axes, f"{name}\n{size_of(size)}", (size, 1), (-4, -1), axes.get_xaxis_transform(), va="top")
        if len(series) > 1:
            figure.legend(loc="outside lower center", ncols=len(series))
    return figure


def roofline(
    operations_per_second: float,
    bytes_per_second: float,
    kernels: Mapping[str, tuple[float, float]],
    *,
    cache_bytes_per_second: float | None = None,
    chosen: str | None = None,
) -> Picture:
    """A machine's two ceilings, and kernels below them (Williams, Waterman & Patterson, "Roofline", 2009).

    To the right, there is more arithmetic for each byte that is moved. The flat ceiling is the most
    arithmetic a second; the slanted one is what memory can feed; the dashed one, if given, what the cache can
    feed. `kernels` are (operations a byte, operations a second). A `chosen` one is named above the picture,
    with its rate, and the others are pale.
    """
    with style.drawing() as look:
        figure = style.figure(5.8, 4.4)
        axes = figure.add_subplot(xscale="log", yscale="log", xlabel="operations a byte", ylabel="GFLOP/s")
        intensities, rates = np.array(list(kernels.values())).reshape(-1, 2).T
        ridge = operations_per_second / bytes_per_second
        left, right = 0.5 * np.min(intensities, initial=ridge), 2 * np.max(intensities, initial=2 * ridge)
        at = np.geomspace(left, right, 400)
        roof = np.minimum(operations_per_second, at * bytes_per_second)
        bottom = 0.4 * min(roof[0], np.min(rates, initial=roof[0]))
        axes.set(xlim=(left, right), ylim=(bottom / GIGA, 2.5 * operations_per_second / GIGA))
        if cache_bytes_per_second is not None:
            near = np.minimum(operations_per_second, at * cache_bytes_per_second)
            label = "what the cache brings"
            axes.plot(at, near / GIGA, color=look.quiet, linestyle="--", linewidth=1.2, label=label)
        axes.plot(at, roof / GIGA, color=look.ink, label="what memory brings")
        peak = f"arithmetic: {_short(operations_per_second / GIGA)} GFLOP/s"
        above = {"fontsize": 9, "va": "bottom", "color": look.ink}
        _say(axes, peak, (right, operations_per_second / GIGA), (-2, 4), axes.transData, **above)
        for number, (name, point) in enumerate(kernels.items()):
            _draw_kernel(axes, name, point, number, chosen)
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.grid(visible=True)
        figure.legend(loc="outside lower center", ncols=2)
    return figure


def shares(seconds: Mapping[str, float], notes: Mapping[str, str] | None = None) -> Picture:
    """Where the time of a training step goes: a bar for each kernel, its share, and a note beside it."""
    with style.drawing() as look:
        figure = style.figure(6.4, 0.8 + 0.32 * len(seconds))
        axes = figure.add_subplot(xlabel="share of the time (%)")
        parts = 100 * np.array(list(seconds.values())) / sum(seconds.values())
        places = np.arange(len(parts))
        axes.barh(places, parts, height=0.7, color=look.background)
        for place, part, name in zip(places, parts, seconds, strict=True):
            note = (notes or {}).get(name, "")
            words = f"{part:.1f}%" + (f", {note}" if note else "")
            _say(
                axes,
                words,
                (float(part), float(place)),
                (5, 0),
                axes.transData,
                ha="left",
                va="center",
                color=look.ink,
            )
        axes.set(xlim=(0, 1.9 * parts.max()), ylim=(len(parts) - 0.4, -0.6), yticks=places)
        axes.set_yticklabels(list(seconds), fontsize=9)
        axes.tick_params(axis="y", length=0)
        axes.spines["left"].set_visible(False)
    return figure


def kept(panels: Mapping[str, tuple[str, Numbers, Mapping[str, Numbers]]]) -> Picture:
    """The bytes in memory as something grows, by method, in panels side by side.

    A panel has a title, the name and the values of what grows, and the bytes of each method. Both axes are
    logarithmic: a line that is twice as steep grows with the square.
    """
    with style.drawing():
        figure = style.figure(6.4, 3.9)
        cells = figure.subplots(1, len(panels), squeeze=False).flat
        for axes, (title, (xlabel, at, lines)) in zip(cells, panels.items(), strict=True):
            axes.set_title(title, fontsize=10)
            _scale_of_counts(axes, at, every=4)
            for (name, values), line in zip(lines.items(), marks.lines(), strict=False):
                axes.plot(at, values, **line, label=name)
            _scale_of_bytes(axes, "y", np.concatenate([np.asarray(values) for values in lines.values()]))
            axes.set(xlabel=xlabel)
            axes.grid(visible=True)
        handles, labels = figure.axes[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=2)
    return figure


def memory_by_micro_batch(
    tokens: Numbers,
    series: Mapping[str, Numbers],
    *,
    caches: Mapping[str, int] | None = None,
    title: str = "",
) -> Picture:
    """Bytes of activations against the tokens of a batch, computed at once or in parts.

    In parts, a batch takes what its largest part takes: the line is level from there on. `caches`, the sizes
    of the processor's, are dotted lines: what lies below one fits.
    """
    with style.drawing() as look:
        figure = style.figure(5.8, 4.0)
        axes = figure.add_subplot(xlabel="tokens in the batch", ylabel="activations")
        axes.set_title(title)
        for (name, values), line in zip(series.items(), marks.lines(), strict=False):
            axes.plot(tokens, values, **line, label=name)
        _scale_of_counts(axes, tokens, every=2)
        everything = [*np.concatenate([np.asarray(v) for v in series.values()]), *(caches or {}).values()]
        _scale_of_bytes(axes, "y", everything)
        for name, size in (caches or {}).items():
            axes.axhline(size, color=look.quiet, linewidth=1, linestyle=":")
            beside = {"ha": "left", "va": "center"}
            _say(axes, f"{name}\n{size_of(size)}", (1, size), (4, 0), axes.get_yaxis_transform(), **beside)
        figure.legend(loc="outside lower center", ncols=2)
    return figure


def rounding() -> Picture:
    """The distance of neighbouring numbers against their size, in each format, both in powers of two.

    Between two powers of two the distance is the same, and at each it doubles. Fewer bits make higher stairs.
    float16 has one distance near zero, and ends early; bfloat16 goes as far as float32.
    """
    with style.drawing() as look:
        figure = style.figure(5.8, 4.2)
        axes = figure.add_subplot(xlabel="size of the number", ylabel="distance to the next number")
        exponents = np.arange(-30, 25)
        for (name, format_), colour in zip(FORMATS.items(), look.series, strict=False):
            here = exponents[exponents < format_.most]
            distances = np.maximum(here, format_.least) + 1.0 - format_.n_bits
            line: dict[str, Any] = {"color": colour, "linewidth": 1.8, "label": name, "zorder": 3}
            axes.stairs(distances, [*here, here[-1] + 1], baseline=None, **line)
            words = f"{name}:\n{format_.n_bits} bits"
            end, how = (here[-1] + 1, distances[-1]), {"fontsize": 9, "ha": "left", "color": look.ink}
            if format_.most <= exponents[-1]:
                axes.plot(*end, "x", color=colour, markersize=8, markeredgewidth=2)
                words = f"{name}: {format_.n_bits} bits,\nends at $2^{{{format_.most}}}$"
            if format_.least > exponents[0]:
                _say(axes, words, (here[0], distances[0]), (0, 5), axes.transData, va="bottom", **how)
            else:
                _say(axes, words, end, (6, 0), axes.transData, va="center", **how)
        axes.set(xlim=(-31, 38))
        _powers_of_two(axes.xaxis, np.arange(-30, 21, 10))
        _powers_of_two(axes.yaxis, np.arange(-50, 21, 10))
        axes.grid(visible=True)
    return figure


def errors_of_sums(lengths: Numbers, errors: Mapping[str, Numbers]) -> Picture:
    """The relative errors of float32 sums against how many numbers are summed, both axes logarithmic.

    Grey lines: the worst case of a sum in order, about n u for n numbers, and what is left of it when
    roundings go up and down at random, about the root of n times u. u is the largest relative error of one
    rounding.
    """
    with style.drawing() as look:
        figure = style.figure(5.8, 4.0)
        axes = figure.add_subplot(
            xscale="log", yscale="log", xlabel="numbers summed", ylabel="relative error"
        )
        n = np.asarray(lengths, np.float64)
        for (name, values), line in zip(errors.items(), marks.lines(), strict=False):
            axes.plot(n, values, **line, marker="o", markersize=4, label=name)
        for words, guide in ((r"$n\,u$", n * ROUNDING), (r"$\sqrt{n}\,u$", np.sqrt(n) * ROUNDING)):
            axes.plot(n, guide, color=look.quiet, linewidth=1, linestyle=":")
            _say(axes, words, (n[-1], guide[-1]), (4, 0), axes.transData, ha="left", va="center")
        axes.set(ylim=(1e-9, None))
        axes.grid(visible=True)
        axes.legend(loc="upper left")
    return figure


def size_of(n_bytes: float) -> str:
    """Bytes in words: 32 KiB, which is 32 times 1,024."""
    for name, unit in UNITS.items():
        if n_bytes >= unit:
            return f"{_short(n_bytes / unit)} {name}"
    return f"{n_bytes:.0f} B"


def _short(value: float) -> str:
    """Three digits, and no powers of ten."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _scale_of_bytes(axes: Axes, axis: str, n_bytes: Numbers) -> None:
    """A logarithmic axis with whole powers of two of bytes."""
    low, high = np.log2(np.min(n_bytes)), np.log2(np.max(n_bytes))
    step = max(1, round((high - low) / 6))
    getattr(axes, f"set_{axis}scale")("log", base=2)
    scale = getattr(axes, f"{axis}axis")
    ticks = 2.0 ** np.arange(np.ceil(low - 1e-9), np.floor(high + 1e-9) + 1, step)
    scale.set_major_locator(FixedLocator(ticks.tolist()))
    scale.set_minor_locator(NullLocator())
    scale.set_major_formatter(FuncFormatter(lambda value, _: size_of(value)))


def _scale_of_counts(axes: Axes, counts: Numbers, *, every: int) -> None:
    """A logarithmic axis, labelled with some of the counts themselves."""
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_locator(FixedLocator(np.asarray(counts)[::every].tolist()))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))


def _powers_of_two(axis: Axis, exponents: np.ndarray) -> None:
    axis.set_major_locator(FixedLocator(exponents.tolist()))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"$2^{{{value:.0f}}}$"))


def _within(caches: Mapping[str, int] | None, n_bytes: Numbers) -> list[tuple[str, int]]:
    return [(name, size) for name, size in (caches or {}).items() if np.min(n_bytes) < size < np.max(n_bytes)]


def _draw_kernel(axes: Axes, name: str, point: tuple[float, float], number: int, chosen: str | None) -> None:
    """A point with its name below; where one is chosen, it alone stands out, and the title names it."""
    look = style.look()
    intensity, rate = point[0], point[1] / GIGA
    if chosen is None:
        axes.plot(intensity, rate, "os^Dv"[number % 5], color=look.series[number % 2], markersize=7, zorder=4)
        ink = {"fontsize": 9, "ha": "center", "va": "top", "color": look.ink, "path_effects": look.halo}
        _say(axes, name, (intensity, rate), (0, -7), axes.transData, **ink)
    elif chosen == name:
        axes.plot(intensity, rate, "o", color=look.series[0], markersize=10, zorder=5)
        axes.set_title(f"{name}: {_short(intensity)} operations a byte, {_short(rate)} GFLOP/s", fontsize=10)
    else:
        axes.plot(intensity, rate, "o", color=look.quiet, markerfacecolor=look.paper, markersize=6, zorder=4)


def _say(
    axes: Axes, words: str, at: tuple[float, float], offset: tuple[int, int], place: Transform, **how: Any
) -> None:
    """Words beside a place; by default small and quiet, to its left."""
    how = {"fontsize": 8, "color": style.look().quiet, "ha": "right", **how}
    axes.annotate(words, at, offset, xycoords=place, textcoords="offset points", **how)
