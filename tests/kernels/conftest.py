"""Twins at work: weights as the kernels want them, and a place to compute."""

import math
from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from handgrad import tree
from handgrad.kernels import products
from handgrad.kernels.arena import Arena, aligned
from handgrad.kernels.precision import BFLOAT16
from handgrad.kernels.twins import Twins
from handgrad.kernels.workspace import NONE, Weight, Workspace

Allocate = Callable[..., np.ndarray]


def zeros(shape: tuple[int, ...], dtype: Any = np.float32) -> np.ndarray:
    array = aligned(math.prod(shape), dtype).reshape(shape)
    array[...] = 0
    return array


def weight(value: np.ndarray, kernels: ModuleType = products, allocate: Allocate = zeros) -> Weight:
    """`value` as a twin takes it: packed, with a gradient of zeros."""
    own = allocate(value.shape)
    own[...] = value
    if value.ndim != 2:
        return Weight(own, allocate(value.shape), NONE, NONE)
    K, N = value.shape
    panels, transposed = (allocate(kernels.packed_shape(*shape), kernels.DTYPE) for shape in ((K, N), (N, K)))
    n_rows = kernels.slice_rows(K)
    for first in range(0, K, n_rows):  # some rows at a time, as after an update
        kernels.pack(panels, transposed, own, first, min(first + n_rows, K))
    return Weight(own, allocate(value.shape), panels, transposed)


def weights(values: Any, kernels: ModuleType = products, allocate: Allocate = zeros) -> Any:
    """A whole tree of them."""
    return tree.map(lambda value: weight(value, kernels, allocate), values)


@pytest.fixture
def twins() -> Twins:
    return Twins(Workspace(Arena(1 << 16), aligned(1 << 16)))


@pytest.fixture
def twins_bfloat16() -> Twins:
    return Twins(Workspace(Arena(1 << 16), aligned(1 << 16), BFLOAT16))
