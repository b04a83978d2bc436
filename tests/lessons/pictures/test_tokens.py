"""The picture of tokens shows the numbers that it is given."""

import numpy as np

from handgrad.lessons.pictures import tokens
from tests.pictures import assert_good

SIZES = {256: 1.0, 512: 1.9, 4096: 3.1}


def test_the_picture_is_laid_out_without_overlap_in_the_colours_of_its_theme():
    assert_good(lambda: tokens.bytes_a_token(SIZES))


def test_each_vocabulary_has_its_point():
    (line,) = tokens.bytes_a_token(SIZES).axes[0].get_lines()
    np.testing.assert_array_equal(line.get_xdata(), list(SIZES))
    np.testing.assert_array_equal(line.get_ydata(), list(SIZES.values()))
