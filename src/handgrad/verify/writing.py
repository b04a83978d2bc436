"""Writing with a KV cache against reading without one: the same logits, however a text comes in."""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from handgrad.engines.engine import Decoding
from handgrad.verify.check import Check
from handgrad.verify.rounding import apart
from handgrad.verify.texts import N_TEXTS

PIECES = (1, 3, 2, 7)
"""Tokens of the pieces in which a prompt is read, over and over."""
TURNS = (((0, 1, 2), (4, 1, 2)), ((2, 0), (1, 3)), ((1, 2, 0), (1, 1, 1)), ((1,), (5,)))
"""Which texts are read side by side, and how many tokens of each; then all that is left of all of them."""

Read = Callable[[np.ndarray], np.ndarray]
"""The logits (B, T, V) of texts (B, T), without a cache."""


class Limit(NamedTuple):
    """How far apart logits may be, and why."""

    bound: float
    reason: str
    same_bits: bool
    """Whether a text promises the same bits, however it comes in."""


def writing_agrees(
    texts: np.ndarray,
    uncached: Read,
    decoding: Decoding,
    group: str,
    limit: Limit,
    report: Callable[[str], object],
) -> Iterator[Check]:
    """Every way of reading `texts` (3, T) into the caches of three texts."""
    expected, n_other = uncached(texts), 0
    at_once = _at_once(decoding, texts)
    ways = {
        "a whole prompt at once = uncached": lambda: at_once,
        "one token at a time = uncached": lambda: _in_pieces(decoding, texts, [1]),
        "a prompt in pieces = uncached": lambda: _in_pieces(decoding, texts, PIECES),
        "side by side, unequal lengths = alone": lambda: _side_by_side(decoding, texts),
        "the last token's logits only = uncached": lambda: _last_only(decoding, texts),
    }
    for name, read in ways.items():
        report(f"{group}: {name}")
        found = read()
        asked = slice(-found.shape[1], None)
        n_other += _n_other(found, at_once[:, asked])
        facts = f"{found.shape[0] * found.shape[1]} tokens"
        yield Check(group, name, apart(found, expected[:, asked]), limit.bound, UNIT, limit.reason, facts)
    found, spliced = _cut_and_continued(decoding, texts)
    kept = texts.shape[1] - found.shape[1]
    n_other += _n_other(found, _at_once(decoding, spliced)[:, kept:])
    yield Check(
        group, "cut back, continued otherwise = uncached", apart(found, uncached(spliced)[:, kept:]),
        limit.bound, UNIT, limit.reason, f"{N_TEXTS} texts, cut after {kept} tokens",
    )  # fmt: skip
    if limit.same_bits:
        yield Check(
            group, "the same bits in all these ways", n_other, 0, "tokens",
            "the engine adds in one order, whatever else is read beside a text",
        )  # fmt: skip


UNIT = "of the logits' spread"


def _at_once(decoding: Decoding, texts: np.ndarray) -> np.ndarray:
    _empty(decoding)
    return np.stack([decoding.read([text], [i], every=True) for i, text in enumerate(texts)])


def _in_pieces(decoding: Decoding, texts: np.ndarray, sizes: Sequence[int]) -> np.ndarray:
    """Every text alone, in pieces of these sizes."""
    _empty(decoding)
    ends = np.cumsum(np.resize(sizes, texts.shape[1]))
    cuts = ends[ends < texts.shape[1]]
    return np.stack(
        [
            np.concatenate([decoding.read([piece], [i], every=True) for piece in np.split(text, cuts)])
            for i, text in enumerate(texts)
        ]
    )


def _side_by_side(decoding: Decoding, texts: np.ndarray) -> np.ndarray:
    """All texts in one batch, in turns of unequal lengths."""
    _empty(decoding)
    T = texts.shape[1]
    rows: list[list[np.ndarray]] = [[] for _ in texts]
    for order, sizes in (*TURNS, ((2, 1, 0), (T, T, T))):
        firsts = [int(decoding.lengths[i]) for i in order]
        turn = [(i, texts[i, at : at + n]) for i, at, n in zip(order, firsts, sizes, strict=True) if at < T]
        if turn:
            found = decoding.read([piece for _, piece in turn], [i for i, _ in turn], every=True)
            ends = np.cumsum([len(piece) for _, piece in turn])[:-1]
            for (i, _), part in zip(turn, np.split(found, ends), strict=True):
                rows[i].append(part)
    return np.stack([np.concatenate(parts) for parts in rows])


def _last_only(decoding: Decoding, texts: np.ndarray) -> np.ndarray:
    """What follows the whole texts, as it is asked for when one writes."""
    _empty(decoding)
    return decoding.read(list(texts))[:, None]


def _cut_and_continued(decoding: Decoding, texts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Texts are read, cut back, and continued as others: nothing of what was cut may be left. The logits of
    what they are continued with, and the texts that came of it."""
    kept = texts.shape[1] // 2
    _at_once(decoding, texts)
    found, spliced = [], texts.copy()
    for i in range(N_TEXTS):
        spliced[i, kept:] = texts[(i + 1) % N_TEXTS, kept:]
        decoding.cut(i, kept)
        found.append(decoding.read([spliced[i, kept:]], [i], every=True))
    return np.stack(found), spliced


def _n_other(found: np.ndarray, expected: np.ndarray) -> int:
    """Tokens whose logits are other bits."""
    return int(np.sum(np.any(found != expected, axis=-1)))


def _empty(decoding: Decoding) -> None:
    for i in range(N_TEXTS):
        decoding.cut(i, 0)
