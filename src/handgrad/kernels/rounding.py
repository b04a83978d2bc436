"""Operands: activations as products read them, rounded once and handed from product to product.

The dtype of an operand says which kind of product multiplies it.

- float32: the activation itself.
- uint16: bfloat16 numbers, the upper halves of float32 ones; rows are filled up with zeros.
- int16: integers, behind the scales of their row (see `scaled`).
"""

import numpy as np
from numba import types
from numba.extending import overload

from handgrad.kernels.jit import FLAGS, inner, kernel
from handgrad.kernels.scaled import round_to_integers
from handgrad.kernels.vector import bits, from_bits

HALF, ONE_BIT, SHIFT = np.uint32(0x7FFF), np.uint32(1), np.uint32(16)
OPTIONS = {
    "nogil": True,
    "error_model": "numpy",
    "fastmath": FLAGS,
    "boundscheck": False,
    "forceinline": True,
}


@inner
def to_bfloat16(x):
    """The nearest bfloat16, ties to even, as 16 bits.

    A bfloat16 is the upper half of a float32. Adding just under half of its last place carries where it must,
    and the one bit more that an odd last place adds sends ties to even.
    """
    pattern = bits(x)
    return np.uint16(np.uint32(pattern + HALF + np.uint32(np.uint32(pattern >> SHIFT) & ONE_BIT)) >> SHIFT)


def float_row(a: np.ndarray, m: int, spare: np.ndarray, n: int) -> np.ndarray:
    """Where to write row m in float32, before `round_row`: into a float32 operand, else into `spare`."""
    raise NotImplementedError


def round_row(a: np.ndarray, m: int, row: np.ndarray) -> None:
    """Row m of the operand becomes `row`, rounded; a float32 operand holds it already."""
    raise NotImplementedError


def value(number: np.generic) -> np.float32:
    """A number of a float32 or bfloat16 operand, as float32: an integer has no value without its scale."""
    raise NotImplementedError


@overload(value, jit_options=OPTIONS)
def _value(number):
    if number == types.float32:
        return lambda number: number
    if number != types.uint16:
        return None
    return lambda number: from_bits(np.uint32(np.uint32(number) << SHIFT))


def number_for(a: np.ndarray, x: np.float32) -> np.generic:
    """x as the operand `a` holds it."""
    raise NotImplementedError


@overload(number_for, jit_options=OPTIONS)
def _number_for(a, x):
    if a.dtype == types.float32:
        return lambda a, x: x
    if a.dtype != types.uint16:
        return None
    return lambda a, x: to_bfloat16(x)


@overload(float_row, jit_options={**OPTIONS, "_nrt": True})  # it returns an array: see `jit.view`
def _float_row(a, m, spare, n):
    if a.dtype == types.float32:
        return lambda a, m, spare, n: a[m]
    return lambda a, m, spare, n: spare[:n]


@overload(round_row, jit_options=OPTIONS)
def _round_row(a, m, row):
    if a.dtype == types.float32:
        return lambda a, m, row: None
    if a.dtype == types.int16:
        return lambda a, m, row: round_to_integers(a[m], row)

    def rounded(a, m, row):
        numbers = a[m]
        for j in range(row.size):
            numbers[j] = to_bfloat16(row[j])
        numbers[row.size :] = np.uint16(0)

    return rounded


@kernel
def round_rows(a, x):
    """The operand `a` of an activation x (M, K)."""
    for m in range(x.shape[0]):
        round_row(a, m, x[m])
