"""The pictures of a model's inside show the numbers that they were given, in their places."""

import numpy as np
import pytest
from matplotlib.colors import to_hex

from handgrad.plots import inside as plots
from handgrad.plots import style
from tests.plots.pictures import drawn

TEXT = "to be"
STAGES = ["start", "block 0", "block 1"]
KINDS = {"vowels": "aeiou", "digits": "01"}


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def contributions():
    return plots.contributions({"token": 0.5, "attention": -0.25, "feed-forward": 2.0}, xlabel="logit")


def logit_lens():
    best = [list("to be"), list("o b e"), list("o be ")]
    return plots.logit_lens(TEXT, best, np.linspace(0, 1, 15).reshape(3, 5), stages=STAGES)


def by_distance():
    return plots.by_distance(np.linspace(0, 0.5, 8).reshape(2, 4), heads=["0.0", "0.1"])


def attention_maps():
    probs = np.tril(np.ones((3, 5, 5))) / np.arange(1, 6)[:, None]
    return plots.attention_maps(probs, TEXT, titles=["head 0", "head 1", "head 2"])


def ablation():
    rises = np.array([[0.1, 1.5], [-0.001, 0.02]])
    return plots.ablation(rises, layers=["layer 0", "layer 1"], parts=["head 0", "feed-forward"])


def patching():
    shares = np.array([[0, 0, 0, 1, 0], [0, 0, 0, 0.2, -0.4], [0, 0, 0.01, 0, 1.0]])
    return plots.patching(shares, "to be", "to he", stages=STAGES)


def saliency():
    return plots.saliency(TEXT, np.arange(5.0) - 2, 2 * np.arange(5.0) - 4, title="fading")


def neighbours():
    vectors = np.random.default_rng(0).normal(size=(6, 4))
    return plots.neighbours(vectors, list("ae01 ("), kinds=KINDS)


PICTURES = [contributions, logit_lens, attention_maps, by_distance, ablation, patching, saliency, neighbours]


@pytest.mark.parametrize("theme", style.THEMES)
@pytest.mark.parametrize("draw", PICTURES)
def test_every_picture_is_drawn_on_light_and_dark_paper_inside_its_figure(draw, theme):
    with style.theme(theme):
        figure = drawn(draw())
    assert to_hex(figure.get_facecolor()) == style.THEMES[theme].paper
    for part in (*figure.axes, *figure.legends):
        box = part.get_tightbbox(figure.canvas.get_renderer())
        assert figure.bbox.padded(1).contains(box.x0, box.y0)
        assert figure.bbox.padded(1).contains(box.x1, box.y1)


def texts(axes):
    return [text.get_text() for text in axes.texts]


def test_contributions_end_with_their_sum_and_hatch_what_takes_away():
    axes = drawn(contributions()).axes[0]
    assert [bar.get_width() for bar in axes.patches] == [0.5, -0.25, 2.0, 2.25]
    assert [bool(bar.get_hatch()) for bar in axes.patches] == [False, True, False, False]
    assert texts(axes) == ["0.50", "-0.25", "2.00", "2.25"]


def test_lengths_have_no_sum():
    axes = drawn(plots.contributions({"token": 0.5, "position": 0.1}, xlabel="length", total=False)).axes[0]
    assert [bar.get_width() for bar in axes.patches] == [0.5, 0.1]


def test_the_lens_frames_the_answers_that_the_text_confirms():
    axes = drawn(logit_lens()).axes[0]
    np.testing.assert_allclose(axes.get_images()[0].get_array(), np.linspace(0, 1, 15).reshape(3, 5))
    assert "".join(texts(axes)) == "to␣beo␣b␣eo␣be␣"
    framed = [(round(box.get_y() + 0.44), round(box.get_x() + 0.44)) for box in axes.patches]
    assert framed == [(1, 0), (1, 1), (1, 2), (2, 0), (2, 1), (2, 2), (2, 3)]


def test_every_head_has_a_map_and_a_place_without_a_head_stays_empty():
    axes = drawn(attention_maps()).axes
    assert [a.get_title(loc="left") for a in axes] == ["head 0", "head 1", "head 2", ""]
    np.testing.assert_allclose(axes[1].get_images()[0].get_array().sum(axis=-1), 1.0)
    assert [label.get_text() for label in axes[0].get_yticklabels()] == list("to␣be")
    assert not axes[3].axison


def test_rises_are_written_out_and_their_colours_are_never_below_zero():
    axes = drawn(ablation()).axes[0]
    assert texts(axes) == ["0.100", "1.500", "-0.001", "0.020"]
    assert axes.get_images()[0].get_array().min() == 0.0


def test_patching_marks_where_the_texts_differ_and_keeps_silent_about_nothing():
    axes = drawn(patching()).axes[0]
    assert texts(axes) == ["", "", "", "1.0", "", "", "", "", "0.2", "-0.4", "", "", "", "", "1.0"]
    bold = [label.get_text() for label in axes.get_xticklabels() if label.get_fontweight() == "bold"]
    assert bold == ["h"]


def test_the_prediction_is_bars_and_the_measurement_dots():
    axes = drawn(saliency()).axes[0]
    assert [bar.get_height() for bar in axes.patches] == [-2, -1, 0, 1, 2]
    np.testing.assert_array_equal(axes.get_lines()[0].get_ydata(), [-4, -2, 0, 2, 4])


def test_distances_are_columns_and_heads_are_rows():
    axes = drawn(by_distance()).axes[0]
    assert axes.get_images()[0].get_array().shape == (2, 4)
    assert [label.get_text() for label in axes.get_yticklabels()] == ["0.0", "0.1"]


def test_neighbours_stand_at_their_first_two_principal_components(rng):
    flat = np.zeros((6, 4))
    flat[:, :2] = rng.normal(size=(6, 2)) * [3.0, 1.0]  # a plane, on which nothing is lost
    axes = drawn(plots.neighbours(flat, list("ae01 ("), kinds=KINDS)).axes[0]
    places = np.array([text.get_position() for text in axes.texts])

    def between(points):
        return np.linalg.norm(points[:, None] - points, axis=-1)

    np.testing.assert_allclose(between(places), between(flat), atol=1e-12)
    assert texts(axes) == ["a", "e", "0", "1", "␣", "("]
    shares = [float(label.split(": ")[1].split("%")[0]) for label in (axes.get_xlabel(), axes.get_ylabel())]
    assert sum(shares) == pytest.approx(100, abs=1)
    assert to_hex(axes.texts[0].get_color()) != to_hex(axes.texts[2].get_color())
