r"""The products that an engine writes with in few bits, each by itself.

What rounding does to a whole model hides a wrong scale in one matrix. So a matrix becomes the head of a model
that has nothing else: its layer is zero, and its logits are $y = \hat x W$ for random rows $\hat x$. Rounding
makes a number off by at most a share u of the largest number of its block b. Such errors are random, so their
sum has the size

$$\Delta y = u\,\Bigl(\sum_b \max_b|\hat x|^2 \textstyle\sum_b W^2 + \sum_b \hat x^2 \max_b|W|^2\Bigr)^{1/2}$$

In all products together they cancel: on average these are as large as the formulas'.

Matrices of one shape and kind are packed and multiplied by the same code: of each, one is tried.
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

from handgrad import parameters as p
from handgrad import tree
from handgrad.engines.engine import Engine
from handgrad.model.config import ModelConfig
from handgrad.model.init import shapes
from handgrad.verify.check import Check
from handgrad.verify.subject import Subject, in_float64, logits

ROWS, COLUMNS = 16, 2048
"""Multiplied with each matrix, and of it at most."""
MOST = 6.0
"""How many times its size the sum may be. Over small models of all kinds the largest was 2.7, and 4.3 on an
engine that rounds its results too."""


TINY = 1e-30
"""In place of zero, where a matrix is zero."""


class Rounding(NamedTuple):
    """How a precision rounds what products read."""

    share: float
    """The largest error, of the largest number of a block."""
    block: int
    """Numbers that share a scale."""
    least: float = 0.0
    """What the largest weight of a block counts as at least: small scales are coarse in float16."""


LEAST = 127 * 254 * 2.0**-25
ROUNDINGS = {
    "bfloat16": Rounding(2.0**-9, 1),
    "int8": Rounding(1 / 254, 32, LEAST),
    "blocks": Rounding(1 / 254, 32, LEAST),
}


def products_agree(
    subject: Subject,
    engine: Engine,
    precision: str,
    group: str,
    rng: np.random.Generator,
    report: Callable[[str], object],
) -> Iterator[Check]:
    """Of every kind of matrix the product with random rows, where the precision is one of few bits."""
    if precision not in ROUNDINGS:
        return
    errors = dict[str, Errors]()
    for name, weight, blocks in _matrices(subject, precision):
        report(f"{group}: products with {name}")
        errors[name] = _errors(weight, blocks, engine, precision, rng)
    largest, larger = (max(errors, key=lambda name: _order(errors[name][i])) for i in range(2))
    yield Check(
        group, "products with each matrix = formulas", errors[largest].largest, MOST,
        "of the size of all rounding errors",
        "errors of rounding are random, and the sum of many is hardly ever 3 times its size",
        f"{len(errors)} kinds of matrices, the largest with {largest}",
    )  # fmt: skip
    yield Check(
        group, "on average as large as the formulas'", errors[larger].larger, 2 * ROUNDINGS[precision].share,
        "of a product", "twice the largest error of one rounding: those of many products cancel",
        f"the largest with {larger}",
    )  # fmt: skip


def _order(error: float) -> float:
    """What is no number is the largest error."""
    return np.inf if np.isnan(error) else error


def _matrices(subject: Subject, precision: str) -> Iterator[tuple[str, np.ndarray, p.Blocks | None]]:
    """One matrix (K, N) of each shape and kind, with its name and the blocks that a file holds it in."""
    held = (subject.model.blocks or {}) if precision == "blocks" else {}
    seen = set()
    for name, array in subject.named_weights():
        is_head = name == "embedding" and subject.config.tied
        if array.ndim != 2 or not (name.endswith(".weight") or is_head):
            continue
        weight, blocks = array.T if is_head else array, held.get(name)
        kind = weight.shape, blocks and blocks.kind
        if kind not in seen:
            seen.add(kind)
            yield name, weight[:, :COLUMNS], blocks and blocks._replace(data=blocks.data[:COLUMNS])


class Errors(NamedTuple):
    """Of all products with a matrix."""

    largest: float
    """That of one product, in units of the size that rounding errors have."""
    larger: float
    """By which share all of them are too large or too small."""


def _errors(
    weight: np.ndarray, blocks: p.Blocks | None, engine: Engine, precision: str, rng: np.random.Generator
) -> Errors:
    (K, N), rows = weight.shape, min(ROWS, weight.shape[1])
    config = ModelConfig(
        vocab_size=N, context_length=rows, n_layers=1, n_heads=1, d_head=2, d_model=K, d_ff=2,
        position="rope", norm="rms_norm", activation="silu", bias=False, tied=False,
    )  # fmt: skip
    embedding = np.zeros((N, K), np.float32)
    embedding[:rows] = rng.standard_normal((rows, K))
    nothing = tree.map(np.zeros_like, shapes(config))
    head, ones = p.Linear(np.asarray(weight, np.float32)), p.RMSNorm(np.ones(K, np.float32))
    weights = nothing._replace(embedding=embedding, norm=ones, head=head)
    held = {"head.weight": blocks} if blocks else None
    token_ids = np.arange(rows)
    found = engine.decoding(config, weights, precision=precision, blocks=held).read([token_ids], every=True)
    right = logits(config, tree.map(in_float64, weights), token_ids[None])[0]
    x = embedding[:rows] / np.sqrt(np.mean(embedding[:rows] ** 2, axis=1, keepdims=True))
    size = np.maximum(_allowance(x, weight, ROUNDINGS[precision]), TINY)
    larger = np.vdot(found - right, right) / max(np.vdot(right, right), TINY)
    return Errors(float(np.max(np.abs(found - right) / size)), abs(float(larger)))


def _allowance(x: np.ndarray, weight: np.ndarray, rounding: Rounding) -> np.ndarray:
    """The size of the errors of the products (rows, N)."""
    left, right = _in_blocks(x.astype(np.float64), rounding), _in_blocks(weight.T, rounding)
    largest = np.maximum(right.largest, rounding.least)
    square = left.largest**2 @ right.squares.T + left.squares @ largest.T**2
    return rounding.share * np.sqrt(square)


class Blocked(NamedTuple):
    largest: np.ndarray
    """(rows, blocks)."""
    squares: np.ndarray
    """Their sums, (rows, blocks)."""


def _in_blocks(rows: np.ndarray, rounding: Rounding) -> Blocked:
    """Blocks along each row; the last one is filled up with zeros."""
    n, size = -(-rows.shape[1] // rounding.block), rounding.block
    blocks = np.pad(rows, ((0, 0), (0, n * size - rows.shape[1]))).reshape(len(rows), n, size)
    return Blocked(np.abs(blocks).max(axis=2), np.sum(blocks**2, axis=2))
