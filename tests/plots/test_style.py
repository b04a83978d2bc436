"""A picture can be had on light and on dark paper, and shows itself in a notebook."""

import io

import numpy as np
import pytest
from matplotlib.image import imread

from handgrad.errors import UserError
from handgrad.plots import activations, style


def pixels(picture):
    png, size = picture._repr_png_()
    image = imread(io.BytesIO(png))
    assert image.shape[1] / size["width"] == pytest.approx(style.DOTS_PER_INCH / 100, rel=0.02)
    return image[..., :3]


def test_a_picture_is_painted_on_the_paper_that_was_asked_for():
    assert np.allclose(pixels(activations.curve())[0, 0], 1.0)
    with style.theme("dark"):
        dark = pixels(activations.curve())
    assert np.all(dark[0, 0] < 0.15)
    assert dark.max() > 0.7  # something is written on it


def test_the_theme_ends_with_its_block():
    with style.theme("dark"):
        assert style.look() is style.DARK
    assert style.look() is style.LIGHT


def test_an_unknown_theme_is_told():
    with pytest.raises(UserError, match=r"no theme 'drak'.*dark"), style.theme("drak"):
        pass


def test_a_picture_says_in_words_what_is_seen_on_it():
    from handgrad.lessons.pictures import depth, learning_rates, networks

    said = networks.training({"one": np.array([1.0, 0.5]), "two": np.array([1.0, 0.1])}).alt
    assert said.startswith("The loss after every step or pass, on a logarithmic scale: one curve a training")
    assert "loss against step" in said
    assert "learning rate 0.5" in learning_rates.parabola(learning_rate=0.5).alt
    assert "\n" not in depth.normalized().alt
    assert "$" not in depth.normalized().alt
    with style.drawing():
        assert style.figure().alt == ""  # drawn by nobody
