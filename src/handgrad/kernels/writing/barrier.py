"""Threads that wait for each other inside compiled calls, every few microseconds.

A barrier counts arrivals in shared memory, and who arrives reads the count until all have. Between barriers
lie microseconds, less than the system takes to put a thread to sleep and wake it. Where the others are long
in coming, most likely because the system runs something else, a thread yields its core at every look. Where
they never come, because their call failed, `give_up` lets it through: what it computes is thrown away.
"""

import ctypes
import platform
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
from llvmlite import binding, ir
from numba import types
from numba.extending import intrinsic

from handgrad.kernels.arena import aligned
from handgrad.kernels.own_function import own_function
from handgrad.kernels.vector import I64, at_address, i64

PATIENCE = 512
"""Looks before the first yield."""
YIELD = "handgrad_yield"
STOP, COUNT = 8, 0
"""Bytes from the meeting place to its numbers: whether somebody gave up, and how many have arrived."""
PAUSES = platform.machine() in ("x86_64", "AMD64")


def _name_yield() -> None:
    """Tell LLVM where the system's function is that lets another thread run."""
    if sys.platform == "win32":
        function = ctypes.WinDLL("kernel32").SwitchToThread
    else:
        function = ctypes.CDLL(None).sched_yield
    binding.add_symbol(YIELD, ctypes.cast(function, ctypes.c_void_p).value)


_name_yield()


def meeting_place() -> np.ndarray:
    """The numbers at which threads meet; `open_place` before each meeting."""
    return aligned(16, np.int64)


def open_place(place: np.ndarray) -> None:
    """Nobody has arrived, nobody has given up."""
    place[:] = 0


def give_up(place: np.ndarray) -> None:
    """Let all through, now and at every later barrier."""
    place[STOP // 8] = 1


def _emit_wait(builder: ir.IRBuilder, place: ir.Value, target: ir.Value) -> None:
    pointer = at_address(builder, place, COUNT, I64)
    stop = at_address(builder, place, STOP, I64)
    builder.atomic_rmw("add", pointer, i64(1), "seq_cst")
    function = builder.function
    look, again, late, after = (function.append_basic_block(n) for n in ("look", "again", "late", "after"))
    before = builder.block
    builder.branch(look)
    builder.position_at_end(look)
    looks = builder.phi(I64)
    looks.add_incoming(i64(0), before)
    missing = builder.icmp_signed("<", builder.load_atomic(pointer, "acquire", 8), target)
    going_on = builder.icmp_signed("==", builder.load_atomic(stop, "acquire", 8), i64(0))
    builder.cbranch(builder.and_(missing, going_on), again, after)
    builder.position_at_end(again)
    if PAUSES:
        void = ir.FunctionType(ir.VoidType(), [])
        builder.call(builder.module.declare_intrinsic("llvm.x86.sse2.pause", (), void), [])
    more = builder.add(looks, i64(1))
    looks.add_incoming(more, again)
    looks.add_incoming(more, late)
    builder.cbranch(builder.icmp_signed(">", more, i64(PATIENCE)), late, look)
    builder.position_at_end(late)
    kind = ir.FunctionType(ir.IntType(32), [])
    known = builder.module.globals.get(YIELD) or ir.Function(builder.module, kind, YIELD)
    builder.call(known, [])
    builder.branch(look)
    builder.position_at_end(after)


@intrinsic
def wait_until(typing_context: Any, place: Any, n_arrivals: Any) -> Any:
    """Arrive, and wait until so many arrivals have been counted at the place, an address."""

    def emit(context: Any, builder: ir.IRBuilder, signature: Any, args: Sequence[ir.Value]) -> Any:
        builder.call(own_function(builder.module, "wait_until", 2, _emit_wait), args)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64), emit
