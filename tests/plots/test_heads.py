"""The drawing of many heads shows where each number goes."""

import numpy as np
import pytest

from handgrad.plots import heads
from handgrad.shapes import split_heads


@pytest.mark.parametrize("n_heads", [1, 2, 4, 8])
def test_the_drawing_of_shapes_shows_where_split_heads_puts_each_number(n_heads):
    texts = [text.get_text() for text in heads.shapes(n_heads).axes[0].texts]
    numbers = np.array([int(text) for text in texts if text.isdigit()])
    names = np.arange(24)
    moved = split_heads(names.reshape(1, 3, 8), n_heads).ravel()
    np.testing.assert_array_equal(numbers[:24], names)
    np.testing.assert_array_equal(numbers[-48:], [*names, *moved])
