"""Rows of scaled integers: an activation (M, K) as `products_int16` reads it, one int16 array.

A row holds its scales, one float32 for each block of K, in a head that is filled up to whole cache lines;
then its integers, filled up with zeros.
"""

from handgrad.kernels.arena import ALIGNMENT, round_up
from handgrad.kernels.jit import inner, shared
from handgrad.kernels.machine import LANES
from handgrad.kernels.quantize import TOP, per_one_of_row, round_words, scale_of
from handgrad.kernels.vector import store

BLOCK = (2**31 - 1) // TOP**2
"""Steps of the summed axis between two conversions, at most: their sum fits 32 bits."""
GRAIN = 32
"""Blocks are multiples of it, and rows are filled up to one: whole panels, and whole vectors of words."""
assert BLOCK % GRAIN == 0
HALF_WORD, WORD = 2, 4
"""Bytes of an integer; of two, of a float32, of a scale."""
LINE = ALIGNMENT // HALF_WORD
"""Integers in a cache line."""


@shared
def slice_rows(K: int) -> int:
    """The rows of a block of K: as many in each as can be; the last one may be shorter."""
    blocks = (K + BLOCK - 1) // BLOCK
    return round_up((K + blocks - 1) // blocks, GRAIN)


@shared
def n_blocks(K: int) -> int:
    """The blocks of K."""
    return (K + slice_rows(K) - 1) // slice_rows(K)


@shared
def head(K: int) -> int:
    """Where a row's integers begin: what its scales take, in integers."""
    return round_up(n_blocks(K) * WORD // HALF_WORD, LINE)


def operand_shape(M: int, K: int) -> tuple[int, int]:
    """The shape of an activation (M, K) as products read it."""
    return M, head(K) + round_up(K, GRAIN)


@inner
def round_to_integers(row, x):
    """`row` of an operand becomes x (K,), scaled and rounded."""
    K = x.size
    block = slice_rows(K)
    numbers = row[head(K) :].ctypes.data
    for b in range(n_blocks(K)):
        first = b * block
        n = min(block, K - first)
        to, origin = numbers + HALF_WORD * first, x.ctypes.data + WORD * first
        p = per_one_of_row(origin, n)
        store(row.ctypes.data + WORD * b, scale_of(p))
        whole = n // (2 * LANES) * (2 * LANES)
        for i in range(0, whole, 2 * LANES):
            round_words(to + HALF_WORD * i, origin + WORD * i, p, 2 * LANES)
        for i in range(whole, round_up(n, GRAIN), 2 * LANES):
            round_words(to + HALF_WORD * i, origin + WORD * i, p, n - i)
