"""The same products with quantized blocks as `blocks`, of 16 rows at once, on AMX tiles.

A tile multiplies a block of 16 columns with 16 rows. Its sums are whole numbers, exact, and what is made of
them is computed in the same order: a row has the same bits here and there. Blocks of 4 bits are unpacked for
one panel at a time, for all rows.
"""

import functools
from collections.abc import Sequence
from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from handgrad.kernels import machine
from handgrad.kernels.amx import load_config
from handgrad.kernels.jit import inner
from handgrad.kernels.machine import LANES
from handgrad.kernels.own_function import own_function
from handgrad.kernels.vector import (
    VECTOR,
    WORDS,
    at_address,
    broadcast,
    counted_loop,
    emit_prefetch,
    i64,
    load_vector,
    multiply_adder,
    same,
)
from handgrad.kernels.writing.blocks import (
    AHEAD,
    BLOCK,
    GROUP,
    NOTES,
    Q4_0,
    Q4_1,
    Q8_0,
    SCALE_BYTES,
    Kind,
    emit_scales,
    emit_whole_numbers,
)

HAS_TILES = machine.AMX == "hardware" and LANES == 16 and bool(machine.FEATURES.get("amx-int8"))
SIDE = GROUP
PAY = 6
"""Rows from which 16 at once take less time than as many as there are."""
TILE = 4 * SIDE * SIDE
"""Bytes of a tile of sums."""
NUMBERS = BLOCK * LANES
"""Bytes of an unpacked block."""
STEP = SIDE * (BLOCK + NOTES)
"""Bytes of a block of a group."""
N_TILES = 2
"""Tiles of sums."""
I8 = ir.IntType(8)
POINTER = I8.as_pointer()


def room_bytes(n_rows: int) -> int:
    """What products with matrices of at most so many rows work in: sums, results, an unpacked panel."""
    return (N_TILES + 1) * TILE + n_rows // BLOCK * NUMBERS


def _tiles(builder: ir.IRBuilder, name: str, *tiles: int) -> None:
    kind = ir.FunctionType(ir.VoidType(), [I8] * len(tiles))
    function = builder.module.declare_intrinsic(f"llvm.x86.{name}", (), kind)
    builder.call(function, [ir.Constant(I8, tile) for tile in tiles])


def _move_tile(builder: ir.IRBuilder, name: str, tile: int, address: ir.Value, stride: ir.Value) -> None:
    kind = ir.FunctionType(ir.VoidType(), [I8, POINTER, ir.IntType(64)])
    function = builder.module.declare_intrinsic(f"llvm.x86.{name}", (), kind)
    builder.call(function, [ir.Constant(I8, tile), builder.inttoptr(address, POINTER), stride])


