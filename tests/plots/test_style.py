"""Every picture can be had on light and on dark paper, and shows itself in a notebook."""

import io

import numpy as np
import pytest
from matplotlib.image import imread

from handgrad.errors import UserError
from handgrad.foundations.descent import minimize, two_valleys
from handgrad.plots import descent, matrices, slopes, style
from handgrad.plots.formulas import PICTURES

WINDOW = ((-1.2, 1.2), (-1.2, 1.2))
DRAW = {
    "contours": lambda: descent.contours(two_valleys, {"walk": minimize(two_valleys, (1, 1))}),
    "secant": lambda: slopes.secant(np.square, x=1.0, h=0.5, window=(0.0, 2.0)),
    "error_of_differences": lambda: slopes.error_of_differences(np.exp, np.exp, x=1.0),
    "equation": lambda: matrices.equation(("X", np.eye(3)), "=", ("Y", -np.eye(3))),
    **{name: draw for name, (_, draw) in PICTURES.items()},
}


def pixels(picture):
    png, size = picture._repr_png_()
    image = imread(io.BytesIO(png))
    assert image.shape[1] / size["width"] == pytest.approx(style.DOTS_PER_INCH / 100, rel=0.02)
    return image[..., :3]


@pytest.mark.parametrize("name", DRAW)
def test_a_picture_is_drawn_on_the_paper_that_was_asked_for(name):
    assert np.allclose(pixels(DRAW[name]())[0, 0], 1.0)
    with style.theme("dark"):
        dark = pixels(DRAW[name]())
    assert np.all(dark[0, 0] < 0.15)
    assert dark.max() > 0.7  # something is written on it


def test_the_theme_ends_with_its_block():
    with style.theme("dark"):
        assert style.look() is style.DARK
    assert style.look() is style.LIGHT


def test_an_unknown_theme_is_told():
    with pytest.raises(UserError, match=r"no theme 'drak'.*dark"), style.theme("drak"):
        pass


def test_an_equation_shows_every_array_with_its_shape():
    x, y = np.arange(6.0).reshape(2, 3), np.ones(4)
    figure = matrices.equation(("X", x), "+", ("y", y))
    first, second = figure.axes
    assert first.get_xlabel() == "2 x 3"
    assert second.get_xlabel() == "1 x 4"
    np.testing.assert_array_equal(first.collections[0].get_array().reshape(2, 3), x)
