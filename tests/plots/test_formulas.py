"""The pictures of the ops' pages."""

import numpy as np
import pytest

from handgrad import ops
from handgrad.plots import formulas, matrices
from tests.pictures import assert_good


def test_every_op_has_a_picture():
    assert set(formulas.PICTURES) == set(ops.ALL)


@pytest.mark.parametrize("name", formulas.PICTURES)
def test_the_picture_of_an_op_is_laid_out_without_overlap_in_the_colours_of_its_theme(name):
    assert_good(formulas.PICTURES[name][1])


def test_an_equation_shows_every_array_with_its_shape():
    x, y = np.arange(6.0).reshape(2, 3), np.ones(4)
    figure = matrices.equation(("X", x), "+", ("y", y))
    first, second = figure.axes
    assert first.get_xlabel() == "2 x 3"
    assert second.get_xlabel() == "1 x 4"
    np.testing.assert_array_equal(first.collections[0].get_array().reshape(2, 3), x)
