"""What tests of pictures share: a figure as it is drawn, and what is true of every good one."""

from itertools import combinations

import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from handgrad.plots import style


def drawn(figure):
    """The figure with everything in its place."""
    FigureCanvasAgg(figure).draw()
    return figure


def lines(figure, label):
    """The lines of all axes that the legend calls so."""
    return [line for axes in figure.axes for line in axes.get_lines() if line.get_label() == label]


def assert_nothing_overlaps(figure):
    """Axes with all their words, and the legends, are apart from each other and inside the figure."""
    renderer = figure.canvas.get_renderer()
    boxes = [part.get_tightbbox(renderer) for part in (*figure.axes, *figure.legends)]
    for one, other in combinations(boxes, 2):
        assert not one.padded(-1).overlaps(other.padded(-1))  # a pixel of rounding
    for box in boxes:
        assert figure.bbox.padded(1).contains(box.x0, box.y0)
        assert figure.bbox.padded(1).contains(box.x1, box.y1)


def assert_nothing_leaves_the_paper(figure):
    """Everything drawn lies within the figure's edges."""
    box = figure.get_tightbbox(figure.canvas.get_renderer())
    width, height = figure.get_size_inches()
    assert min(box.x0, box.y0) >= 0
    assert box.x1 <= width
    assert box.y1 <= height


def assert_paper_is_that_of(figure, theme):
    """The figure's paper has the theme's colour."""
    paper = style.THEMES[theme].paper
    assert figure.get_facecolor()[:3] == pytest.approx([int(paper[i : i + 2], 16) / 255 for i in (1, 3, 5)])
