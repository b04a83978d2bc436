"""The pictures of lesson 2 show the slopes that are there."""

import numpy as np
import pytest

from handgrad.foundations import descent
from handgrad.lessons.pictures import slopes
from tests.pictures import assert_good

WINDOW = ((-1.2, 1.2), (-1.2, 1.2))
PICTURES = {
    "secant": lambda: slopes.secant(np.square, x=1.0, h=0.5, window=(0.0, 2.0)),
    "error_of_differences": lambda: slopes.error_of_differences(np.exp, np.exp, x=1.0),
    "gradient_field": lambda: slopes.gradient_field(
        descent.two_valleys, descent.two_valleys_gradient, window=WINDOW, n=3
    ),
}


@pytest.mark.parametrize("draw", PICTURES.values(), ids=PICTURES)
def test_every_picture_is_laid_out_without_overlap_in_the_colours_of_its_theme(draw):
    assert_good(draw)


def test_the_slopes_of_secant_and_tangent_are_told():
    legend = PICTURES["secant"]().axes[0].get_legend()
    said = [text.get_text() for text in legend.get_texts()]
    assert said == ["$f$", "secant, slope 2.500", "tangent, slope 2.000"]


def test_central_differences_are_best_near_the_cube_root_of_eps():
    one_sided, central = PICTURES["error_of_differences"]().axes[0].get_lines()[:2]
    best = [float(line.get_xdata()[np.argmin(line.get_ydata())]) for line in (one_sided, central)]
    assert best[0] < 1e-7 < best[1] < 1e-4
    assert min(central.get_ydata()) < min(one_sided.get_ydata())


def test_arrows_point_uphill():
    (field,) = [part for part in PICTURES["gradient_field"]().axes[0].collections if hasattr(part, "U")]
    for point, arrow in zip(field.XY, np.stack([field.U, field.V], -1), strict=True):
        gradient = descent.two_valleys_gradient(point)
        assert arrow @ gradient == pytest.approx(np.linalg.norm(arrow) * np.linalg.norm(gradient))
