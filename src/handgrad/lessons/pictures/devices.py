"""Pictures of lesson 21: how a sum goes round a ring, memory on each device, and when sending pays."""

from collections.abc import Mapping

import numpy as np
from matplotlib.colors import Normalize
from matplotlib.ticker import FuncFormatter

from handgrad.lessons.pictures.speed import Numbers
from handgrad.plots import marks, style
from handgrad.plots.style import Picture

N_DEVICES = 5
GIGA = 1e9
PARTS = {"weights": 4, "gradient": 4, "moments": 8}
"""What is kept for each weight, in bytes."""
DEVICE_BYTES = 80e9


def summed(n_rounds: int, n: int = N_DEVICES) -> np.ndarray:
    """Of how many devices' chunks each chunk (row) on each device (column) is the sum, after some rounds."""
    counts = np.ones((n, n), int)
    for done in range(n_rounds):
        sent = counts.copy()
        for device in range(n):
            chunk = (device - done) % n  # in both halves the chunk that came in the round before
            counts[chunk, (device + 1) % n] = (
                sent[chunk, (device + 1) % n] + sent[chunk, device] if done < n - 1 else sent[chunk, device]
            )
    return counts


def ring(n_rounds: int) -> Picture:
    """The chunks on each device after some rounds of an all-reduce; 2 (n - 1) rounds are all of it."""
    counts = summed(n_rounds)
    half = N_DEVICES - 1
    what = "before" if not n_rounds else "reduce-scatter" if n_rounds <= half else "all-gather"
    title = what if not n_rounds else f"{what}, round {n_rounds if n_rounds <= half else n_rounds - half}"
    with style.drawing() as look:
        figure = style.figure(4.6, 4.2)
        axes = figure.add_subplot(title=title, xlabel="device", ylabel="chunk")
        texts = [[str(count) for count in row] for row in counts]
        marks.cells(axes, counts, look.amounts, Normalize(0, 1.3 * N_DEVICES), texts=texts)
        names = [str(i) for i in range(N_DEVICES)]
        marks.name_rows_and_columns(axes, names, names)
    return figure


def busiest(n_devices: Numbers, ways: Mapping[str, Numbers]) -> Picture:
    """What the busiest device sends, in gradients, for several ways to sum them."""
    with style.drawing():
        figure = style.figure(5.6, 3.6)
        axes = figure.add_subplot(
            xscale="log", yscale="log", xlabel="devices", ylabel="gradients sent by one"
        )
        for (name, sent), line in zip(ways.items(), marks.lines(), strict=False):
            axes.plot(n_devices, sent, **line, marker="o", markersize=4, label=name)
        axes.set_xticks(list(n_devices))
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
            axis.set_minor_formatter(FuncFormatter(lambda value, _: ""))
        axes.grid(visible=True)
        figure.legend(loc="outside lower center", ncols=2)
    return figure


def memory(billion_weights: float) -> Picture:
    """Bytes on each device that grow with the weights, all of them on each, or divided."""
    n = 2 ** np.arange(11)
    with style.drawing() as look:
        figure = style.figure(5.8, 3.8)
        axes = figure.add_subplot(xscale="log", yscale="log", xlabel="devices", ylabel="GB on each")
        axes.set_title(f"{billion_weights:g} billion weights")
        total = sum(PARTS.values()) * billion_weights
        ways = {"data: each has all": np.full(n.size, total), "fsdp: divided": total / n}
        for (name, each), line in zip(ways.items(), marks.lines(), strict=False):
            axes.plot(n, each, **line, label=name)
        limit = DEVICE_BYTES / GIGA
        axes.axhline(limit, color=look.quiet, linewidth=1, linestyle=":", label=f"a device of {limit:g} GB")
        axes.set(ylim=(total / n[-1] / 2, max(total, limit) * 2))
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.grid(visible=True)
        figure.legend(loc="outside lower center", ncols=3)
    return figure


def efficiency(tokens: Numbers, *, operations_per_second: float, links: Mapping[str, float]) -> Picture:
    """The share of a data parallel step that computes, if it computes and sends one after the other."""
    with style.drawing():
        figure = style.figure(5.8, 3.8)
        axes = figure.add_subplot(
            xscale="log", xlabel="tokens a step and device", ylabel="share that computes", ylim=(0, 1.05)
        )
        for (name, link), line in zip(links.items(), marks.lines(), strict=False):
            ratio = 4 / 3 * operations_per_second / link / np.asarray(tokens)
            axes.plot(tokens, 1 / (1 + ratio), **line, label=name)
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
        axes.grid(visible=True)
        figure.legend(loc="outside lower center", ncols=2)
    return figure
