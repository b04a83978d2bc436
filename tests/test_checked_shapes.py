"""The tests' own check: an array of a wrong shape does not pass a door unseen."""

import numpy as np
import pytest
from jaxtyping import TypeCheckError

from handgrad import ops


def test_an_array_of_a_wrong_shape_is_refused():
    with pytest.raises(TypeCheckError, match="weight"):
        ops.linear.forward(np.ones((2, 3)), np.ones((4, 5)))
