"""Pictures of lesson 5: sigmoids, the chain rule on paths, a pass through a network, its hidden space."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Circle
from matplotlib.ticker import MaxNLocator
from matplotlib.typing import LineStyleType

from handgrad.ops import linear, linear_stack
from handgrad.ops.activation import Name
from handgrad.parameters import Linear
from handgrad.plots import marks, style
from handgrad.plots.perceptron import draw_points, paint_sides
from handgrad.plots.style import Picture
from handgrad.shapes import Float, Int

HALF_LOG_3 = 0.5 * math.log(3.0)
"""Where tanh is exactly a half."""

ON_PAPER = (
    Linear(HALF_LOG_3 * np.array([[1.0, 1.0], [1.0, -1.0]]), HALF_LOG_3 * np.array([-2.0, 0.0])),
    Linear(np.array([[2.0], [-4.0]]), np.array([-2.0])),
)
"""A network of two inputs, two hidden neurons and one output, whose gradients at (1, 2) are whole numbers."""

RADIUS, FLOOR = 0.22, 1.5
"""Of a neuron, and from one neuron to the one below it."""

MESH = np.linspace(0.0, 1.0, 11)
"""The lines drawn over the inputs, to see what becomes of them."""

GRID = 240
"""Points along each side of a plane that is coloured by what a network answers; none falls on a threshold
between whole numbers."""


def squashing(steepness: float = 1.0) -> Picture:
    """A threshold and the sigmoid that takes its place, and below them their slopes.

    The threshold has no slope to follow, the sigmoid has one everywhere. A steeper sigmoid is nearer to the
    threshold, and has fewer places with a slope to speak of.
    """
    window = (-6.0, 6.0)
    x = np.linspace(*window, 601)
    y = 1.0 / (1.0 + np.exp(-steepness * x))
    with style.drawing() as look:
        figure = style.figure(6.0, 4.8)
        top, bottom = figure.subplots(2, sharex=True, height_ratios=(3, 2))
        smooth, hard = look.series[:2]
        formula = r"\sigma(x)" if steepness == 1 else rf"\sigma({steepness:g}x)"
        for below, above in ((window[0], 0.0), (0.0, window[1])):
            top.plot([below, above], [float(below == 0.0)] * 2, color=hard, linestyle="--")
        top.plot(0, 1, "o", color=hard, markerfacecolor=look.paper)
        top.plot(0, 0, "o", color=hard)
        top.plot(x, y, color=smooth)
        top.set(ylabel="value", yticks=[0, 0.5, 1])
        bottom.axhline(0, color=hard, linestyle="--", label="threshold")
        bottom.plot(x, steepness * y * (1 - y), color=smooth, label=f"sigmoid, ${formula}$")
        bottom.set(xlabel="score", ylabel="slope", xlim=window, ylim=(-0.1, 1.3))
        figure.legend(*bottom.get_legend_handles_labels(), loc="outside upper center", ncols=2)
    return figure


def staircase(
    curve: Callable[[Float[np.ndarray, " N"]], Float[np.ndarray, " N"]],
    *,
    n_neurons: int,
    steepness: float = 8.0,
) -> Picture:
    """One hidden layer of sigmoids that follows a curve on [0, 1]: each neuron adds one step of a staircase.

    Step k rises at the border of two pieces by the difference of their heights. `steepness` is in widths of a
    piece. Thin lines are single neurons, from the height at which they begin.
    """
    x = np.linspace(0.0, 1.0, 801)
    middles = (np.arange(n_neurons + 1) + 0.5) / (n_neurons + 1)
    heights = np.asarray(curve(middles))
    borders, rises = (middles[1:] + middles[:-1]) / 2, np.diff(heights)
    neurons = 1.0 / (1.0 + np.exp(-steepness * (n_neurons + 1) * (x[:, None] - borders)))
    with style.drawing() as look:
        figure = style.figure(6.2, 3.4)
        axes = figure.add_subplot()
        for rise, from_, neuron in zip(rises, heights, neurons.T, strict=False):
            near = (neuron > 0.02) & (neuron < 0.98)
            axes.plot(x[near], from_ + rise * neuron[near], color=look.quiet, linewidth=0.8)
        axes.plot(x, curve(x), color=look.series[1], linestyle="--", label="the curve")
        axes.plot(x, heights[0] + neurons @ rises, color=look.series[0], label=f"hidden neurons: {n_neurons}")
        axes.set(xlabel="$x$", ylabel="$y$", xlim=(0, 1))
        figure.legend(loc="outside upper center", ncols=2)
    return figure


def paths(slopes: Mapping[str, tuple[float, float]] | None = None) -> Picture:
    """The chain rule on several paths from x to L: along a path slopes multiply, paths add up.

    `slopes` has, for every node between, the slope of the step to it and of the step from it.
    """
    slopes = slopes or {"u": (4.0, 6.0), "v": (3.0, 4.0)}
    heights = np.linspace(0.75, -0.75, len(slopes))
    products = [math.prod(steps) for steps in slopes.values()]
    with style.drawing() as look:
        figure = style.figure(5.4, 2.0)
        axes = _canvas(figure, (-0.3, 5.9), (-1.1, 1.1))
        for (name, steps), product, y, line in zip(
            slopes.items(), products, heights, marks.lines(), strict=False
        ):
            first, second = map(marks.number, steps)
            colour = line["color"]
            _arrow(axes, (0.0, 0.0), (2.0, y), colour, line["linestyle"])
            _arrow(axes, (2.0, y), (4.0, 0.0), colour, line["linestyle"])
            beside = y / 2 + 0.42 * np.sign(y)
            _text(axes, (0.75, beside), rf"$\partial {name}/\partial x$ = {first}", colour)
            _text(axes, (3.25, beside), rf"$\partial L/\partial {name}$ = {second}", colour)
            _node(axes, (2.0, y), f"${name}$")
            _text(axes, (5.1, y), f"{first} · {second} = {marks.number(product)}", colour)
        _node(axes, (0.0, 0.0), "$x$")
        _node(axes, (4.0, 0.0), "$L$")
        total = f"{' + '.join(map(marks.number, products))} = {marks.number(sum(products))}"
        _text(axes, (5.1, 0), total, look.ink)
    return figure


def graph(
    nodes: Mapping[str, tuple[float, Mapping[str, float]]], *, heights: Mapping[str, float] | None = None
) -> Picture:
    """A computation: each node with its value, on each arrow a slope, and under each node its gradient.

    `nodes` are in the order of computation: a value, and the slopes by which it answers to the nodes that it
    is made of. The last one is what is differentiated. `heights` moves nodes out of an arrow's way.
    """
    gradients = dict.fromkeys(nodes, 0.0)
    columns: dict[str, int] = {}
    for name, (_, slopes) in nodes.items():
        columns[name] = max((columns[parent] + 1 for parent in slopes), default=0)
    *_, last = nodes
    gradients[last] = 1.0
    for name, (_, slopes) in reversed(list(nodes.items())):
        for parent, slope in slopes.items():
            gradients[parent] += slope * gradients[name]
    column = {i: [name for name in nodes if columns[name] == i] for i in range(columns[last] + 1)}
    places = {
        name: (1.6 * i, (heights or {}).get(name, FLOOR * ((len(names) - 1) / 2 - row)))
        for i, names in column.items()
        for row, name in enumerate(names)
    }
    tallest = FLOOR * (max(map(len, column.values())) - 1) / 2
    with style.drawing() as look:
        figure = style.figure(6.2, 1.2 * (2 * tallest + 1.4))
        axes = _canvas(figure, (-0.6, 1.6 * columns[last] + 0.6), (-tallest - 0.75, tallest + 0.65))
        for name, (value, slopes) in nodes.items():
            x, y = places[name]
            for parent, slope in slopes.items():
                left, height = places[parent]
                _arrow(axes, (left, height), (x, y), look.quiet, "-")
                _text(axes, ((left + x) / 2, (height + y) / 2 + 0.16), marks.number(slope), look.ink)
            _node(axes, (x, y), f"${name}$")
            _text(axes, (x, y + 0.4), marks.number(value), look.series[0])
            _text(axes, (x, y - 0.42), f"$d{name}$ {marks.number(gradients[name])}", look.series[1])
    return figure


def backpropagation(
    x: Sequence[float] = (1.0, 2.0),
    layers: Sequence[Linear] = ON_PAPER,
    target: float = 0.0,
    *,
    activation: Name = "tanh",
    stage: int | None = None,
) -> Picture:
    """A small network with its numbers, and under each number the gradient of the squared error by it.

    Weights stand on the edges, values in the circles; gradients are coloured and marked with a d. Stage 0
    shows the inputs alone. The next stages go forward a layer each, up to the error; the one after them shows
    the gradient at the output; the rest go back, a layer each. By default everything is shown.
    """
    y, saved = linear_stack.forward(np.array([x]), layers, activation=activation)
    dy = 2.0 * (y - target)
    _, dlayers = linear_stack.backward(dy, saved)
    sums, dsums, values, dvalues = [], [], [], []
    for layer, dlayer, affine in zip(layers, dlayers, saved.affine, strict=True):
        z, saved_z = linear.forward(affine.x, *layer)
        dz = np.asarray(dlayer.bias)[None]  # of a single row: its gradient is the bias's
        sums.append(z[0])
        dsums.append(dz[0])
        values.append(affine.x[0])
        dvalues.append(linear.backward(dz, saved_z)[0][0])
    with style.drawing() as look:
        below, above = _span(values)
        figure = style.figure(6.2, 0.91 * (above - below) + 0.25)
        axes = _canvas(figure, (-0.6, 2.3 * len(layers) + 1.25), (below, above))
        last = 2 * len(layers) + 1 if stage is None else stage
        network = _Network([*values, y[0]], [*dvalues, dy[0]], sums, dsums, layers, dlayers)
        for number in range(len(layers)):
            _edges(axes, network, number, last)
        for number in range(len(layers) + 1):
            _neurons(axes, network, number, last)
        if last >= len(layers):
            error = f"$L = (y - {marks.number(target)})^2$\n= {marks.number(float((y[0, 0] - target) ** 2))}"
            _text(axes, (2.3 * len(layers) + 0.32, 0), error, look.ink, ha="left")
    return figure


def hidden_space(
    inputs: Float[np.ndarray, "N 2"],
    labels: Int[np.ndarray, " N"],
    hidden: Callable[[Float[np.ndarray, "M 2"]], Float[np.ndarray, "M 2"]],
    output: tuple[Sequence[float] | Float[np.ndarray, " 2"], float],
    *,
    cut: float = 0.0,
    mesh: bool = True,
) -> Picture:
    """Two planes: left the inputs, coloured by the answer; right what the hidden layer makes of them.

    On the right a straight line separates the answers. `hidden` maps rows of two inputs to rows of two hidden
    numbers; `output` has two weights and a bias, and the answer is 1 where the output is more than `cut`. A
    mesh over the inputs shows how the layer bends them.
    """
    weights, bias = np.asarray(output[0], np.float64), float(output[1])
    points = np.asarray(hidden(np.asarray(inputs, np.float64)))
    with style.drawing() as look:
        figure = style.figure(6.2, 3.7)
        left, right = figure.subplots(1, 2)
        ends = (-0.3, 1.3)
        grid = np.stack(np.meshgrid(*[np.linspace(*ends, GRID)] * 2), -1)
        answers = hidden(grid.reshape(-1, 2)) @ weights + bias - cut
        _grounds(left, grid[..., 0], grid[..., 1], answers.reshape(GRID, GRID))
        left.set(
            aspect="equal", xlim=ends, ylim=ends, xticks=[0, 1], yticks=[0, 1], xlabel="$x_1$", ylabel="$x_2$"
        )
        left.set_title("inputs")
        lines = _mesh()
        bent = [np.asarray(hidden(line)) for line in lines] if mesh else [points]
        window = _window(np.concatenate([*bent, points]))
        x, y = np.meshgrid(*window)
        score = weights[0] * x + weights[1] * y + bias - cut
        _grounds(right, x, y, score)
        right.set(aspect="equal", xlim=window[0], ylim=window[1], xlabel="$h_1$", ylabel="$h_2$")
        right.locator_params(nbins=5)
        right.set_title("hidden space")
        if mesh:
            for line, curve in zip(lines, bent, strict=True):
                left.plot(*line.T, color=look.contour, linewidth=0.6, zorder=2)
                right.plot(*curve.T, color=look.contour, linewidth=0.6, zorder=2)
        for axes, at in ((left, np.asarray(inputs)), (right, points)):
            draw_points(axes, at, labels)
        _names(right, np.asarray(inputs), points, labels)
        handles, names = left.get_legend_handles_labels()
        figure.legend(handles, names, loc="outside lower center", ncols=2)
    return figure


def training(
    losses: Mapping[str, Float[np.ndarray, " n"]], *, xlabel: str = "step", ylabel: str = "loss"
) -> Picture:
    """The loss after every step or pass, on a logarithmic scale: one curve a training."""
    with style.drawing():
        figure = style.figure(6.4, 3.6)
        axes = figure.add_subplot()
        for (name, values), line in zip(losses.items(), marks.lines(), strict=False):
            axes.semilogy(np.arange(1, len(values) + 1), values, **line, linewidth=1.4, label=name)
        axes.set(xlabel=xlabel, ylabel=ylabel)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10]))
        axes.grid(visible=True)
        if len(losses) > 1:
            figure.legend(loc="outside upper center", ncols=len(losses))
    return figure


def digits(images: Float[np.ndarray, "N 8 8"], captions: Sequence[str]) -> Picture:
    """Small pictures of grey, each with a few words above it."""
    n_columns = max(1, min(6, len(images)))
    n_rows = max(1, -(-len(images) // n_columns))
    with style.drawing() as look:
        figure = style.figure(1.2 * n_columns, 1.55 * n_rows)
        panels = np.atleast_1d(figure.subplots(n_rows, n_columns)).ravel()
        for axes in panels:
            axes.set_axis_off()
        for axes, image, caption in zip(panels, images, captions, strict=False):
            axes.imshow(image, cmap=look.amounts, vmin=0, vmax=np.max(images))
            axes.set_title(caption, fontsize=9, loc="center", pad=4)
    return figure


def _canvas(figure: Picture, across: tuple[float, float], up: tuple[float, float]) -> Axes:
    """An empty plane to draw nodes and arrows on."""
    axes = figure.add_subplot(aspect="equal", xlim=across, ylim=up)
    axes.set_axis_off()
    return axes


class _Network(NamedTuple):
    """What is drawn of a network that has seen one row; values and gradients begin with the inputs."""

    values: list[Float[np.ndarray, " n"]]
    dvalues: list[Float[np.ndarray, " n"]]
    sums: list[Float[np.ndarray, " n"]]
    dsums: list[Float[np.ndarray, " n"]]
    layers: Sequence[Linear]
    dlayers: Sequence[Linear]

    def place(self, layer: int, neuron: int) -> Float[np.ndarray, " 2"]:
        """Layers from left to right, neurons from above to below."""
        middle = (len(self.values[layer]) - 1) / 2
        return np.array([2.3 * layer, FLOOR * (middle - neuron)])

    def seen_back(self, layer: int, stage: int) -> bool:
        """Whether the backward pass has come through the weights after this layer."""
        return stage >= 2 * len(self.layers) + 1 - layer


def _span(values: list[Float[np.ndarray, " n"]]) -> tuple[float, float]:
    """The lower and the upper edge of the picture: neurons and their words."""
    half = FLOOR * (max(map(len, values)) - 1) / 2
    return -half - 0.78, half + 0.55


def _edges(axes: Axes, network: _Network, number: int, stage: int) -> None:
    """The weights of one layer, near where they start, and their gradients under them."""
    look = style.look()
    weight, dweight = network.layers[number].weight, network.dlayers[number].weight
    along = 0.31 if weight.shape[1] > 1 else 0.42  # before the edges cross, if they do
    for i, j in np.ndindex(*weight.shape):
        start, end = network.place(number, i), network.place(number + 1, j)
        axes.plot(*np.stack([start, end]).T, color=look.quiet, linewidth=1.2, zorder=1)
        x, y = start + along * (end - start)
        back = network.seen_back(number, stage)
        _text(axes, (x, y + 0.11 * back), f"$w$ {marks.number(weight[i, j])}", look.ink, size=9)
        if back:
            _text(axes, (x, y - 0.11), f"$dw$ {marks.number(dweight[i, j])}", look.series[0], size=9)


def _neurons(axes: Axes, network: _Network, number: int, stage: int) -> None:
    """The neurons of one layer: value inside, bias and sum above, gradients below."""
    look = style.look()
    name = "x" if number == 0 else "y" if number == len(network.layers) else "a"
    for j, value in enumerate(network.values[number]):
        x, y = network.place(number, j)
        _node(axes, (x, y), marks.number(value) if stage >= number else f"${name}$")
        if number:
            above = f"$b$ {marks.number(np.asarray(network.layers[number - 1].bias)[j])}"
            if stage >= number:
                above += f"   $z$ {marks.number(network.sums[number - 1][j])}"
            _text(axes, (x, y + 0.37), above, look.ink, size=9)
        if network.seen_back(number, stage):
            _text(
                axes,
                (x, y - 0.37),
                f"$d{name}$ {marks.number(network.dvalues[number][j])}",
                look.series[0],
                size=9,
            )
        if number and network.seen_back(number - 1, stage):
            dz = marks.number(network.dsums[number - 1][j])
            _text(axes, (x, y - 0.6), f"$dz = db$ {dz}", look.series[0], size=9)


def _node(axes: Axes, place: tuple[float, float], text: str) -> None:
    look = style.look()
    axes.add_patch(Circle(place, RADIUS, facecolor=look.paper, edgecolor=look.ink, linewidth=1.4, zorder=3))
    axes.text(*place, text, color=look.ink, fontsize=10, ha="center", va="center", zorder=5)


def _text(
    axes: Axes, place: tuple[float, float], text: str, colour: str, *, size: float = 10, ha: str = "center"
) -> None:
    """Words on a piece of paper, so that no line runs through them."""
    box = {"boxstyle": "square,pad=0.1", "facecolor": style.look().paper, "linewidth": 0}
    axes.text(*place, text, color=colour, fontsize=size, ha=ha, va="center", bbox=box, zorder=4)


def _arrow(
    axes: Axes, start: tuple[float, float], end: tuple[float, float], colour: str, dashes: LineStyleType
) -> None:
    """An arrow between the edges of two nodes."""
    along = RADIUS * np.subtract(end, start) / np.linalg.norm(np.subtract(end, start))
    marks.arrow(axes, start + along, end - along, colour, dashes=dashes)


def _grounds(
    axes: Axes, x: Float[np.ndarray, "N M"], y: Float[np.ndarray, "N M"], score: Float[np.ndarray, "N M"]
) -> None:
    """The two sides of where the score is zero, and the line between them."""
    paint_sides(axes, x, y, score)
    if np.min(score) < 0 < np.max(score):
        axes.contour(x, y, score, levels=[0.0], colors=style.look().ink, linewidths=1.6, zorder=3)


def _names(
    axes: Axes,
    inputs: Float[np.ndarray, "N 2"],
    points: Float[np.ndarray, "N 2"],
    labels: Int[np.ndarray, " N"],
) -> None:
    """The inputs beside each hidden point; neighbours of one class share their words."""
    reach = 0.15 * np.ptp(axes.get_xlim())
    together: dict[int, list[str]] = {}
    for number, point in enumerate(points):
        near = (np.linalg.norm(points - point, axis=1) < reach) & (labels == labels[number])
        name = f"({', '.join(f'{x:g}' for x in inputs[number])})"
        together.setdefault(int(np.argmax(near)), []).append(name)
    middle = np.mean(axes.get_xlim())
    for number, names in together.items():
        left = points[number][0] > middle
        side: dict[str, Any] = (
            {"ha": "right", "xytext": (-9, 7)} if left else {"ha": "left", "xytext": (9, 7)}
        )
        axes.annotate(
            " and ".join(names), points[number], **side, textcoords="offset points", fontsize=9, va="bottom",
            bbox={"boxstyle": "square,pad=0.1", "facecolor": style.look().paper, "linewidth": 0}, zorder=4,
        )  # fmt: skip


def _mesh() -> list[Float[np.ndarray, "n 2"]]:
    """Lines across the unit square, both ways, of many points each, so that they can bend."""
    along = np.linspace(0.0, 1.0, 41)
    lines = [np.column_stack([np.full_like(along, at), along]) for at in MESH]
    return lines + [line[:, ::-1] for line in lines]


def _window(points: Float[np.ndarray, "N 2"]) -> list[tuple[float, float]]:
    """A square around the points, with a margin."""
    low, high = points.min(axis=0), points.max(axis=0)
    half = 0.68 * float(np.max(high - low)) or 1.0
    return [(float(middle - half), float(middle + half)) for middle in (low + high) / 2]
