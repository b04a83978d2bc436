"""What a product reads: an activation's rows, a weight's panels. Each kind of product makes its own."""

from typing import NamedTuple

import numpy as np


class Operand(NamedTuple):
    """An activation (M, K), row by row."""

    numbers: np.ndarray
    """(M, words): what a product reads."""
    scales: np.ndarray
    """(M, blocks): what one unit of a row's numbers is worth; (0, 0) where nothing is scaled."""


class Panels(NamedTuple):
    """A weight (K, N), packed."""

    numbers: np.ndarray
    """(panels, words, columns)."""
    scales: np.ndarray
    """(blocks, panels * columns): what one unit of a column's numbers is worth; (0, 0) where nothing is."""
