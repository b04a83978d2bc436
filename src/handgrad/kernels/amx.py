"""One 32 x 32 block of a bfloat16 product, on AMX tiles; for tests on other machines, without them.

Operands are arrays of words: 32 bits, which hold two neighbouring bfloat16 numbers of the summed axis, the
first in the lower half. The block takes four tiles of 16 x 16 accumulators (0 to 3), two of A (4, 5) and two
of B (6, 7): four multiplications for four loads, each of which is used twice.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from handgrad.kernels import machine
from handgrad.kernels.jit import inner
from handgrad.kernels.microkernel import Matrix
from handgrad.kernels.vector import bits, from_bits, load, prefetch, prefetch_to_write, store

SIDE = 32
ZERO = np.float32(0.0)
NOTHING = Matrix(0, 0)
WORDS = SIDE // 2
"""Words, of two numbers each, that one multiplication of tiles sums over."""
ROW, LINE = 4 * WORDS, 4 * SIDE
"""Bytes of a row of a tile of A, and of a row of a panel of B."""
CACHE_LINE = 64
I8, I64, VOID = ir.IntType(8), ir.IntType(64), ir.VoidType()
POINTER = I8.as_pointer()


class Coming(NamedTuple):
    """What is asked for while a block is multiplied, for later ones."""

    c: int
    """The address of a block of C, to be written."""
    b: int
    """The address of some of B."""
    n_lines: int
    """And how many cache lines of it."""


def _tile_instruction(name: str, *tiles: int, with_address: bool = False) -> Any:
    """The LLVM intrinsic `name` on these tile registers, and on an address and a stride in bytes."""
    kind = ir.FunctionType(VOID, [I8] * len(tiles) + ([POINTER, I64] if with_address else []))

    def emit(context: Any, builder: ir.IRBuilder, signature: Any, args: Sequence[ir.Value]) -> Any:
        rest = [builder.inttoptr(args[0], POINTER), args[1]] if with_address else []
        function = builder.module.declare_intrinsic(f"llvm.x86.{name}", (), kind)
        builder.call(function, [*(ir.Constant(I8, tile) for tile in tiles), *rest])
        return context.get_dummy_value()

    if with_address:

        @intrinsic
        def instruction(typing_context: Any, address: Any, stride: Any) -> Any:
            return types.void(types.int64, types.int64), emit
    else:

        @intrinsic
        def instruction(typing_context: Any) -> Any:
            return types.void(), emit

    return instruction


@intrinsic
def load_config(typing_context: Any, address: Any) -> Any:
    def emit(context: Any, builder: ir.IRBuilder, signature: Any, args: Sequence[ir.Value]) -> Any:
        function = builder.module.declare_intrinsic(
            "llvm.x86.ldtilecfg", (), ir.FunctionType(VOID, [POINTER])
        )
        builder.call(function, [builder.inttoptr(args[0], POINTER)])
        return context.get_dummy_value()

    return types.void(types.int64), emit


release = _tile_instruction("tilerelease")
zero0, zero1, zero2, zero3 = (_tile_instruction("tilezero", t) for t in range(4))
load0, load1, load2, load3, load4, load5, load6, load7 = (
    _tile_instruction("tileloadd64", t, with_address=True) for t in range(8)
)
store0, store1, store2, store3 = (_tile_instruction("tilestored64", t, with_address=True) for t in range(4))
dot046, dot047, dot156, dot157 = (
    _tile_instruction("tdpbf16ps", *tiles) for tiles in ((0, 4, 6), (1, 4, 7), (2, 5, 6), (3, 5, 7))
)


@inner
def _configure_tiles(config):
    """Palette 1: eight tiles of 16 rows of 64 bytes. `config` is 64 bytes to write this into."""
    config[:] = 0
    config[0] = 1
    for tile in range(8):
        config[16 + 2 * tile] = 64
        config[48 + tile] = 16
    load_config(config.ctypes.data)


@inner
def _release_tiles():
    release()


@inner
def _load_sums(c):
    load0(c.at, c.stride)
    load1(c.at + 64, c.stride)
    load2(c.at + 16 * c.stride, c.stride)
    load3(c.at + 16 * c.stride + 64, c.stride)


@inner
def _begin(start):
    if start.at == 0:
        zero0()
        zero1()
        zero2()
        zero3()
    else:
        _load_sums(start)


@inner
def _store_sums(c):
    store0(c.at, c.stride)
    store1(c.at + 64, c.stride)
    store2(c.at + 16 * c.stride, c.stride)
    store3(c.at + 16 * c.stride + 64, c.stride)


@inner
def _multiply(a, stride, b):
    """The sums += A (32, 16 words) @ B (16 words, 32)."""
    load4(a, stride)
    load6(b, LINE)
    dot046()
    load7(b + 64, LINE)
    dot047()
    load5(a + 16 * stride, stride)
    dot156()
    dot157()


@inner
def _block_on_tiles(c, start, a, b, n_words):
    _begin(start)
    for k in range(0, n_words, WORDS):
        _multiply(a.at + 4 * k, a.stride, b + LINE * k)
    _store_sums(c)


@inner
def _ask_for_rows(address, stride, n_rows):
    """Ask for `n_rows` rows of a block of C; the address of those that follow."""
    for row in range(n_rows):
        prefetch_to_write(address + row * stride)
        prefetch_to_write(address + row * stride + CACHE_LINE)
    return address + n_rows * stride


@inner
def _block_before_on_tiles(c, start, a, b, n_words, coming):
    n_rows, n_lines = -(-SIDE * WORDS // n_words), -(-coming.n_lines * WORDS // n_words)
    later, lines = coming.c, coming.b
    _begin(start)
    for k in range(0, n_words, WORDS):
        later = _ask_for_rows(later, c.stride, n_rows)
        for line in range(n_lines):
            prefetch(lines + CACHE_LINE * line)
        lines += CACHE_LINE * n_lines
        _multiply(a.at + 4 * k, a.stride, b + LINE * k)
    _store_sums(c)


@inner
def _add_block_on_tiles(c, start, a, b, n_words, coming):
    n_rows = -(-SIDE * WORDS // n_words)
    _begin(start)
    for k in range(0, n_words, WORDS):
        coming = _ask_for_rows(coming, c.stride, n_rows)
        _multiply(a + LINE * k, ROW, b + LINE * k)
    _store_sums(c)


@inner
def lower_half(word):
    """The first bfloat16 of a word, as a float32."""
    return from_bits(np.uint32(word << np.uint32(16)))


@inner
def upper_half(word):
    """The second."""
    return from_bits(np.uint32(word & np.uint32(0xFFFF0000)))


@inner
def _configure_nothing(config):
    pass


@inner
def _release_nothing():
    pass


@inner
def _block_without_tiles(c, start, a, b, n_words):
    for i in range(SIDE):
        row, left, begin = c.at + i * c.stride, a.at + i * a.stride, start.at + i * start.stride
        for j in range(SIDE):
            store(row + 4 * j, load(begin + 4 * j) if start.at else ZERO)
        for k in range(n_words):
            word, right = bits(load(left + 4 * k)), b + 4 * SIDE * k
            first, second = lower_half(word), upper_half(word)
            for j in range(SIDE):
                word = bits(load(right + 4 * j))
                total = load(row + 4 * j) + first * lower_half(word)
                store(row + 4 * j, total + second * upper_half(word))


@inner
def _block_before_without_tiles(c, start, a, b, n_words, coming):
    _block_without_tiles(c, start, a, b, n_words)


@inner
def _add_block_without_tiles(c, start, a, b, n_words, coming):
    for k in range(0, n_words, WORDS):
        _block_without_tiles(c, c if k > 0 else start, Matrix(a + LINE * k, ROW), b + LINE * k, WORDS)


HAS_TILES = machine.AMX == "hardware"
configure = _configure_tiles if HAS_TILES else _configure_nothing
finish = _release_tiles if HAS_TILES else _release_nothing
block_at = _block_on_tiles if HAS_TILES else _block_without_tiles
"""C (32, 32) float32 = A (32, words) @ B (words, 32) + start; `words` is a multiple of 16.

C, start and A are `Matrix`es, B is the address of a panel. A start at address 0 is zeros, one of stride 0 is
the same row for all; it may be C.
"""
block_before = _block_before_on_tiles if HAS_TILES else _block_before_without_tiles
"""The same, and what is `Coming` is prefetched meanwhile."""
add_block = _add_block_on_tiles if HAS_TILES else _add_block_without_tiles
"""`block_at` for an A that lies in pieces of 32 rows of 16 words each.

A and B are addresses; `coming` is that of a later block of C, which is prefetched meanwhile.
"""
