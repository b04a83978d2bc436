"""Products of a text's rows with a matrix of any kind, and what rows become before them.

A thread computes some panels of every product, for all rows. Operands are made by each thread for itself
where there is one row, else together: `Team`.
"""

from typing import NamedTuple

import numpy as np

from handgrad.kernels.amx import SIDE, configure, finish
from handgrad.kernels.jit import apart, inner
from handgrad.kernels.microkernel import Matrix
from handgrad.kernels.rounding import to_bfloat16
from handgrad.kernels.vector_moves import move
from handgrad.kernels.writing import blocks, byte_tiles, tiles, vectors
from handgrad.kernels.writing.arrays import BFLOAT16, FLOAT32, NONE, Q4_0, Q4_1, Q8_0, TILES
from handgrad.kernels.writing.barrier import wait_until
from handgrad.kernels.writing.blocks import BLOCK, GROUP, NOTES, SUMS, quantize_row

WHOLE, HALVES = 1, 2
"""Forms of a row that products need besides its float32 numbers."""
ZERO = np.float32(0.0)
TILE_CONFIG = 16
"""float32 numbers of a tile configuration."""


class Groups(NamedTuple):
    """Rows as quantized blocks (`blocks`)."""

    at: int
    side: int
    """Rows of a group."""


class Operand(NamedTuple):
    """Rows in the forms that products read them in."""

    floats: Matrix
    whole: Groups
    halves: Matrix
    n_rows: int


@inner
def place_in(groups, row, n_blocks):
    """The addresses of a row's whole numbers and of its notes, and how many bytes on those of its next block
    are."""
    step = groups.side * (BLOCK + NOTES)
    group, i = groups.at + row // groups.side * n_blocks * step, row % groups.side
    return group + BLOCK * i, group + BLOCK * groups.side + NOTES * i, step


@inner
def wait(team):
    """Until all threads of the team are here."""
    if team.n_workers > 1:
        team.arrivals[0] += team.n_workers
        wait_until(team.place, team.arrivals[0])


@inner
def share(n, team):
    """This thread's part of n: first and last."""
    return n * team.worker // team.n_workers, n * (team.worker + 1) // team.n_workers


@inner
def columns_of(matrix, team):
    """The columns whose panels this thread computes."""
    first, last = share(matrix.n_panels, team)
    return first * matrix.width, min(last * matrix.width, matrix.n_columns)


@inner
def needs_of(matrix):
    if matrix.kind >= Q8_0:
        return WHOLE
    return HALVES if matrix.kind == TILES else 0


@inner
def is_shared(n_rows, team):
    """Whether an operand of so many rows is made by all threads together."""
    return n_rows > 1 and team.n_workers > 1


@inner
def rows_of(n_rows, team):
    """The rows of an operand that this thread makes."""
    return share(n_rows, team) if is_shared(n_rows, team) else (0, n_rows)


