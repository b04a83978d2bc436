r"""Softmax between two products of tiles: passes along rows, which write operands from registers.

Forward writes rows of bfloat16: the numerators of the probabilities, as the output is divided by their sum
later. Backward goes along two rows at a time, whose numbers that stand below each other are one word of a
panel (see `amx`). Rows are whole panels of `SIDE` columns; what a query does not see counts as zero, whatever
stands there. A mask of dropout is drawn where it is needed, a vector at a time.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from handgrad.kernels.amx import LINE, SIDE
from handgrad.kernels.attention import n_seen
from handgrad.kernels.jit import inner
from handgrad.kernels.machine import LANES
from handgrad.kernels.softmax_steps import INVERSE_LN2, ZERO, emit_exp2, emit_kept, keep_where
from handgrad.kernels.vector import (
    VECTOR,
    at_address,
    combined,
    counted_loop,
    i64,
    load_vector,
    same,
    splat,
    sum_of,
)
from handgrad.kernels.vector_bfloat16 import emit_halves, in_words, part_of, store_halves
from handgrad.kernels.vector_rows import among_first

NOTHING = same(VECTOR, -math.inf)
NONE, ONE = np.float32(0.0), np.float32(1.0)


def _at(builder: ir.IRBuilder, address: ir.Value, column: ir.Value, size: int) -> ir.Value:
    return builder.add(address, builder.mul(column, i64(size)))


def _store(builder: ir.IRBuilder, x: ir.Value, address: ir.Value) -> None:
    builder.store(x, at_address(builder, address, 0, VECTOR), align=4)


def _along(
    builder: ir.IRBuilder,
    n_panels: ir.Value,
    panel_bytes: ir.Value,
    width: int,
    sums: list[ir.Value],
    step: Callable[[ir.Value, ir.Value, list[ir.Value]], list[ir.Value]],
) -> list[ir.Value]:
    """`sums = step(first column, bytes to its words, sums)` along a row, `width` columns at a time."""

    def body(state: list[ir.Value]) -> list[ir.Value]:
        column, at, *sums = state
        for i in range(0, SIDE, width):
            sums = step(builder.add(column, i64(i)), builder.add(at, i64(4 * i)), sums)
        return [builder.add(column, i64(SIDE)), builder.add(at, panel_bytes), *sums]

    return counted_loop(builder, n_panels, [i64(0), i64(0), *sums], body)[2:]


def _numbers(builder: ir.IRBuilder, values: ir.Value, n: int) -> list[ir.Value]:
    return [builder.extract_value(values, i) for i in range(n)]


@intrinsic
def largest(typing_context: Any, row: Any, n_panels: Any, n: Any) -> Any:
    """The largest of the first n numbers at an address. It may ignore a NaN, as that of `functions`."""

    def emit(context: Any, builder: ir.IRBuilder, signature: Any, args: Sequence[ir.Value]) -> Any:
        row, n_panels, n = args

        def larger(x: ir.Value, y: ir.Value) -> ir.Value:
            return builder.select(builder.fcmp_ordered(">", x, y), x, y)

        def step(column: ir.Value, at: ir.Value, tops: list[ir.Value]) -> list[ir.Value]:
            x = load_vector(builder, _at(builder, row, column, 4))
            return [larger(builder.select(among_first(builder, column, n), x, NOTHING), tops[0])]

        (top,) = _along(builder, n_panels, i64(0), LANES, [NOTHING], step)
        return combined(builder, top, larger)

    return types.float32(types.int64, types.int64, types.int64), emit


def _exponentials(with_dropout: bool) -> Any:
    @intrinsic
    def walk(typing_context: Any, rows: Any, size: Any, numbers: Any, index: Any, dropping: Any) -> Any:
        def emit(context: Any, builder: ir.IRBuilder, signature: Any, args: Sequence[ir.Value]) -> Any:
            target, source = _numbers(builder, args[0], 2)
            n_panels, n = _numbers(builder, args[1], 2)
            scale, top = (splat(builder, x) for x in _numbers(builder, args[2], 2))

            def step(column: ir.Value, at: ir.Value, sums: list[ir.Value]) -> list[ir.Value]:
                (total,), met = sums, []
                for i in range(2):
                    here = builder.add(column, i64(i * LANES))
                    x = load_vector(builder, _at(builder, source, here, 4))
                    e = emit_exp2(builder, builder.fmul(builder.fsub(x, top), scale))
                    e = keep_where(builder, among_first(builder, here, n), e)
                    total = builder.fadd(total, e)
                    if with_dropout:
                        e = keep_where(builder, emit_kept(builder, builder.add(args[3], here), args[4]), e)
                    met.append(e)
                store_halves(builder, emit_halves(builder, *met), _at(builder, target, column, 2))
                return [total]

            (total,) = _along(builder, n_panels, i64(0), 2 * LANES, [ZERO], step)
            return sum_of(builder, total)

        return types.float32(rows, size, numbers, types.int64, dropping), emit

    return walk


def _finding(with_dropout: bool) -> Any:
    @intrinsic
    def walk(typing_context: Any, rows: Any, panels: Any, numbers: Any, index: Any, dropping: Any) -> Any:
        def emit(context: Any, builder: ir.IRBuilder, signature: Any, args: Sequence[ir.Value]) -> Any:
            n_panels, panel_bytes, words = _numbers(builder, args[1], 3)
            scale, *rest = (splat(builder, x) for x in _numbers(builder, args[2], 5))
            places, first_index = _numbers(builder, args[0], 6), _numbers(builder, args[3], 2)
            factor = splat(builder, builder.extract_value(args[4], 3))

            def step(column: ir.Value, at: ir.Value, sums: list[ir.Value]) -> list[ir.Value]:
                met = []
                for i in range(2):
                    s_at, dp_at = (_at(builder, x, column, 4) for x in places[3 * i : 3 * i + 2])
                    top, z = rest[2 * i : 2 * i + 2]
                    s, dp = load_vector(builder, s_at), load_vector(builder, dp_at)
                    e = emit_exp2(builder, builder.fmul(builder.fsub(s, top), scale))
                    seen = among_first(builder, column, places[3 * i + 2])
                    p = keep_where(builder, seen, builder.fmul(e, z))
                    _store(builder, p, s_at)
                    met.append(p)
                    if with_dropout:
                        kept = emit_kept(builder, builder.add(first_index[i], column), args[4])
                        met[i] = keep_where(builder, kept, builder.fmul(p, factor))
                        dp = keep_where(builder, kept, builder.fmul(dp, factor))
                        _store(builder, dp, dp_at)
                    sums[i] = builder.fadd(sums[i], keep_where(builder, seen, builder.fmul(p, dp)))
                store_halves(builder, in_words(builder, emit_halves(builder, *met)), builder.add(words, at))
                return sums

            sums = _along(builder, n_panels, panel_bytes, LANES, [ZERO, ZERO], step)
            return context.make_tuple(
                builder, signature.return_type, [sum_of(builder, total) for total in sums]
            )

        result = types.UniTuple(types.float32, 2)
        return result(rows, panels, numbers, index, dropping), emit

    return walk


exponentials_kept, exponentials = _exponentials(True), _exponentials(False)
"""exponentials_kept((target, row), (n_panels, n), (scale, top), index, dropping): the sum of exponentials.

