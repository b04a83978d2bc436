"""What this machine can do at most, measured: the numbers that a kernel's speed is compared with.

Products are bound by multiply-adds, of vectors, of pairs of integers or of AMX tiles; everything else by how
fast numbers are read and written. Each is measured on one core and on all together, which share memory and
often a power limit. Bandwidth is that of the triad a = b + s c (McCalpin, STREAM, 1995), its three arrays
counted once each.
"""

import functools
import platform
import statistics
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from handgrad.kernels import machine
from handgrad.kernels.amx import (
    SIDE,
    configure,
    dot046,
    dot047,
    dot156,
    dot157,
    finish,
    load4,
    load5,
    load6,
    load7,
    zero0,
    zero1,
    zero2,
    zero3,
)
from handgrad.kernels.arena import aligned
from handgrad.kernels.integer_dot import word_multiply_adder
from handgrad.kernels.jit import kernel
from handgrad.kernels.machine import LANES
from handgrad.kernels.vector import VECTOR, WORDS, at_address, counted_loop, multiply_adder, splat

REPETITIONS = 7
SECONDS = 0.05
"""A repetition takes at least that long."""
MEMORY_BYTES = 192 << 20
"""Of the three arrays of a thread: more than its share of any cache."""
MOST_MEMORY_BYTES = 3 << 29
"""Of all threads."""
CACHE_BYTES = 256 << 10
"""Of the three arrays of a thread: less than any second-level cache of today."""
SUMS = 20 if platform.machine() in ("arm64", "aarch64") else 12
"""Accumulators: enough that no multiply-add waits for the one before, few enough to stay in registers, of
which ARM has more."""
TILE_CONFIG, TILE_ROW, TILE_BYTES = 64, 64, 1024
FLOAT = 4


@dataclass(frozen=True)
class Rate:
    """Something a second."""

    one_core: float
    all_cores: float


@dataclass(frozen=True)
class Peaks:
    """Operations a second, a multiply-add being two, and bytes a second."""

    float32: Rate
    bfloat16: Rate | None
    """On AMX tiles; None where there are none."""
    int16: Rate | None
    """Pairs of integers; None where no instruction multiplies them."""
    cache: Rate
    memory: Rate

    def kind(self, name: str) -> str:
        """Whose peak the products of this name, a kernel's or a precision's, are compared with: a field."""
        measured = {"bfloat16": self.bfloat16, "int16": self.int16}
        kinds = (kind for kind, rate in measured.items() if kind in name and rate is not None)
        return next(kinds, "float32")

    def products(self, name: str) -> Rate:
        """The peak of the products in whose name a precision stands; else of float32's."""
        rate: Rate = getattr(self, self.kind(name))
        return rate


