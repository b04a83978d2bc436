"""What tests of pictures share: how to find what is drawn, and what is true of every good one."""

from itertools import combinations

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_hex

from handgrad.plots import style


def matrices(figure):
    """What the images of a picture show, in order; absent cells are masked."""
    return [image.get_array() for axes in figure.axes for image in axes.get_images()]


def hands(figure):
    """The tips of the hands of every dial: before, after."""
    tips = [
        [line.get_xydata()[0] for line in axes.get_lines() if line.get_marker() == "o"]
        for axes in figure.axes
    ]
    return np.swapaxes(tips, 0, 1)


def assert_good(draw):
    """What `draw` makes is laid out without overlap, and takes its colours from the theme."""
    assert_nothing_overlaps(draw())
    with style.theme("dark"):
        figure = draw()
    assert to_hex(figure.get_facecolor()) == style.DARK.paper
    for_words = {colour.lower() for colour in (style.DARK.ink, style.DARK.quiet, *style.DARK.series)}
    for_lines = for_words | {colour.lower() for colour in style.DARK if isinstance(colour, str)}
    words = [word for axes in figure.axes for word in (axes.xaxis.label, axes.yaxis.label, *axes.texts)]
    inside = [word for axes in figure.axes if axes.images for word in axes.texts]  # on cells of any colour
    assert {to_hex(word.get_color()) for word in words if word not in inside} <= for_words
    for line in (line for axes in figure.axes for line in axes.get_lines()):
        colours = (line.get_color(), line.get_markeredgecolor(), line.get_markerfacecolor())
        assert {to_hex(colour) for colour in colours if str(colour) != "none"} <= for_lines


def lines(figure, label):
    """The lines of all axes that the legend calls so."""
    return [line for axes in figure.axes for line in axes.get_lines() if line.get_label() == label]


def assert_nothing_overlaps(figure):
    """Axes with all their words, and the legends, are apart from each other and inside the figure."""
    renderer = FigureCanvasAgg(figure).get_renderer()
    figure.draw_without_rendering()
    boxes = [part.get_tightbbox(renderer) for part in (*figure.axes, *figure.legends)]
    for one, other in combinations(boxes, 2):
        assert not one.padded(-1).overlaps(other.padded(-1))  # a pixel of rounding
    for box in boxes:
        assert figure.bbox.padded(1).contains(box.x0, box.y0)
        assert figure.bbox.padded(1).contains(box.x1, box.y1)
