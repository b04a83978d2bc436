"""The pictures of writing show the numbers that they were given, and what a reader computes beside them."""

import numpy as np
import pytest

from handgrad.generation import sampling
from handgrad.generation.sampling import Sampling
from handgrad.lessons.pictures import sampling as pictures
from handgrad.ops import softmax
from handgrad.plots.marks import visible
from tests.pictures import assert_good

TOKENS = "abc \n"
LOGITS = np.array([0.0, 2.0, 1.0, -1.0, 0.5])
PROBS = softmax.forward(LOGITS)[0]
TEXT = "to be or not"
NATS = np.append(np.nan, np.linspace(0.1, 3.0, len(TEXT) - 1))

PICTURES = {
    "distribution": lambda: pictures.distribution(PROBS, TOKENS, title="after"),
    "distribution, cut": lambda: pictures.distribution(PROBS, TOKENS, after=cut(0.8), n=3),
    "temperatures": lambda: pictures.temperatures(LOGITS, TOKENS),
    "temperatures of nothing given": pictures.temperatures,
    "entropy": lambda: pictures.entropy(LOGITS),
    "entropy of nothing given": pictures.entropy,
    "staircase": lambda: pictures.staircase(PROBS.round(2), TOKENS, draws=[0.2, 0.99]),
    "surprise": lambda: pictures.surprise(TEXT, NATS, columns=5),
    "entropy_along": lambda: pictures.entropy_along(TEXT, NATS, NATS),
    "multiply_adds": lambda: pictures.multiply_adds(np.arange(1, 9), {"one": np.arange(1, 9) ** 2}),
}


def cut(top_p):
    return sampling.distribution(LOGITS, Sampling(temperature=1.0, top_p=top_p))


def heights(axes):
    return [bar.get_height() for bar in axes.patches]


def names(axes):
    return [label.get_text() for label in axes.get_xticklabels()]


@pytest.mark.parametrize("draw", PICTURES.values(), ids=PICTURES)
def test_every_picture_is_laid_out_without_overlap_in_the_colours_of_its_theme(draw):
    assert_good(draw)


def test_a_distribution_is_sorted_and_its_last_bar_is_the_rest():
    axes = pictures.distribution(PROBS, TOKENS, n=3).axes[0]
    np.testing.assert_allclose(heights(axes), [*np.sort(PROBS)[:1:-1], np.sort(PROBS)[:2].sum()])
    assert names(axes) == ["b", "c", "↵", "+2"]


def test_what_a_cut_leaves_out_is_hatched_and_what_it_keeps_has_risen():
    axes = pictures.distribution(PROBS, TOKENS, after=cut(0.8)).axes[0]
    kept = np.sort(cut(0.8))[::-1]
    assert [bool(bar.get_hatch()) for bar in axes.patches] == [p == 0 for p in kept]
    risen = [line.get_ydata()[0] for line in axes.get_lines() if len(line.get_ydata())]
    np.testing.assert_allclose(risen, kept[kept > 0])
    said = axes.get_legend().get_texts()[0].get_text()
    assert said == f"kept: {np.sum(kept > 0)} of 5, {PROBS[cut(0.8) > 0].sum():.2f} of the probability"


def test_temperatures_keep_the_order_and_share_the_scale():
    panels = pictures.temperatures(LOGITS, TOKENS, temperatures=(0.5, 2.0)).axes
    for axes, temperature in zip(panels, (0.5, 2.0), strict=True):
        expected = np.sort(softmax.forward(LOGITS / temperature)[0])[::-1]
        np.testing.assert_allclose(heights(axes), expected)
    assert panels[0].get_ylim() == panels[1].get_ylim()
    assert names(panels[1]) == ["b", "c", "↵", "a", "␣"]


def test_the_entropy_rises_from_nothing_to_that_of_a_blind_guess():
    axes = pictures.entropy(LOGITS).axes[0]
    curve = next(line.get_ydata() for line in axes.get_lines() if len(line.get_ydata()) > 2)
    assert np.all(np.diff(curve) >= -1e-12)
    assert curve[0] < 1e-6
    assert curve[-1] == pytest.approx(np.log(5), abs=1e-3)


def test_a_number_takes_the_step_that_it_meets():
    steps = [0.5, 0.2, 0.3]
    axes = pictures.staircase(np.array(steps), "abc", draws=[0.6]).axes[0]
    np.testing.assert_allclose(heights(axes), steps)
    (walk,) = [line for line in axes.get_lines() if len(line.get_xdata()) == 2]
    assert walk.get_xdata()[-1] == 0.5  # the left edge of the second step
    assert list(walk.get_ydata()) == [0.6, 0.6]


def test_every_character_has_its_surprise_above_it_but_the_first():
    axes = pictures.surprise(TEXT, NATS, columns=5).axes[0]
    letters = [text.get_text() for text in axes.texts]
    assert letters == [visible(character) for character in TEXT]
    np.testing.assert_allclose(np.array(heights(axes)) / max(heights(axes)), NATS[1:] / NATS[1:].max())


def test_expected_and_found_surprise_stand_above_their_characters():
    axes = pictures.entropy_along(TEXT, 2 * NATS, NATS).axes[0]
    expected, found = axes.get_lines()
    np.testing.assert_array_equal(expected.get_ydata(), 2 * NATS)
    np.testing.assert_array_equal(found.get_ydata(), NATS)
    assert names(axes) == [visible(character) for character in TEXT]


def test_costs_are_drawn_against_the_length():
    costs = {"squared": np.arange(1, 9.0) ** 2, "straight": np.arange(1, 9.0)}
    axes = pictures.multiply_adds(np.arange(1, 9.0), costs).axes[0]
    for line, values in zip(axes.get_lines(), costs.values(), strict=True):
        np.testing.assert_array_equal(line.get_ydata(), values)
    assert {line.get_linestyle() for line in axes.get_lines()} == {"-", "--"}
