"""Many heads, as drawn: what is seen, what is left as paper, where each number goes."""

import numpy as np
import pytest

from handgrad.ops import attention
from handgrad.plots import heads, style
from handgrad.shapes import split_heads
from tests.plots.pictures import drawn


def maps(figure):
    """The attention maps in their order; the bar with the shades has no image of its own."""
    return [axes.get_images()[0] for axes in figure.axes if axes.get_images()]


def words(axes):
    return [label.get_text() for label in axes.get_yticklabels()]


@pytest.fixture
def probs(rng):
    q, k, v = rng.normal(size=(3, 1, 5, 4, 3))
    _, saved = attention.forward(q, k, v)
    return saved.probs.y[0, :, 0]


@pytest.mark.parametrize("theme", style.THEMES)
def test_every_picture_draws_on_any_paper(theme, probs):
    with style.theme(theme):
        drawn(heads.gallery())
        drawn(heads.gallery(probs, list("a b\n"), columns=2))
        drawn(heads.shapes())
        drawn(heads.scores_of_heads({"reach": np.ones((2, 3))}))
        drawn(heads.cache_memory({4: 2**20, 1: 2**18}))


def test_a_gallery_shows_each_head_and_leaves_the_future_as_paper(probs):
    figure = drawn(heads.gallery(probs, list("abcd"), titles=["first"], columns=3))
    assert len(maps(figure)) == 5
    for image, head in zip(maps(figure), probs, strict=True):
        shown = image.get_array()
        np.testing.assert_array_equal(shown.filled(0.0), head)
        np.testing.assert_array_equal(shown.mask, ~np.tri(4, dtype=bool))
    assert figure.axes[0].get_title(loc="left") == "first"


def test_tokens_stand_once_beside_each_row_and_below_each_column_of_maps(probs):
    figure = drawn(heads.gallery(probs, [" ", "b", "\n", "d"], columns=3))
    panels = figure.axes[:6]
    assert words(panels[0]) == words(panels[3]) == ["·", "b", "↵", "d"]
    assert words(panels[1]) == []
    below = [label.get_text() for label in panels[2].get_xticklabels()]
    assert below == ["·", "b", "↵", "d"]  # nothing stands below the last map of the first row
    assert not panels[0].get_xticklabels()


def test_what_a_mask_forbids_is_paper_whatever_its_number(probs):
    allowed = np.array([True, True, False, False])
    figure = drawn(heads.gallery(probs, list("abcd"), allowed=allowed))
    assert all(image.get_array().mask[:, 2:].all() for image in maps(figure))
    assert not any(image.get_array().mask[:, :2].any() for image in maps(figure))


def test_the_last_queries_see_the_keys_of_a_longer_past(rng):
    q, (k, v) = rng.normal(size=(1, 1, 2, 3)), rng.normal(size=(2, 1, 1, 5, 3))
    _, saved = attention.forward(q, k, v)
    (image,) = maps(drawn(heads.gallery(saved.probs.y[0, :, 0], list("de"), keys=list("abcde"))))
    np.testing.assert_array_equal(image.get_array().mask, saved.probs.y[0, 0, 0] == 0)


@pytest.mark.parametrize("n_heads", [1, 2, 4, 8])
def test_the_drawing_of_shapes_shows_where_split_heads_puts_each_number(n_heads):
    texts = [text.get_text() for text in drawn(heads.shapes(n_heads)).axes[0].texts]
    numbers = np.array([int(text) for text in texts if text.isdigit()])
    names = np.arange(24)
    moved = split_heads(names.reshape(1, 3, 8), n_heads).ravel()
    np.testing.assert_array_equal(numbers[:24], names)
    np.testing.assert_array_equal(numbers[-48:], [*names, *moved])


def test_bars_are_the_scores_and_the_dashed_line_the_reference():
    scores = np.array([[1.0, 2.0], [3.0, 4.0]])
    figure = drawn(heads.scores_of_heads({"reach": scores}, references={"reach": 2.5}, tops={"reach": 6.0}))
    (axes,) = figure.axes
    assert [bar.get_height() for bar in axes.patches] == scores.ravel().tolist()
    assert axes.get_lines()[0].get_ydata()[0] == 2.5
    assert axes.get_ylim() == (0.0, 6.0)


def test_memory_is_shown_in_mebibytes():
    (axes,) = drawn(heads.cache_memory({2: 3 * 2**20, 1: 3 * 2**19})).axes
    assert [text.get_text() for text in axes.texts] == ["3", "1.5"]
