r"""A random direction of an array, at a byte a number.

A weight w of an array of size s (its root mean square) moves by $t\,s\,r$. r is one of the 256 odd multiples
of 1/128 between -2 and 2: never zero, and seldom two alike. So a step t moves every array by the same share
of its size, whatever the size of the model.
"""

import math
from typing import Any, NamedTuple

import numpy as np

from handgrad import tree

SMALLEST = 0.02
"""The size of an array of zeros, such as a bias that was never trained: as large as matrices start."""


class Direction(NamedTuple):
    """Where one array moves."""

    size: float
    odd: np.ndarray
    """Signed bytes b; r = (2 b + 1) / 128."""

    def moved(self, array: np.ndarray, by: float) -> np.ndarray:
        """The array, `by` further on."""
        moved = self._odd_times(by * self.size / 128)
        moved += array
        return moved

    def share(self) -> np.ndarray:
        """r / 2, between -1 and 1."""
        return self._odd_times(1 / 256)

    def slope(self, gradient: np.ndarray) -> float:
        """What a gradient says about a step in this direction."""
        return float(np.vdot(gradient, self._odd_times(self.size / 128)))

    def _odd_times(self, factor: float) -> np.ndarray:
        product = np.multiply(self.odd, 2.0 * factor, dtype=np.float64)
        product += factor
        return product


def size_of(array: np.ndarray) -> float:
    """How far an array moves in one step."""
    return max(SMALLEST, length(array) / max(1, array.size) ** 0.5)


def draw(shape: tuple[int, ...], size: float, rng: np.random.Generator) -> Direction:
    """A direction for an array of that shape and size."""
    return Direction(size, np.frombuffer(rng.bytes(math.prod(shape)), np.int8).reshape(shape))


def length(array: np.ndarray) -> float:
    """The Euclidean norm."""
    return float(np.sqrt(np.vdot(array, array)))


def moved(part: Any, directions: dict[str, Direction], name: str, by: float) -> Any:
    """A part of the weights, called `name` in the whole, with all that has a direction moved."""
    names = (full for full, _ in tree.named_leaves(part, name))

    def move(array: np.ndarray) -> np.ndarray:
        direction = directions.get(next(names))
        return array if direction is None else direction.moved(array, by)

    return tree.map(move, part)