@apart
def convert(floats, width, n_rows, needs, room, team):
    """The operand of float32 rows, which everybody sees; they wait for each other where they share it."""
    w = 0 if is_shared(n_rows, team) else team.worker
    whole = Groups(room.whole[w].ctypes.data, 1 if n_rows == 1 else GROUP)
    halves = Matrix(room.halves[w].ctypes.data, room.halves.strides[1])
    first, last = rows_of(n_rows, team)
    for r in range(first, last):
        at = floats[r].ctypes.data
        if needs & WHOLE:
            q, notes, step = place_in(whole, r, width // BLOCK)
            quantize_row(q, notes, step, at, width // BLOCK)
        if needs & HALVES:
            row, to = floats[r], room.halves[w, r]
            for i in range(width):
                to[i] = to_bfloat16(row[i])
            for i in range(width, tiles.filled(width)):
                to[i] = np.uint16(0)
    if is_shared(n_rows, team):
        wait(team)
    return Operand(Matrix(floats.ctypes.data, floats.strides[0]), whole, halves, n_rows)


def _of_blocks(kind):
    one, two, four, most = (SUMS[kind][n] for n in (1, 2, 4, blocks.MOST_ROWS))
    most_rows = blocks.MOST_ROWS

    @inner
    def some_rows(at, n_blocks, x, first, out, n):
        """Rows of a panel's product, as many as there are registers for; how many."""
        q, notes, step = place_in(x.whole, first, n_blocks)
        to = out.at + first * out.stride, out.stride
        if n >= most_rows:
            most(at, n_blocks, q, notes, step, to)
            return most_rows
        if n >= 4:
            four(at, n_blocks, q, notes, step, to)
            return 4
        if n >= 2:
            two(at, n_blocks, q, notes, step, to)
            return 2
        one(at, n_blocks, q, notes, step, to)
        return 1

    @apart
    def multiply_blocks(out, x, matrix, first, last, start):
        """The rows from `start` on."""
        n_blocks = matrix.n_rows // BLOCK
        for panel in range(first, last):
            to = Matrix(out.at + 4 * matrix.width * panel, out.stride)
            r = start
            while r < x.n_rows:
                r += some_rows(matrix.at + panel * matrix.panel, n_blocks, x, r, to, x.n_rows - r)

    return multiply_blocks


def _of_blocks_on_tiles(kind):
    sums, unpack = byte_tiles.SUMS[kind], byte_tiles.UNPACK.get(kind)
    is_packed = unpack is not None
    unpacked_at = (byte_tiles.N_TILES + 1) * byte_tiles.TILE
    out_at, side, header, size = byte_tiles.N_TILES * byte_tiles.TILE, byte_tiles.SIDE, kind.header, kind.size

    @apart
    def multiply_blocks(out, x, matrix, first, last, n_rows, room):
        """The first n_rows rows, 16 at a time; of the last 16 some may be none."""
        byte_tiles.configure_bytes(room[:TILE_CONFIG].view(np.uint8))
        n_blocks, at = matrix.n_rows // BLOCK, room[TILE_CONFIG:].ctypes.data
        for panel in range(first, last):
            source = matrix.at + panel * matrix.panel
            numbers, step = source + header, size
            if is_packed:
                numbers, step = at + unpacked_at, byte_tiles.NUMBERS
                unpack(numbers, source, n_blocks)
            for r in range(0, n_rows, side):
                group, _, _ = place_in(x.whole, r, n_blocks)
                sums(source, numbers, step, n_blocks, group, at)
                for i in range(min(side, n_rows - r)):
                    to = out.at + (r + i) * out.stride + 4 * matrix.width * panel
                    move(to, at + out_at + 4 * side * i)
        finish()

    return multiply_blocks


def _of_any_rows(kind):
    multiply_few = _of_blocks(kind)
    if not byte_tiles.HAS_TILES:

        @apart
        def multiply_all(out, x, matrix, first, last, room):
            multiply_few(out, x, matrix, first, last, 0)

        return multiply_all
    multiply_many = _of_blocks_on_tiles(kind)

    @apart
    def multiply_whole(out, x, matrix, first, last, room):
        n = x.n_rows - x.n_rows % byte_tiles.SIDE
        if x.n_rows - n >= byte_tiles.PAY:
            n = x.n_rows
        if n:
            multiply_many(out, x, matrix, first, last, n, room)
        if n < x.n_rows:
            multiply_few(out, x, matrix, first, last, n)

    return multiply_whole


multiply_q8_0, multiply_q4_0, multiply_q4_1 = (_of_any_rows(kind) for kind in SUMS)


def _of_numbers(sums):
    @apart
    def multiply_numbers(out, x, matrix, first, last):
        for panel in range(first, last):
            at, column = matrix.at + panel * matrix.panel, 4 * matrix.width * panel
            for r in range(0, x.n_rows, vectors.MOST_ROWS):
                left = Matrix(x.floats.at + r * x.floats.stride, x.floats.stride)
                to = Matrix(out.at + r * out.stride + column, out.stride)
                sums(at, matrix.n_rows, left, to, x.n_rows - r)

    return multiply_numbers


multiply_float32 = _of_numbers(vectors.sums_float32)
multiply_bfloat16 = _of_numbers(vectors.sums_bfloat16)


@apart
def multiply_tiles(out, x, matrix, first, last, room):
    configure(room[:TILE_CONFIG].view(np.uint8))
    block, n_words = room[TILE_CONFIG:].ctypes.data, tiles.filled(matrix.n_rows) // 2
    n_whole = x.n_rows - x.n_rows % SIDE
    for panel in range(first, last):
        at, column = matrix.at + panel * matrix.panel, 4 * matrix.width * panel
        tiles.sums_of_many(Matrix(out.at + column, out.stride), x.halves, at, n_words, n_whole)
        if n_whole < x.n_rows:
            left = Matrix(x.halves.at + n_whole * x.halves.stride, x.halves.stride)
            to = Matrix(out.at + n_whole * out.stride + column, out.stride)
            tiles.sums(to, left, at, n_words, x.n_rows - n_whole, block)
    finish()


@apart
def multiply(out, column, x, matrix, biases, room, team):
    """This thread's panels of x @ W + bias, in the columns of out from `column` on."""
    first, last = share(matrix.n_panels, team)
    to = Matrix(out.ctypes.data + 4 * column, out.strides[0])
    if matrix.kind == FLOAT32:
        multiply_float32(to, x, matrix, first, last)
    elif matrix.kind == BFLOAT16:
        multiply_bfloat16(to, x, matrix, first, last)
    elif matrix.kind == TILES:
        multiply_tiles(to, x, matrix, first, last, room.tile[team.worker])
    elif matrix.kind == Q8_0:
        multiply_q8_0(to, x, matrix, first, last, room.tile[team.worker])
    elif matrix.kind == Q4_0:
        multiply_q4_0(to, x, matrix, first, last, room.tile[team.worker])
    elif matrix.kind == Q4_1:
        multiply_q4_1(to, x, matrix, first, last, room.tile[team.worker])
    if matrix.bias != NONE:
        begin, end = columns_of(matrix, team)
        bias = biases[matrix.bias + begin : matrix.bias + end]
        for r in range(x.n_rows):
            row = out[r, column + begin : column + end]
            for i in range(bias.size):
                row[i] += bias[i]


def room_of_products(n_rows: int) -> int:
    """float32 numbers that products with matrices of at most so many rows work in."""
    return TILE_CONFIG + max(tiles.ROOM, byte_tiles.room_bytes(n_rows) // 4)