They are 2^(scale (row - top)) of the first n numbers of `row`. `target` (bfloat16) becomes those that dropout
keeps, without its factor.
"""
find_kept, find_all = _finding(True), _finding(False)
"""find_kept(rows, (n_panels, bytes of a panel, words), (scale, top, z, top, z), indices, dropping).

`rows` are the addresses of S and dP of one query and the number of keys it sees, then those of the next. S
becomes P, dP passes the mask, `words` become what met the values; the sums of P dP of both queries.
"""


@intrinsic
def differentiate(typing_context: Any, rows: Any, targets: Any, panels: Any, numbers: Any) -> Any:
    """differentiate(rows, targets, panels, (scale, sum, sum)): dS = P (dP - sum) scale of two queries.

    It writes dS, rounded, to the two rows `targets`, and to the words of `panels`; see `find_kept`.
    """

    def emit(context: Any, builder: ir.IRBuilder, signature: Any, args: Sequence[ir.Value]) -> Any:
        places, targets = _numbers(builder, args[0], 6), _numbers(builder, args[1], 2)
        n_panels, panel_bytes, words = _numbers(builder, args[2], 3)
        scale, *sums = (splat(builder, x) for x in _numbers(builder, args[3], 3))

        def step(column: ir.Value, at: ir.Value, nothing: list[ir.Value]) -> list[ir.Value]:
            found = []
            for i in range(2):
                p, dp = (load_vector(builder, _at(builder, x, column, 4)) for x in places[3 * i : 3 * i + 2])
                ds = builder.fmul(builder.fmul(p, builder.fsub(dp, sums[i])), scale)
                found.append(keep_where(builder, among_first(builder, column, places[3 * i + 2]), ds))
            halves = emit_halves(builder, *found)
            for i, target in enumerate(targets):
                store_halves(builder, part_of(builder, halves, i), _at(builder, target, column, 2))
            store_halves(builder, in_words(builder, halves), builder.add(words, at))
            return nothing

        _along(builder, n_panels, panel_bytes, LANES, [], step)
        return context.get_dummy_value()

    return types.void(rows, targets, panels, numbers), emit


@inner
def softmax_forward(target, scores, sums, part, heads, dropping):
    """target = exp(c (S - top)), dropped out without its factor, rounded.

    `sums` keeps each row's largest score and the reciprocal of its sum of exponentials.
    """
    n_panels, scale = part.n_wide // SIDE, heads.scale * INVERSE_LN2
    for i in range(part.n_rows):
        n, row = n_seen(i, part, heads.causal), scores[i].ctypes.data
        top = largest(row, n_panels, n)
        places, index = (target[i].ctypes.data, row), (part.number + i) * part.S
        size, numbers = (n_panels, n), (scale, top)
        if dropping.limit:
            total = exponentials_kept(places, size, numbers, index, dropping)
        else:
            total = exponentials(places, size, numbers, index, dropping)
        sums[part.number + i, 0], sums[part.number + i, 1] = top, ONE / total


@inner
def kept_of(sums, part, i):
    """What forward kept of a row: its largest score and reciprocal sum; zeros for a row that is none."""
    if i < part.n_rows:
        return sums[part.number + i, 0], sums[part.number + i, 1]
    return NONE, NONE


@inner
def row_of(probs, dscores, part, i, causal):
    """Addresses of a row's S and dP, and how many keys it sees: none, if it is none."""
    n = n_seen(i, part, causal) if i < part.n_rows else 0
    return probs[i].ctypes.data, dscores[i].ctypes.data, n