def _emit(
    kind: Kind, builder: ir.IRBuilder, at: ir.Value, numbers: ir.Value, numbers_step: ir.Value,
    n_blocks: ir.Value, group: ir.Value, room: ir.Value,
) -> None:  # fmt: skip
    """The sums of one panel and one group, written behind the tiles in `room`.

    A block is multiplied while the sums of the one before are added up: tiles and vectors wait long for each
    other's stores.
    """
    multiply_add = multiply_adder(builder)
    ahead = builder.add(
        builder.mul(n_blocks, i64(kind.size)), i64(AHEAD)
    )  # after the next panel, which is here

    def multiply(j: int, state: list[ir.Value], n: int) -> None:
        """Tile j holds the sums of the block n blocks on."""
        _, numbers, group, *_ = state
        number_at = builder.add(numbers, builder.mul(numbers_step, i64(n)))
        _tiles(builder, "tilezero", j)
        _move_tile(builder, "tileloadd64", 4 + j, builder.add(group, i64(STEP * n)), i64(BLOCK))
        _move_tile(builder, "tileloadd64", 6 + j, number_at, i64(4 * LANES))
        _tiles(builder, "tdpbsud", j, 4 + j, 6 + j)
        _move_tile(builder, "tilestored64", j, builder.add(room, i64(TILE * j)), i64(4 * SIDE))

    def add_up(j: int, state: list[ir.Value]) -> list[ir.Value]:
        """The sums of a block, from tile j; the state of the next."""
        at, numbers, group, *totals = state
        for line in range(0, kind.size, 64):
            emit_prefetch(builder, builder.add(builder.add(at, ahead), i64(line)), to_write=False, locality=1)
        scales = emit_scales(builder, at, 0)
        least = emit_scales(builder, at, SCALE_BYTES) if kind.has_least else None
        for i in range(SIDE):
            note = SIDE * BLOCK + NOTES * i
            whole = load_vector(builder, room, TILE * j + 4 * SIDE * i, WORDS)
            if kind.zero:
                whole = builder.add(whole, broadcast(builder, group, note + kind.start, WORDS))
            factor = builder.fmul(scales, broadcast(builder, group, note))
            totals[i] = multiply_add(builder.sitofp(whole, VECTOR), factor, totals[i])
            if least is not None:
                totals[i] = multiply_add(least, broadcast(builder, group, note + 4), totals[i])
        after = builder.add(at, i64(kind.size)), builder.add(numbers, numbers_step)
        return [*after, builder.add(group, i64(STEP)), *totals]

    def two(state: list[ir.Value]) -> list[ir.Value]:
        multiply(1, state, 1)
        after = add_up(0, state)
        multiply(0, after, 1)
        return add_up(1, after)

    def ahead_of_last(state: list[ir.Value]) -> list[ir.Value]:
        multiply(1, state, 1)
        return state

    state = [at, numbers, group, *[same(VECTOR, 0.0)] * SIDE]
    multiply(0, state, 0)
    n_twos = builder.udiv(builder.sub(n_blocks, i64(1)), i64(2))
    n_left = builder.sub(builder.sub(n_blocks, i64(1)), builder.mul(n_twos, i64(2)))
    state = counted_loop(builder, n_twos, state, two)
    state = counted_loop(builder, n_left, state, ahead_of_last)
    state = counted_loop(builder, n_left, add_up(0, state), lambda s: add_up(1, s))
    for i, total in enumerate(state[3:]):
        builder.store(total, at_address(builder, room, TILE * N_TILES + 4 * SIDE * i, VECTOR), align=4)


def _summing(kind: Kind) -> Any:
    @intrinsic
    def sums(
        typing_context: Any, at: Any, numbers: Any, numbers_step: Any, n_blocks: Any, group: Any, room: Any
    ) -> Any:
        def call(context: Any, builder: ir.IRBuilder, signature: Any, args: Sequence[ir.Value]) -> Any:
            emit = functools.partial(_emit, kind)
            builder.call(own_function(builder.module, f"sums_on_tiles_{kind.name}", 6, emit), args)
            return context.get_dummy_value()

        return types.void(*[types.int64] * 6), call

    return sums


SUMS = {kind: _summing(kind) for kind in (Q8_0, Q4_0, Q4_1)}
"""SUMS[kind](at, numbers, numbers_step, n_blocks, group, room)"""


def _unpacking(kind: Kind) -> Any:
    def emit_blocks(builder: ir.IRBuilder, to: ir.Value, at: ir.Value, n_blocks: ir.Value) -> None:
        def body(state: list[ir.Value]) -> list[ir.Value]:
            to, at = state
            for j, number in enumerate(emit_whole_numbers(builder, kind, at)):
                builder.store(number, at_address(builder, to, 4 * LANES * j, WORDS), align=4)
            return [builder.add(to, i64(NUMBERS)), builder.add(at, i64(kind.size))]

        counted_loop(builder, n_blocks, [to, at], body)

    @intrinsic
    def unpack(typing_context: Any, to: Any, at: Any, n_blocks: Any) -> Any:
        def emit(context: Any, builder: ir.IRBuilder, signature: Any, args: Sequence[ir.Value]) -> Any:
            builder.call(own_function(builder.module, f"unpack_{kind.name}", 3, emit_blocks), args)
            return context.get_dummy_value()

        return types.void(*[types.int64] * 3), emit

    return unpack


UNPACK = {kind: _unpacking(kind) for kind in (Q4_0, Q4_1)}
"""UNPACK[kind](to, at, n_blocks): a panel's whole numbers, a byte each."""


@inner
def configure_bytes(config):
    """Tiles 0 to 3 hold sums, 4 and 5 rows, 6 and 7 blocks of 16 columns; `config` is 64 bytes."""
    config[:] = 0
    config[0] = 1
    for tile in range(8):
        config[16 + 2 * tile] = 32 if tile in (4, 5) else 64
        config[48 + tile] = 8 if tile > 5 else 16
    load_config(config.ctypes.data)
