"""The pictures of a model's inside show the numbers that they were given, in their places."""

import numpy as np
import pytest
from matplotlib.colors import to_hex

from handgrad.lessons.pictures import inside as pictures
from tests.pictures import assert_good

TEXT = "to be"
STAGES = ["start", "block 0", "block 1"]
KINDS = {"vowels": "aeiou", "digits": "01"}


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def contributions():
    return pictures.contributions({"token": 0.5, "attention": -0.25, "feed-forward": 2.0}, xlabel="logit")


def logit_lens():
    best = [list("to be"), list("o b e"), list("o be ")]
    return pictures.logit_lens(TEXT, best, np.linspace(0, 1, 15).reshape(3, 5), stages=STAGES)


def by_distance():
    return pictures.by_distance(np.linspace(0, 0.5, 8).reshape(2, 4), heads=["0.0", "0.1"])


def ablation():
    rises = np.array([[0.1, 1.5], [-0.001, 0.02]])
    return pictures.ablation(rises, layers=["layer 0", "layer 1"], parts=["head 0", "feed-forward"])


def patching():
    shares = np.array([[0, 0, 0, 1, 0], [0, 0, 0, 0.2, -0.4], [0, 0, 0.01, 0, 1.0]])
    return pictures.patching(shares, "to be", "to he", stages=STAGES)


def saliency():
    return pictures.saliency(TEXT, np.arange(5.0) - 2, 2 * np.arange(5.0) - 4)


def neighbours():
    vectors = np.random.default_rng(0).normal(size=(6, 4))
    return pictures.neighbours(vectors, list("ae01 ("), kinds=KINDS)


PICTURES = [contributions, logit_lens, by_distance, ablation, patching, saliency, neighbours]


@pytest.mark.parametrize("draw", PICTURES)
def test_every_picture_is_laid_out_without_overlap_in_the_colours_of_its_theme(draw):
    assert_good(draw)


def texts(axes):
    return [text.get_text() for text in axes.texts]


def test_contributions_end_with_their_sum_and_hatch_what_takes_away():
    axes = contributions().axes[0]
    assert [bar.get_width() for bar in axes.patches] == [0.5, -0.25, 2.0, 2.25]
    assert [bool(bar.get_hatch()) for bar in axes.patches] == [False, True, False, False]
    assert texts(axes) == ["0.50", "−0.25", "2.00", "2.25"]


def test_lengths_have_no_sum():
    axes = pictures.contributions({"token": 0.5, "position": 0.1}, xlabel="length", total=False).axes[0]
    assert [bar.get_width() for bar in axes.patches] == [0.5, 0.1]


def test_the_lens_frames_the_answers_that_the_text_confirms():
    axes = logit_lens().axes[0]
    np.testing.assert_allclose(axes.get_images()[0].get_array(), np.linspace(0, 1, 15).reshape(3, 5))
    assert "".join(texts(axes)) == "to␣beo␣b␣eo␣be␣"
    framed = [(round(box.get_y() + 0.44), round(box.get_x() + 0.44)) for box in axes.patches]
    assert framed == [(1, 0), (1, 1), (1, 2), (2, 0), (2, 1), (2, 2), (2, 3)]


def test_rises_are_written_out_and_their_colours_are_never_below_zero():
    axes = ablation().axes[0]
    assert texts(axes) == ["0.100", "1.500", "−0.001", "0.020"]
    assert axes.get_images()[0].get_array().min() == 0.0


def test_patching_marks_where_the_texts_differ_and_keeps_silent_about_nothing():
    axes = patching().axes[0]
    assert texts(axes) == ["", "", "", "1.0", "", "", "", "", "0.2", "−0.4", "", "", "", "", "1.0"]
    bold = [label.get_text() for label in axes.get_xticklabels() if label.get_fontweight() == "bold"]
    assert bold == ["h"]


def test_the_prediction_is_bars_and_the_measurement_dots():
    axes = saliency().axes[0]
    assert [bar.get_height() for bar in axes.patches] == [-2, -1, 0, 1, 2]
    np.testing.assert_array_equal(axes.get_lines()[0].get_ydata(), [-4, -2, 0, 2, 4])


def test_distances_are_columns_and_heads_are_rows():
    axes = by_distance().axes[0]
    assert axes.get_images()[0].get_array().shape == (2, 4)
    assert [label.get_text() for label in axes.get_yticklabels()] == ["0.0", "0.1"]


def test_neighbours_stand_at_their_first_two_principal_components(rng):
    flat = np.zeros((6, 4))
    flat[:, :2] = rng.normal(size=(6, 2)) * [3.0, 1.0]  # a plane, on which nothing is lost
    axes = pictures.neighbours(flat, list("ae01 ("), kinds=KINDS).axes[0]
    places = np.array([text.get_position() for text in axes.texts])

    def between(points):
        return np.linalg.norm(points[:, None] - points, axis=-1)

    np.testing.assert_allclose(between(places), between(flat), atol=1e-12)
    assert texts(axes) == ["a", "e", "0", "1", "␣", "("]
    shares = [float(label.split(": ")[1].split("%")[0]) for label in (axes.get_xlabel(), axes.get_ylabel())]
    assert sum(shares) == pytest.approx(100, abs=1)
    assert to_hex(axes.texts[0].get_color()) != to_hex(axes.texts[2].get_color())
