"""The pictures of a real model show what was measured."""

import numpy as np
import pytest

from handgrad.lessons.pictures import real
from handgrad.trace import Ablation
from tests.pictures import assert_good

WITHOUT = np.random.default_rng(0).normal(2.0, 0.1, size=(12, 9))
CHANGE = np.outer(np.arange(6.0), np.arange(5.0))
PICTURES = {
    "without heads": lambda: real.without_heads(Ablation("head", 2.0, WITHOUT)),
    "spectrum": lambda: real.spectrum(CHANGE),
}


@pytest.mark.parametrize("draw", PICTURES.values(), ids=PICTURES)
def test_every_picture_is_laid_out_without_overlap_in_the_colours_of_its_theme(draw):
    assert_good(draw)


def test_a_cell_is_what_is_missing_without_a_head():
    figure = PICTURES["without heads"]()
    (image,) = figure.axes[0].get_images()
    np.testing.assert_allclose(image.get_array(), WITHOUT - 2.0)


def test_a_product_of_narrow_matrices_has_as_many_singular_values_as_they_are_wide():
    heights = [bar.get_height() for bar in PICTURES["spectrum"]().axes[0].patches]
    assert heights[0] == pytest.approx(np.linalg.norm(CHANGE))
    np.testing.assert_allclose(heights[1:], 0.0, atol=1e-12)
