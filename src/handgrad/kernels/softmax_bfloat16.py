"""Softmax between two products of tiles: passes along rows, which write operands from registers.

Forward writes rows of bfloat16. Backward goes along two rows at a time, whose numbers that stand below each
other are one word of a panel (see `amx`). Rows are whole panels of `SIDE` columns: what a query does not see
is filled up with scores of minus infinity. A mask of dropout is drawn where it is needed, a vector at a time.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from handgrad import counted
from handgrad.kernels.amx import SIDE
from handgrad.kernels.attention import n_seen
from handgrad.kernels.functions import largest
from handgrad.kernels.jit import inner
from handgrad.kernels.machine import LANES
from handgrad.kernels.products_bfloat16 import LINE
from handgrad.kernels.softmax import NOTHING, emit_exp, numerators
from handgrad.kernels.vector import (
    I32,
    VECTOR,
    WORDS,
    at_address,
    counted_loop,
    i64,
    load_vector,
    same,
    splat,
    sum_of,
)

HALVES = ir.VectorType(ir.IntType(16), LANES)
PER_PANEL = SIDE // LANES
"""Vectors of a row in one panel."""
ZERO = same(VECTOR, 0.0)
NONE, ONE = np.float32(0.0), np.float32(1.0)


def _mix(builder: ir.IRBuilder, x: ir.Value) -> ir.Value:
    """One mixing of `random.draw`."""

    def shifted(x: ir.Value, bits: int) -> ir.Value:
        return builder.xor(x, builder.lshr(x, same(WORDS, bits)))

    x = builder.mul(shifted(x, 16), same(WORDS, counted.FIRST))
    x = builder.mul(shifted(x, 15), same(WORDS, counted.SECOND))
    return shifted(x, 16)


def _factors(builder: ir.IRBuilder, index: ir.Value, dropping: ir.Value) -> ir.Value:
    """`dropout.factor` of LANES numbers, the first of which has this index."""
    low, high, limit, scale = (splat(builder, builder.extract_value(dropping, i)) for i in range(4))
    lanes = ir.Constant(WORDS, list(range(LANES)))
    number = builder.add(splat(builder, builder.trunc(index, I32)), lanes)
    x = _mix(builder, builder.add(builder.mul(number, same(WORDS, counted.GOLDEN)), low))
    drawn = builder.lshr(_mix(builder, builder.xor(x, high)), same(WORDS, 8))
    return builder.select(builder.icmp_unsigned(">=", drawn, limit), scale, ZERO)


def _bfloat16(builder: ir.IRBuilder, x: ir.Value) -> ir.Value:
    """`rounding.to_bfloat16` of a vector, in the lower halves of words."""
    pattern, by = builder.bitcast(x, WORDS), same(WORDS, 16)
    odd = builder.and_(builder.lshr(pattern, by), same(WORDS, 1))
    return builder.lshr(builder.add(builder.add(pattern, same(WORDS, 0x7FFF)), odd), by)


def _store(builder: ir.IRBuilder, vector: ir.Value, address: ir.Value) -> None:
    align = 2 if vector.type == HALVES else 4
    builder.store(vector, at_address(builder, address, 0, vector.type), align=align)


def _store_word(builder: ir.IRBuilder, first: ir.Value, second: ir.Value, address: ir.Value) -> None:
    """Two rows of bfloat16 as one row of words."""
    _store(builder, builder.or_(first, builder.shl(second, same(WORDS, 16))), address)


def _along(
    builder: ir.IRBuilder,
    n_panels: ir.Value,
    panel_bytes: ir.Value,
    sums: list[ir.Value],
    step: Callable[[ir.Value, ir.Value, list[ir.Value]], list[ir.Value]],
) -> list[ir.Value]:
    """`sums = step(first column, bytes to its words, sums)` for every vector of a row."""

    def body(state: list[ir.Value]) -> list[ir.Value]:
        column, at, *sums = state
        for i in range(PER_PANEL):
            sums = step(builder.add(column, i64(i * LANES)), builder.add(at, i64(4 * i * LANES)), sums)
        return [builder.add(column, i64(SIDE)), builder.add(at, panel_bytes), *sums]

    return counted_loop(builder, n_panels, [i64(0), i64(0), *sums], body)[2:]


def _numbers(builder: ir.IRBuilder, values: ir.Value, n: int) -> list[ir.Value]:
    return [builder.extract_value(values, i) for i in range(n)]


def _rounding(with_dropout: bool) -> Any:
    @intrinsic
    def walk(typing_context: Any, rows: Any, n_panels: Any, z: Any, index: Any, dropping: Any) -> Any:
        def emit(context: Any, builder: ir.IRBuilder, signature: Any, args: Sequence[ir.Value]) -> Any:
            target, source = _numbers(builder, args[0], 2)
            reciprocal = splat(builder, args[2])

            def step(column: ir.Value, at: ir.Value, sums: list[ir.Value]) -> list[ir.Value]:
                x = builder.fmul(load_vector(builder, builder.add(source, at)), reciprocal)
                if with_dropout:
                    kept = _factors(builder, builder.add(args[3], column), args[4])
                    x = builder.select(builder.fcmp_ordered("!=", kept, ZERO), builder.fmul(x, kept), ZERO)
                half = builder.trunc(_bfloat16(builder, x), HALVES)
                _store(builder, half, builder.add(target, builder.lshr(at, i64(1))))
                return sums

            _along(builder, args[1], i64(4 * SIDE), [], step)
            return context.get_dummy_value()

        return types.void(rows, types.int64, types.float32, types.int64, dropping), emit

    return walk


def _finding(with_dropout: bool) -> Any:
    @intrinsic
    def walk(typing_context: Any, rows: Any, panels: Any, numbers: Any, index: Any, dropping: Any) -> Any:
        def emit(context: Any, builder: ir.IRBuilder, signature: Any, args: Sequence[ir.Value]) -> Any:
            n_panels, panel_bytes, words = _numbers(builder, args[1], 3)
            scale, *rest = (splat(builder, x) for x in _numbers(builder, args[2], 5))
            places = _numbers(builder, args[0], 4)
            first_index = _numbers(builder, args[3], 2)

            def step(column: ir.Value, at: ir.Value, sums: list[ir.Value]) -> list[ir.Value]:
                met, here = [], builder.shl(column, i64(2))
                for i in range(2):
                    p_at, dp_at = (builder.add(place, here) for place in places[2 * i : 2 * i + 2])
                    top, z = rest[2 * i : 2 * i + 2]
                    s, dp = load_vector(builder, p_at), load_vector(builder, dp_at)
                    p = builder.fmul(emit_exp(builder, builder.fmul(builder.fsub(s, top), scale)), z)
                    _store(builder, p, p_at)
                    if with_dropout:
                        kept = _factors(builder, builder.add(first_index[i], column), args[4])
                        dp = builder.fmul(dp, kept)
                        _store(builder, dp, dp_at)
                    sums[i] = builder.fadd(sums[i], builder.fmul(p, dp))
                    met.append(_bfloat16(builder, builder.fmul(p, kept) if with_dropout else p))
                _store_word(builder, met[0], met[1], builder.add(words, at))
                return sums

            sums = _along(builder, n_panels, panel_bytes, [ZERO, ZERO], step)
            return context.make_tuple(
                builder, signature.return_type, [sum_of(builder, total) for total in sums]
            )

        result = types.UniTuple(types.float32, 2)
        return result(rows, panels, numbers, index, dropping), emit

    return walk


round_kept, round_all = _rounding(True), _rounding(False)
"""round_kept((target, row), n_panels, z, index, dropping): target (bfloat16) = dropout(z row)."""
find_kept, find_all = _finding(True), _finding(False)
"""find_kept(rows, (n_panels, bytes of a panel, words), (scale, top, z, top, z), indices, dropping).

