"""One 32 x 32 block of a bfloat16 product, on AMX tiles; for tests on other machines, without them.

Operands are arrays of words: 32 bits, which hold two neighbouring bfloat16 numbers of the summed axis, the
first in the lower half. The block takes four tiles of 16 x 16 accumulators (0 to 3), two of A (4, 5) and two
of B (6, 7): four multiplications for four loads, each of which is used twice.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from handgrad.kernels import machine
from handgrad.kernels.jit import inner
from handgrad.kernels.vector import from_bits

SIDE = 32
WORDS = SIDE // 2
"""Words, of two numbers each, that one multiplication of tiles sums over."""
I8, I64, VOID = ir.IntType(8), ir.IntType(64), ir.VoidType()
POINTER = I8.as_pointer()


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
def _multiply_on_tiles(c, a, b, add):
    a_from, b_from = a.ctypes.data, b.ctypes.data
    stride, c_stride = a.strides[0], c.strides[0]
    upper = c.ctypes.data
    lower = upper + 16 * c_stride
    if add:
        load0(upper, c_stride)
        load1(upper + 64, c_stride)
        load2(lower, c_stride)
        load3(lower + 64, c_stride)
    else:
        zero0()
        zero1()
        zero2()
        zero3()
    for k in range(0, b.shape[0], WORDS):
        load4(a_from + 4 * k, stride)
        load6(b_from + 4 * SIDE * k, 4 * SIDE)
        dot046()
        load7(b_from + 4 * SIDE * k + 64, 4 * SIDE)
        dot047()
        load5(a_from + 16 * stride + 4 * k, stride)
        dot156()
        dot157()
    store0(upper, c_stride)
    store1(upper + 64, c_stride)
    store2(lower, c_stride)
    store3(lower + 64, c_stride)


@inner
def _configure_nothing(config):
    pass


@inner
def _release_nothing():
    pass


@inner
def _multiply_without_tiles(c, a, b, add):
    high = np.uint32(0xFFFF0000)
    for i in range(SIDE):
        row = c[i]
        if not add:
            row[:] = np.float32(0.0)
        for k in range(b.shape[0]):
            first, second = (
                from_bits(np.uint32(a[i, k] << np.uint32(16))),
                from_bits(np.uint32(a[i, k] & high)),
            )
            words = b[k]
            for j in range(SIDE):
                row[j] += first * from_bits(np.uint32(words[j] << np.uint32(16)))
                row[j] += second * from_bits(np.uint32(words[j] & high))


HAS_TILES = machine.AMX == "hardware"
configure = _configure_tiles if HAS_TILES else _configure_nothing
finish = _release_tiles if HAS_TILES else _release_nothing
multiply_block = _multiply_on_tiles if HAS_TILES else _multiply_without_tiles
"""c (32, 32) float32 = a (32, words) @ b (words, 32); with `add`, c += a @ b. `words` is a multiple of 16.
The rows of c and of a may lie apart."""