@inner
def softmax_backward(ds_rows, words, scores, sums, part, heads, dropping):
    """From S and dP, the arrays `scores`: dS, rounded, in rows and in words, and the words of what met V.

    `words` are the panels of P and dS, at this strip's first words. Rows from `n_rows` on become zero.
    """
    probs, dscores = scores
    p_words, ds_words = words
    n_panels, panel_bytes = part.n_wide // SIDE, LINE * p_words.n_words
    for i in range(0, SIDE, 2):
        rows = (
            *row_of(probs, dscores, part, i, heads.causal),
            *row_of(probs, dscores, part, i + 1, heads.causal),
        )
        panels = n_panels, panel_bytes, p_words.at + LINE * (i // 2)
        numbers = heads.scale * INVERSE_LN2, *kept_of(sums, part, i), *kept_of(sums, part, i + 1)
        indices = (part.number + i) * part.S, (part.number + i + 1) * part.S
        if dropping.limit:
            first, second = find_kept(rows, panels, numbers, indices, dropping)
        else:
            first, second = find_all(rows, panels, numbers, indices, dropping)
        panels = n_panels, panel_bytes, ds_words.at + LINE * (i // 2)
        targets = ds_rows[i].ctypes.data, ds_rows[i + 1].ctypes.data
        differentiate(rows, targets, panels, (heads.scale, first, second))
