r"""Causal attention without a T x T matrix: `ROWS` queries at a time meet all keys they may see.

The scores of so few rows stay in the second-level cache, where softmax finds each row whole; blocks of keys
that no query of the rows may see are never touched. Forward keeps two numbers of each row, its largest
score $m$ and the reciprocal $z$ of its sum. Backward computes the scores again, and from them the same
probabilities:

$$p_j = z\,e^{c(s_j - m)},\qquad z = 1 \Big/ \sum_j e^{c(s_j - m)},\qquad c = 1/\sqrt{d_{head}}$$

(One number, $\log\sum_j e^{c s_j}$, would do where scores are small: at 50,000, float32 rounds it to 0.004.)
A dropout mask is drawn again by counting.

Queries are (B T, H K), keys and values (B S, G K): the layouts the projections write, heads side by side.
"""

from typing import NamedTuple

import numpy as np

from handgrad.kernels.arena import round_up
from handgrad.kernels.dropout import dropped, factor
from handgrad.kernels.functions import largest
from handgrad.kernels.jit import inner, kernel, shared, view
from handgrad.kernels.machine import LANES, MICRO_COLUMNS
from handgrad.kernels.microkernel import Matrix
from handgrad.kernels.products import (
    FLOAT,
    add_product,
    multiply,
    pack_panels,
    pack_transposed,
    panels_at,
    turned,
)
from handgrad.kernels.softmax import NOTHING, numerators, probabilities
from handgrad.kernels.walk import ROOM, room

ROWS = 24
"""Queries at a time: what to tune. More of them compute more scores that are masked; 48 are slower by a tenth
at 256 keys."""
OPERAND: type = np.float32
"""Of what attention reads and writes."""
ZERO, ONE = np.float32(0.0), np.float32(1.0)


class Heads(NamedTuple):
    """What attention is told besides its arrays."""

    n_sequences: int
    """B"""
    n_heads: int
    """H"""
    n_kv_heads: int
    """G"""
    d_head: int
    """K"""
    scale: np.float32
    """1 / sqrt(d_head)"""
    causal: bool


class Places(NamedTuple):
    """Where arrays begin in scratch, in float32 numbers; `width` is S, rounded up to whole panels."""

    keys_across: int
    """Panels of K^T: (width, d_head)."""
    values_across: int
    """Panels of V^T."""
    down: int
    """Panels of V (forward) or K (backward): (S, d_head)."""
    queries: int
    """Panels of ROWS rows of Q."""
    dy: int
    """And of dY."""
    probs: int
    """(ROWS, width): S, then P; as the next two."""
    dscores: int
    """dP, then dS."""
    dropped: int
    """P after dropout."""
    end: int


@shared
def places(n_keys, d_head):
    """The one description of scratch: its size, and its use by both kernels."""
    width, head = round_up(n_keys, MICRO_COLUMNS), round_up(d_head, MICRO_COLUMNS)
    keys_across = ROOM
    values_across = keys_across + width * d_head
    down = values_across + width * d_head
    queries = down + n_keys * head
    dy = queries + ROWS * head
    probs = dy + ROWS * head
    dscores = probs + ROWS * width
    dropped = dscores + ROWS * width
    end = dropped + ROWS * width + 2 * MICRO_COLUMNS  # microkernels read on after the last row
    return Places(keys_across, values_across, down, queries, dy, probs, dscores, dropped, end)


def scratch_size(n_keys: int, d_head: int) -> int:
    """float32 numbers that `forward` and `backward` work in."""
    return places(n_keys, d_head).end


@view
def rows_at(scratch, start, width):
    """The array (ROWS, width) that starts there."""
    return scratch[start : start + ROWS * width].reshape(ROWS, width)


class Part(NamedTuple):
    """Some queries of one head, and the keys they may see."""

    first: int
    """The first query's position among T."""
    n_rows: int
    n_keys: int
    n_wide: int
    """Keys, rounded up to whole panels: columns of scores that are computed."""
    number: int
    """The first query's number among all (B H T)."""
    n_past: int
    """S - T: keys that come before the first of all queries."""
    S: int


