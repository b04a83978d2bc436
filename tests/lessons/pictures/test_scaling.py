"""The pictures of scaling show what was measured, and where the law is lowest."""

import numpy as np
import pytest

from handgrad.lessons.pictures import scaling
from tests.pictures import assert_good

POINTS = {
    16: [(10_000, 40_000, 3.0), (10_000, 80_000, 2.7)],
    32: [(40_000, 40_000, 2.9), (40_000, 80_000, 2.4)],
}


def law(n, d):
    return 1.0 + 50 / n**0.5 + 900 / d**0.5


PICTURES = {
    "by compute": lambda: scaling.by_compute(POINTS),
    "fitted": lambda: scaling.fitted(POINTS, law),
    "valley": lambda: scaling.valley(1e11, law),
}


@pytest.mark.parametrize("draw", PICTURES.values(), ids=PICTURES)
def test_every_picture_is_laid_out_without_overlap_in_the_colours_of_its_theme(draw):
    assert_good(draw)


def test_arithmetic_is_six_operations_a_weight_and_token():
    line = scaling.by_compute(POINTS).axes[0].get_lines()[0]
    np.testing.assert_allclose(line.get_xdata(), [6 * 10_000 * 40_000, 6 * 10_000 * 80_000])


def test_the_best_size_is_where_the_law_is_lowest():
    n, _ = scaling.valley(1e11, law).axes[0].get_lines()[1].get_data()
    expected = (50 / 900) * (1e11 / 6) ** 0.5
    assert n[0] == pytest.approx(expected, rel=0.03)