def measure(n_cores: int, report: Callable[[str], object] = lambda what: None) -> Peaks:
    """Measure this machine with `n_cores` threads. `report` is told what is measured, as it begins."""
    report("float32 multiply-adds")
    float32 = _measured(_multiplying, 2 * SUMS * LANES, n_cores)
    bfloat16 = None
    if machine.AMX == "hardware":
        report("bfloat16 tiles")
        bfloat16 = _measured(_multiplying_tiles, 2 * SIDE**3, n_cores)
    int16 = None
    if machine.INT16 in ("vnni", "madd"):
        report("int16 multiply-adds")
        int16 = _measured(_multiplying_words, 4 * SUMS * LANES, n_cores)
    report("cache bandwidth")
    cache = _measured(lambda: _adding(CACHE_BYTES), CACHE_BYTES, n_cores)
    report("memory bandwidth")
    n_bytes = min(MEMORY_BYTES, MOST_MEMORY_BYTES // n_cores)
    memory = _measured(lambda: _adding(n_bytes), n_bytes, n_cores)
    return Peaks(float32, bfloat16, int16, cache, memory)


def _measured(make: Callable[[], Callable[[int], object]], work: int, n_cores: int) -> Rate:
    """`make()` makes what one thread calls with a number of rounds, each of which does `work`."""
    runs = [make() for _ in range(n_cores)]
    for run in runs:
        run(1)  # compiles the kernel, and touches the memory
    return Rate(_rate(runs[:1], work), _rate(runs, work))


def _rate(runs: list[Callable[[int], object]], work: int) -> float:
    with ThreadPoolExecutor(len(runs)) as pool:

        def seconds(n: int) -> float:
            start = time.perf_counter()
            list(pool.map(lambda run: run(n), runs))
            return time.perf_counter() - start

        n = 1
        while seconds(n) < SECONDS:
            n *= 2
        return len(runs) * n * work / statistics.median(seconds(n) for _ in range(REPETITIONS))


def _multiplying() -> Callable[[int], object]:
    out = aligned(LANES)
    return lambda n: multiply_adds(n, np.float32(0.5), out)


def _multiplying_words() -> Callable[[int], object]:
    out = aligned(LANES)
    return lambda n: multiply_words(n, out)


def _multiplying_tiles() -> Callable[[int], object]:
    room = aligned(TILE_CONFIG + TILE_BYTES, np.uint8)
    return lambda n: multiply_tiles(n, room)


def _adding(n_bytes: int) -> Callable[[int], object]:
    a, b, c = (aligned(n_bytes // (3 * FLOAT)) for _ in range(3))
    b[:], c[:] = 1.0, 2.0
    return lambda n: triad(n, a, b, c)


@intrinsic
def add_products(typing_context: Any, n: Any, factor: Any, to: Any) -> Any:
    """n times x = factor x + factor for each of SUMS vectors; their sum is written to the address `to`."""

    def emit(context: Any, builder: ir.IRBuilder, signature: Any, args: Sequence[ir.Value]) -> Any:
        n, factor, to = args
        multiply_add = multiply_adder(builder)
        factors = splat(builder, factor)
        # different numbers to start with: equal sums would be computed once for all
        starts = [ir.Constant(VECTOR, [float(i)] * LANES) for i in range(SUMS)]
        sums = counted_loop(
            builder, n, starts, lambda sums: [multiply_add(x, factors, factors) for x in sums]
        )
        builder.store(functools.reduce(builder.fadd, sums), at_address(builder, to, 0, VECTOR), align=4)
        return context.get_dummy_value()

    return types.void(types.int64, types.float32, types.int64), emit


@intrinsic
def add_word_products(typing_context: Any, n: Any, to: Any) -> Any:
    """The same for words of two integers: n times x = x + x y, pair by pair."""

    def emit(context: Any, builder: ir.IRBuilder, signature: Any, args: Sequence[ir.Value]) -> Any:
        n, to = args
        multiply_add = word_multiply_adder(builder)
        y = ir.Constant(WORDS, [3] * LANES)
        starts = [ir.Constant(WORDS, [i] * LANES) for i in range(SUMS)]
        sums = counted_loop(builder, n, starts, lambda sums: [multiply_add(x, y, x) for x in sums])
        builder.store(functools.reduce(builder.add, sums), at_address(builder, to, 0, WORDS), align=4)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64), emit


@kernel
def multiply_words(n, out):
    """n rounds of SUMS multiply-adds of vectors of pairs, in registers; `out` (LANES,) is written once."""
    add_word_products(n, out.ctypes.data)


@kernel
def multiply_adds(n, factor, out):
    """n rounds of SUMS multiply-adds of vectors, in registers; `out` (LANES,) is written once."""
    add_products(n, factor, out.ctypes.data)


@kernel
def multiply_tiles(n, room):
    """n rounds of four products of tiles, in tile registers: what one step of a 32 x 32 block takes."""
    room[:] = 0
    zeros = room[TILE_CONFIG:].ctypes.data
    configure(room[:TILE_CONFIG])
    zero0()
    zero1()
    zero2()
    zero3()
    load4(zeros, TILE_ROW)
    load5(zeros, TILE_ROW)
    load6(zeros, TILE_ROW)
    load7(zeros, TILE_ROW)
    for _ in range(n):
        dot046()
        dot047()
        dot156()
        dot157()
    finish()


@kernel
def triad(n, a, b, c):
    """n times a = b + s c, with another s each time: else the compiler would do one round only."""
    for k in range(n):
        s = np.float32(k)
        for i in range(a.size):
            a[i] = b[i] + s * c[i]
