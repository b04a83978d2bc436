"""The pictures of lesson 7 show what the ops compute."""

import numpy as np
import pytest

from handgrad.lessons.pictures import activations as pictures
from handgrad.ops import softmax
from tests.pictures import assert_good

X = np.linspace(-2.0, 2.0, 9)
Z = np.stack([X, X - 3.0, 0.5 - X], axis=1)  # the second unit is below zero everywhere
PICTURES = {
    "compare": pictures.compare,
    "gradients_by_layer": lambda: pictures.gradients_by_layer(
        {"sigmoid": [1e-4, 1e-2, 1], "relu": [1, 2, 1]}
    ),
    "reach": lambda: pictures.reach(X, Z, target=np.sin(X), output=0 * X),
    "temperature": lambda: pictures.temperature([2.0, 1.0, -1.0], 0.5),
}


@pytest.mark.parametrize("draw", PICTURES.values(), ids=PICTURES)
def test_every_picture_is_laid_out_without_overlap_in_the_colours_of_its_theme(draw):
    assert_good(draw)


def test_units_that_no_input_reaches_are_dashed_and_counted():
    axes = pictures.reach(X, Z, target=np.sin(X), output=0 * X).axes[0]
    assert axes.get_title(loc="left") == "1 of 3 units unreached"
    dashed = [line for line in axes.get_lines() if line.get_linestyle() == "--"]
    np.testing.assert_array_equal([line.get_ydata() for line in dashed], [Z[:, 1]])


def test_a_low_temperature_gives_more_to_the_likeliest():
    logits = [2.0, 1.0, -1.0]
    cold, plain = (
        [bar.get_height() for bar in pictures.temperature(logits, t).axes[0].patches] for t in (0.5, 1.0)
    )
    assert cold[0] > plain[0]
    assert sum(cold) == pytest.approx(1)
    np.testing.assert_array_equal(plain, softmax.forward(np.array(logits))[0])
