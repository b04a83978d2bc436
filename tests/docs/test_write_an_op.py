"""The op that a how-to page writes keeps the rules of an op, also far from the cases that prove it."""

import re
from pathlib import Path

import numpy as np
import pytest

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "write-an-op.md"


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_op_of_the_page_is_right_and_finite_at_any_input(dtype):
    block = re.search(r"^```python\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    softplus = {}
    exec(compile(block[1], PAGE.name, "exec"), softplus)
    x = np.array([-1e4, -50.0, 0.0, 50.0, 1e4], dtype)
    y, saved = softplus["forward"](x)
    (dx,) = softplus["backward"](np.ones_like(x), saved)
    assert y.dtype == dx.dtype == dtype
    np.testing.assert_allclose(y, [0.0, np.exp(-50), np.log(2), 50.0, 1e4], rtol=1e-6)  # float32
    np.testing.assert_allclose(dx, [0.0, np.exp(-50), 0.5, 1.0, 1.0], rtol=1e-6)
