"""The pictures of attention show what was computed, and what the mask forbids is not there."""

import numpy as np
import pytest

from handgrad.ops import attention
from handgrad.plots import attention as plots
from tests.pictures import assert_good, matrices

LATER = ~np.tri(3, dtype=bool)
PICTURES = {
    "one map": lambda: plots.maps(np.eye(4), "to b"),
    "many maps": lambda: plots.maps(np.full((5, 4, 4), 0.25), "to b", titles="abcde", columns=3),
    "steps": plots.steps,
}


@pytest.mark.parametrize("draw", PICTURES.values(), ids=PICTURES)
def test_every_picture_is_laid_out_without_overlap_in_the_colours_of_its_theme(draw):
    assert_good(draw)


def maps_of(figure):
    """The attention maps in their order; the bar with the shades has no image of its own."""
    return [axes.get_images()[0] for axes in figure.axes if axes.get_images()]


def words(axes):
    return [label.get_text() for label in axes.get_yticklabels()]


@pytest.fixture
def probs(rng):
    q, k, v = rng.normal(size=(3, 1, 5, 4, 3))
    _, saved = attention.forward(q, k, v)
    return saved.probs.y[0, :, 0]


def test_a_map_shows_the_probabilities_of_its_tokens(probs):
    figure = plots.maps(probs[0], "a b ")
    (image,) = maps_of(figure)
    np.testing.assert_array_equal(image.get_array().filled(0.0), probs[0])
    assert words(figure.axes[0]) == list("a␣b␣")


def test_every_head_has_a_map_that_hides_the_future(probs):
    figure = plots.maps(probs, list("abcd"), titles=["first"], columns=3)
    assert len(maps_of(figure)) == 5
    for image, head in zip(maps_of(figure), probs, strict=True):
        shown = image.get_array()
        np.testing.assert_array_equal(shown.filled(0.0), head)
        np.testing.assert_array_equal(shown.mask, ~np.tri(4, dtype=bool))
    assert figure.axes[0].get_title(loc="left") == "first"


def test_tokens_stand_once_beside_each_row_and_below_each_column_of_maps(probs):
    figure = plots.maps(probs, [" ", "b", "\n", "d"], columns=3)
    panels = figure.axes[:6]
    assert words(panels[0]) == words(panels[3]) == ["␣", "b", "↵", "d"]
    assert words(panels[1]) == []
    below = [label.get_text() for label in panels[2].get_xticklabels()]
    assert below == ["␣", "b", "↵", "d"]  # nothing stands below the last map of the first row
    assert not panels[0].get_xticklabels()


def test_what_a_mask_forbids_is_hidden_whatever_its_number(probs):
    allowed = np.array([True, True, False, False])
    figure = plots.maps(probs, list("abcd"), allowed=allowed)
    assert all(image.get_array().mask[:, 2:].all() for image in maps_of(figure))
    assert not any(image.get_array().mask[:, :2].any() for image in maps_of(figure))


def test_the_last_queries_see_the_keys_of_a_longer_past(rng):
    q, (k, v) = rng.normal(size=(1, 1, 2, 3)), rng.normal(size=(2, 1, 1, 5, 3))
    _, saved = attention.forward(q, k, v)
    (image,) = maps_of(plots.maps(saved.probs.y[0, :, 0], list("de"), keys=list("abcde")))
    np.testing.assert_array_equal(image.get_array().mask, saved.probs.y[0, 0, 0] == 0)


def test_the_steps_of_the_example_are_its_fractions():
    scores, masked, shown, y = matrices(plots.steps())
    np.testing.assert_allclose(scores[2], [np.log(2), np.log(3), 0.0])
    np.testing.assert_array_equal(np.ma.getmaskarray(masked), LATER)
    np.testing.assert_allclose(shown[2], [1 / 3, 1 / 2, 1 / 6])
    np.testing.assert_allclose(y, [[12, 0], [9, 3], [6, 8]], atol=1e-12)


def test_numbers_are_written_into_small_matrices():
    assert [text.get_text() for text in plots.steps().axes[3].texts] == ["12", "0", "9", "3", "6", "8"]


def test_the_panel_of_the_output_is_as_wide_as_the_output():
    y = plots.steps().axes[3]
    assert y.get_xlim() == (-0.5, 1.5)
