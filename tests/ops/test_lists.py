"""What is listed in two places is the same in both."""

from typing import get_args

import pytest

from handgrad import ops
from handgrad.kernels import activations as kernels
from handgrad.ops import activation
from handgrad.plots import activations as pictures

ELEMENTWISE = set(get_args(activation.Elementwise))


def test_every_activation_has_a_name_in_the_types_and_an_op_of_that_name():
    assert list(activation.ACTIVATIONS) == list(get_args(activation.Name))
    assert all(activation.ACTIVATIONS[name] is ops.ALL[name] for name in activation.ACTIVATIONS)


def test_what_an_activation_saved_tells_which_one_it_was():
    assert list(activation.CHOSEN.values()) == list(activation.ACTIVATIONS.values())
    hint = activation.Saved.__annotations__["inner"]
    assert set(get_args(hint)) == set(activation.CHOSEN)


def test_every_activation_of_a_block_has_a_picture():
    assert set(pictures.NAMES) == ELEMENTWISE


@pytest.mark.parametrize("name", sorted(ELEMENTWISE))
def test_every_activation_of_a_block_has_a_kernel(name):
    assert callable(getattr(kernels, name))
