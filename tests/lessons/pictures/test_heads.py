"""The pictures of lesson 12: scores of heads as bars, and the memory of their keys and values."""

import numpy as np
import pytest

from handgrad.lessons.pictures import heads
from tests.pictures import assert_good

PICTURES = {
    "scores_of_heads": lambda: heads.scores_of_heads({"reach": np.ones((2, 3))}),
    "cache_memory": lambda: heads.cache_memory({4: 2**20, 1: 2**18}),
}


@pytest.mark.parametrize("draw", PICTURES.values(), ids=PICTURES)
def test_every_picture_is_laid_out_without_overlap_in_the_colours_of_its_theme(draw):
    assert_good(draw)


def test_bars_are_the_scores_and_the_dashed_line_the_reference():
    scores = np.array([[1.0, 2.0], [3.0, 4.0]])
    figure = heads.scores_of_heads({"reach": scores}, references={"reach": 2.5}, tops={"reach": 6.0})
    (axes,) = figure.axes
    assert [bar.get_height() for bar in axes.patches] == scores.ravel().tolist()
    assert axes.get_lines()[0].get_ydata()[0] == 2.5
    assert axes.get_ylim() == (0.0, 6.0)


def test_memory_is_shown_in_mebibytes():
    (axes,) = heads.cache_memory({2: 3 * 2**20, 1: 3 * 2**19}).axes
    assert [text.get_text() for text in axes.texts] == ["3", "1.5"]