@inner
def part_from(first, most, multiple, head, T, S, causal):
    """At most `most` queries of head number `head` among (B H); columns come in multiples of `multiple`."""
    n_rows = min(most, T - first)
    n_keys = min(S, first + n_rows + S - T) if causal else S
    return Part(first, n_rows, n_keys, round_up(n_keys, multiple), head * T + first, S - T, S)


@inner
def n_seen(i, part, causal):
    """How many keys the part's query i may see; the queries are the last positions."""
    return min(part.S, part.first + i + 1 + part.n_past) if causal else part.S


@inner
def filled(row, n):
    """Fill up the last vector of n scores with some that count for nothing; how many vectors they are."""
    whole = round_up(n, LANES)
    for j in range(n, whole):
        row[j] = NOTHING
    return whole // LANES


@inner
def softmax_forward(probs, sums, part, heads, dropping):
    """Scores become probabilities, dropped out; `sums` keeps each row's largest score and reciprocal sum.

    What a query does not see becomes zero.
    """
    for i in range(part.n_rows):
        row, n = probs[i], n_seen(i, part, heads.causal)
        top = largest(row[:n])
        z = ONE / numerators((row.ctypes.data,), filled(row, n), (heads.scale, top))
        for j in range(n):
            row[j] *= z
        if dropping.limit:
            index = (part.number + i) * part.S
            for j in range(n):
                row[j] = dropped(row[j], index + j, dropping)
        row[n : part.n_wide] = ZERO
        sums[part.number + i, 0], sums[part.number + i, 1] = top, z