`rows` are the addresses of S and dP of one query, then of the next. S becomes P, dP passes the mask, `words`
become what met the values; the sums of P dP of both queries.
"""


@intrinsic
def differentiate(typing_context: Any, rows: Any, targets: Any, panels: Any, numbers: Any) -> Any:
    """differentiate(rows, targets, panels, (scale, sum, sum)): dS = P (dP - sum) scale of two queries.

    It writes dS, rounded, to the two rows `targets`, and to the words of `panels`; see `find_kept`.
    """

    def emit(context: Any, builder: ir.IRBuilder, signature: Any, args: Sequence[ir.Value]) -> Any:
        places, targets = _numbers(builder, args[0], 4), _numbers(builder, args[1], 2)
        n_panels, panel_bytes, words = _numbers(builder, args[2], 3)
        scale, *sums = (splat(builder, x) for x in _numbers(builder, args[3], 3))

        def step(column: ir.Value, at: ir.Value, nothing: list[ir.Value]) -> list[ir.Value]:
            found, here = [], builder.shl(column, i64(2))
            for i in range(2):
                p, dp = (load_vector(builder, builder.add(x, here)) for x in places[2 * i : 2 * i + 2])
                ds = builder.fmul(builder.fmul(p, builder.fsub(dp, sums[i])), scale)
                found.append(_bfloat16(builder, ds))
                to = builder.add(targets[i], builder.shl(column, i64(1)))
                _store(builder, builder.trunc(found[i], HALVES), to)
            _store_word(builder, found[0], found[1], builder.add(words, at))
            return nothing

        _along(builder, n_panels, panel_bytes, [], step)
        return context.get_dummy_value()

    return types.void(rows, targets, panels, numbers), emit


@inner
def hide(row, first, part):
    """What a query does not see of a row, from column `first` on, counts for nothing."""
    row[first : part.n_wide] = NOTHING


@inner
def softmax_forward(target, probs, sums, part, heads, dropping):
    """target = dropout(softmax(c S)), rounded; `sums` keeps each row's largest score and reciprocal sum."""
    n_panels = part.n_wide // SIDE
    for i in range(part.n_rows):
        row, n = probs[i], n_seen(i, part, heads.causal)
        top = largest(row[:n])
        hide(row, n, part)
        z = ONE / numerators((row.ctypes.data,), part.n_wide // LANES, (heads.scale, top))
        sums[part.number + i, 0], sums[part.number + i, 1] = top, z
        places, index = (target[i].ctypes.data, row.ctypes.data), (part.number + i) * part.S
        if dropping.limit:
            round_kept(places, n_panels, z, index, dropping)
        else:
            round_all(places, n_panels, z, index, dropping)


@inner
def kept_of(sums, part, i):
    """What forward kept of a row: its largest score and reciprocal sum; zeros for a row that is none."""
    if i < part.n_rows:
        return sums[part.number + i, 0], sums[part.number + i, 1]
    return NONE, NONE


@inner
def softmax_backward(ds_rows, words, scores, sums, part, heads, dropping):
    """From S and dP, the arrays `scores`: dS, rounded, in rows and in words, and the words of what met V.

    `words` are the panels of P and dS, at this strip's first words. Rows from `n_rows` on become zero.
    """
    probs, dscores = scores
    p_words, ds_words = words
    n_panels, panel_bytes = part.n_wide // SIDE, LINE * p_words.n_words
    for i in range(0, SIDE, 2):
        for j in range(i, i + 2):
            n = n_seen(j, part, heads.causal) if j < part.n_rows else 0
            hide(probs[j], n, part)
            dscores[j, n : part.n_wide] = NONE
        (top, z), (next_top, next_z) = kept_of(sums, part, i), kept_of(sums, part, i + 1)
        first_row, next_row = (
            (probs[i].ctypes.data, dscores[i].ctypes.data),
            (probs[i + 1].ctypes.data, dscores[i + 1].ctypes.data),
        )
        rows = (*first_row, *next_row)
        panels = n_panels, panel_bytes, p_words.at + LINE * (i // 2)
        numbers = heads.scale, top, z, next_top, next_z
        indices = (part.number + i) * part.S, (part.number + i + 1) * part.S
        if dropping.limit:
            first, second = find_kept(rows, panels, numbers, indices, dropping)
        else:
            first, second = find_all(rows, panels, numbers, indices, dropping)
        panels = n_panels, panel_bytes, ds_words.at + LINE * (i // 2)
        targets = ds_rows[i].ctypes.data, ds_rows[i + 1].ctypes.data
        differentiate(rows, targets, panels, (heads.scale, first, second))
