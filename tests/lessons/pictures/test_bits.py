"""The pictures of fewer bits and of guesses show the numbers of their formulas."""

import numpy as np
import pytest

from handgrad.lessons.pictures import bits
from tests.pictures import assert_good

LOSSES = {8: 1.30, 6: 1.30, 4: 1.33, 2: 2.90}
PICTURES = {
    "losses": lambda: bits.losses_by_bits(LOSSES, 1.29),
    "gain": lambda: bits.gain(4, costs=(0.0, 0.1)),
}


@pytest.mark.parametrize("draw", PICTURES.values(), ids=PICTURES)
def test_every_picture_is_laid_out_without_overlap_in_the_colours_of_its_theme(draw):
    assert_good(draw)


def test_the_gain_is_the_mean_number_of_tokens_a_pass():
    (_, line) = bits.gain(3, costs=(0.0,)).axes[0].get_lines()
    kept, gain = line.get_data()
    simulated = [sum(a**i for i in range(4)) for a in kept]
    np.testing.assert_allclose(gain, simulated)
