"""What a kernel reads from a table is what was written into it."""

from typing import Annotated, NamedTuple

import numpy as np
import pytest

from handgrad.kernels.jit import kernel
from handgrad.kernels.writing import kept


class Inner(NamedTuple):
    scale: np.float32
    table: Annotated[np.ndarray, np.int8, 3]


class Outer(NamedTuple):
    first: int
    inner: Inner
    is_so: bool
    last: Annotated[np.ndarray, np.float32, 2]


read = kept.reader(Outer)


@kernel
def seen(out, at):
    first, inner, is_so, last = read(at)
    out[0], out[1], out[2] = first, inner.scale, 1 if is_so else 0
    out[3], out[4] = inner.table.size, inner.table[1, 2, 3]
    last[1, 0], last[1, 1] = last[0, 1], last[0, 2]


def test_numbers_and_arrays_are_read_as_they_were_written(rng):
    table = rng.integers(-128, 128, (2, 3, 4)).astype(np.int8)
    last = np.arange(6, dtype=np.float32).reshape(2, 3)
    words = kept.table(Outer(-7, Inner(np.float32(-0.3), table), True, last))
    out = np.zeros(5)
    seen(out, words.ctypes.data)
    assert out.tolist() == [-7.0, float(np.float32(-0.3)), 1.0, 24.0, table[1, 2, 3]]
    assert last.tolist() == [[0, 1, 2], [1, 2, 5]]


@pytest.mark.parametrize("last", [np.zeros((2, 2)), np.zeros(3, np.float32), np.zeros((3, 2), np.float32).T])
def test_an_array_of_another_kind_is_not_written(last):
    with pytest.raises(TypeError, match="2 axes of float32"):
        kept.table(Outer(1, Inner(np.float32(1), np.zeros((1, 1, 1), np.int8)), True, last))