@kernel
def forward(y, sums, q, k, v, heads, dropping, scratch):
    """y (B T, H K); `sums` (B H T, 2) is what `backward` needs of each row of scores."""
    B, H, G = heads.n_sequences, heads.n_heads, heads.n_kv_heads
    T, S, K = q.shape[0] // B, k.shape[0] // B, heads.d_head
    width, at, base = round_up(S, MICRO_COLUMNS), places(S, K), scratch.ctypes.data
    q_stride, k_stride = FLOAT * H * K, FLOAT * G * K
    spare = room(scratch)
    probs = rows_at(scratch, at.probs, width)
    p = Matrix(probs.ctypes.data, FLOAT * width)
    keys = panels_at(base + FLOAT * at.keys_across, K)
    values = panels_at(base + FLOAT * at.down, S)
    for b in range(B):
        for g in range(G):
            kv = (b * S * G + g) * K * FLOAT
            pack_transposed(keys.at, Matrix(k.ctypes.data + kv, k_stride), S, K)
            pack_panels(values.at, values.panel, Matrix(v.ctypes.data + kv, k_stride), S, K)
            for h in range(g * (H // G), (g + 1) * (H // G)):
                for first in range(0, T, ROWS):
                    part = part_from(first, ROWS, MICRO_COLUMNS, b * H + h, T, S, heads.causal)
                    here = ((b * T + first) * H + h) * K * FLOAT
                    queries = Matrix(q.ctypes.data + here, q_stride)
                    out = Matrix(y.ctypes.data + here, q_stride)
                    # 1. S = Q K^T
                    multiply(p, queries, keys, (part.n_rows, part.n_wide, K), spare)
                    # 2. P = dropout(softmax(c S))
                    softmax_forward(probs, sums, part, heads, dropping)
                    # 3. Y = P V
                    multiply(out, p, values, (part.n_rows, K, part.n_keys), spare)


@inner
def softmax_backward(probs, dscores, met, sums, part, heads, dropping):
    """`probs` holds S and becomes P, `dscores` holds the gradient of what met the values and becomes dS.

    `met` becomes what met the values, P after dropout; without dropout it is the same array as `probs`.
    """
    for i in range(part.n_rows):
        n = n_seen(i, part, heads.causal)
        row, drow, dropped_row = probs[i], dscores[i], met[i]
        if dropping.limit:  # the mask comes first, as it needs no probabilities; then dP passes it
            index = (part.number + i) * part.S
            for j in range(n):
                kept = factor(index + j, dropping)
                dropped_row[j] = kept
                drow[j] *= kept
        top, z = sums[part.number + i, 0], sums[part.number + i, 1]
        n_vectors = filled(row, n)
        along = probabilities((row.ctypes.data, drow.ctypes.data), n_vectors, (heads.scale, top, z))
        if dropping.limit:
            for j in range(n):
                dropped_row[j] *= row[j]
            dropped_row[n : part.n_wide] = ZERO
        for j in range(n):
            drow[j] = row[j] * (drow[j] - along) * heads.scale
        drow[n : part.n_wide] = ZERO
        row[n : part.n_wide] = ZERO


@kernel
def backward(dq, dk, dv, q, k, v, dy, sums, heads, dropping, scratch):
    """dq, dk and dv may be q, k and v: a head's keys and values are packed before any is overwritten."""
    B, H, G = heads.n_sequences, heads.n_heads, heads.n_kv_heads
    T, S, K = q.shape[0] // B, k.shape[0] // B, heads.d_head
    width, at, base = round_up(S, MICRO_COLUMNS), places(S, K), scratch.ctypes.data
    q_stride, k_stride = FLOAT * H * K, FLOAT * G * K
    spare = room(scratch)
    probs, dscores = rows_at(scratch, at.probs, width), rows_at(scratch, at.dscores, width)
    met = rows_at(scratch, at.dropped if dropping.limit else at.probs, width)
    p = Matrix(probs.ctypes.data, FLOAT * width)
    ds = Matrix(dscores.ctypes.data, FLOAT * width)
    keys_across = panels_at(base + FLOAT * at.keys_across, K)
    values_across = panels_at(base + FLOAT * at.values_across, K)
    keys_down = panels_at(base + FLOAT * at.down, S)
    # dS and P again, transposed: their columns, which lie side by side, are the rows of A
    ds_turned, p_turned = turned(ds), turned(Matrix(met.ctypes.data, ds.stride))
    for b in range(B):
        for g in range(G):
            kv = (b * S * G + g) * K * FLOAT
            keys, values = Matrix(k.ctypes.data + kv, k_stride), Matrix(v.ctypes.data + kv, k_stride)
            pack_transposed(keys_across.at, keys, S, K)
            pack_transposed(values_across.at, values, S, K)
            pack_panels(keys_down.at, keys_down.panel, keys, S, K)
            dk[b * S : (b + 1) * S, g * K : (g + 1) * K] = ZERO
            dv[b * S : (b + 1) * S, g * K : (g + 1) * K] = ZERO
            dkeys, dvalues = Matrix(dk.ctypes.data + kv, k_stride), Matrix(dv.ctypes.data + kv, k_stride)
            for h in range(g * (H // G), (g + 1) * (H // G)):
                for first in range(0, T, ROWS):
                    part = part_from(first, ROWS, MICRO_COLUMNS, b * H + h, T, S, heads.causal)
                    here = ((b * T + first) * H + h) * K * FLOAT
                    queries = Matrix(q.ctypes.data + here, q_stride)
                    outer = Matrix(dy.ctypes.data + here, q_stride)
                    q_rows = panels_at(base + FLOAT * at.queries, part.n_rows)
                    dy_rows = panels_at(base + FLOAT * at.dy, part.n_rows)
                    # 1. S = Q K^T, as in forward 1
                    multiply(p, queries, keys_across, (part.n_rows, part.n_wide, K), spare)
                    # 2. dP = dY V^T, which undoes forward 3, Y = P V
                    multiply(ds, outer, values_across, (part.n_rows, part.n_wide, K), spare)
                    # 3. P again, and dS, which undoes forward 2, P = dropout(softmax(c S))
                    softmax_backward(probs, dscores, met, sums, part, heads, dropping)
                    pack_panels(q_rows.at, q_rows.panel, queries, part.n_rows, K)
                    pack_panels(dy_rows.at, dy_rows.panel, outer, part.n_rows, K)
                    # 4. dQ = dS K, and dK += dS^T Q, which undo forward 1, S = Q K^T
                    multiply(
                        Matrix(dq.ctypes.data + here, q_stride),
                        ds,
                        keys_down,
                        (part.n_rows, K, part.n_keys),
                        spare,
                    )
                    add_product(dkeys, ds_turned, q_rows, (part.n_keys, K, part.n_rows), spare)
                    # 5. dV += P^T dY, which undoes forward 3, Y = P V
                    add_product(dvalues, p_turned, dy_rows, (part.n_keys, K, part.n_rows), spare)
