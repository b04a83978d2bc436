r"""The walk of a product: which block the microkernel computes next, whatever its numbers are.

Three loops lie around a microkernel (Goto & van de Geijn, "Anatomy of high-performance matrix
multiplication", 2008): a panel's part of so many steps of K stays in the first-level cache while all rows of
A pass by. `walking` makes the loops for one kind of numbers and one layout of A (see `microkernel`).

All places are addresses, all distances bytes. A step of K is 32 bits of A, and a row of a panel of B.
"""

from typing import NamedTuple

import numpy as np

from handgrad.kernels.jit import inner
from handgrad.kernels.machine import MICRO_COLUMNS, MICRO_ROWS
from handgrad.kernels.microkernel import Kind, Matrix, microkernel
from handgrad.kernels.vector import load, prefetch, store

WORD = 4
"""Bytes of a float32, or of a word of integers."""
STEP = WORD * MICRO_COLUMNS
"""From one row of a panel to the next."""
LINE = 64
"""Of the cache."""
EDGE = MICRO_ROWS * MICRO_COLUMNS
ROOM = 2 * EDGE
"""32-bit numbers at the beginning of scratch that `room` lays out."""


class Left(NamedTuple):
    """A, MICRO_ROWS rows at a time."""

    at: int
    panel: int
    """To the next MICRO_ROWS rows."""
    stride: int
    """From row to row; where A's columns lie side by side, from step to step."""
    scales: Matrix
    """What each row's integers are worth, block by block; float32 has none."""


class Right(NamedTuple):
    """B, in panels of MICRO_COLUMNS columns."""

    at: int
    panel: int
    """To the next panel, of numbers and of scales."""
    scales: int
    """A row of columns' scales for each block of K."""


class Start(NamedTuple):
    """What a product is added to: a matrix, zeros, or a bias, which is the same for all rows."""

    at: int
    stride: int
    """From row to row: zero where all rows are the same."""
    panel: int
    """From one panel's columns to the next."""


class Size(NamedTuple):
    """Of a product."""

    rows: int
    columns: int
    steps: int
    """Of K."""
    block: int
    """The steps that are summed in registers."""


class Room(NamedTuple):
    """In scratch."""

    zeros: int
    """A row of zeros."""
    edge: int
    """A whole block of C, for those that stand over C's edge."""


@inner
def room(scratch):
    scratch[:MICRO_COLUMNS] = np.float32(0.0)
    return Room(scratch.ctypes.data, scratch.ctypes.data + WORD * EDGE)


@inner
def onto(c):
    """What has been summed in a matrix so far."""
    return Start(c.at, c.stride, STEP)


@inner
def onto_nothing(spare):
    return Start(spare.zeros, 0, 0)


@inner
def beginning(c, bias, add, spare):
    """What `affine` adds its product to: with `add`, C; else the bias, unless its length is 0."""
    if add:
        return onto(c)
    if bias.size:
        return Start(bias.ctypes.data, 0, STEP)
    return onto_nothing(spare)


@inner
def _copy(target, source, n_rows, n_columns):
    for i in range(n_rows):
        for j in range(n_columns):
            number = load(source.at + i * source.stride + WORD * j)
            store(target.at + i * target.stride + WORD * j, number)


def walking(kind: Kind, by_columns: bool):
    """The walk around the microkernel of `kind`; by columns, A's columns lie side by side."""
    multiply_block = microkernel(kind, by_columns)

    @inner
    def walk_panel(c, start, a, b, size, edge):
        """C = A @ B + start for one panel and one block of steps."""
        n_lines = size.steps * STEP // LINE * MICRO_ROWS // size.rows + 1
        next_line = b.at + b.panel
        for m in range(0, size.rows, MICRO_ROWS):
            for _ in range(n_lines):  # of the next panel, while this one is in the cache
                prefetch(next_line)
                next_line += LINE
            n_rows = min(MICRO_ROWS, size.rows - m)
            target = Matrix(c.at + m * c.stride, c.stride)
            origin = Matrix(start.at + m * start.stride, start.stride)
            whole = n_rows == MICRO_ROWS and size.columns == MICRO_COLUMNS
            to, begin = target, origin
            if not whole:
                to = begin = Matrix(edge, STEP)
                _copy(to, origin, n_rows, size.columns)
            a_from = Matrix(a.at + (m // MICRO_ROWS) * a.panel, a.stride)
            scales = Matrix(a.scales.at + m * a.scales.stride, a.scales.stride)
            multiply_block(to, begin, a_from, n_rows - 1, b.at, size.steps, scales, b.scales)
            if not whole:
                _copy(target, to, n_rows, size.columns)

    @inner
    def walk(c, start, a, b, size, edge):
        """C = A @ B + start. Blocks that stand over C's edge are computed in `edge`."""
        step = a.stride if by_columns else WORD
        for k in range(0, size.steps, size.block):
            number = k // size.block
            row_scales = Matrix(a.scales.at + WORD * number, a.scales.stride)
            rows = Left(a.at + k * step, a.panel, a.stride, row_scales)
            n_steps = min(size.block, size.steps - k)
            for panel in range((size.columns + MICRO_COLUMNS - 1) // MICRO_COLUMNS):
                numbers, scales = b.at + k * STEP, b.scales + number * STEP
                columns = Right(numbers + panel * b.panel, b.panel, scales + panel * b.panel)
                n_columns = min(MICRO_COLUMNS, size.columns - panel * MICRO_COLUMNS)
                target = Matrix(c.at + panel * STEP, c.stride)
                origin = target  # what earlier blocks have summed
                if k == 0:
                    origin = Matrix(start.at + panel * start.panel, start.stride)
                walk_panel(target, origin, rows, columns, Size(size.rows, n_columns, n_steps, n_steps), edge)

    return walk
