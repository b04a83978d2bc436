r"""What is known of a validation text before training: its size, its baselines, how much is repeated.

A loss L in nats a token depends on the tokenizer; in bits a byte losses of one text compare:

$$\frac{\text{bits}}{\text{byte}} = \frac{L}{\ln 2}\cdot\frac{\text{tokens}}{\text{bytes}}$$

with the tokens and the UTF-8 bytes of the whole validation text.
"""

import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from handgrad.shapes import Int
from handgrad.tokenizer import Tokenizer
from handgrad.training import baselines

BLOCK = 1 << 16
"""Tokens read at a time: their hashes fit the cache."""
DOUBLINGS = 6
WINDOW = 1 << DOUBLINGS
"""Tokens of a window that is looked for in the training text."""
SAMPLED = 32
"""One window in so many is looked for, chosen by what it holds."""


class Measured(NamedTuple):
    """What `measure` finds."""

    validation_tokens: int
    validation_bytes: int
    repeated: float
    """The share of the validation text's windows that stand word for word in the training text too."""
    baselines: dict[str, float]
    """Validation losses by name, in nats a token."""


def measure(train: np.ndarray, validation: np.ndarray, tokenizer: Tokenizer) -> Measured:
    """All of it, in seconds and within 250 MB, for texts of 50 MB as for short ones."""
    n_tokens, n_bytes = len(validation), n_text_bytes(validation, tokenizer)
    bytes_a_token = n_bytes / n_tokens
    ends = (
        train[-math.ceil(baselines.TRAINING_BYTES / bytes_a_token) :],
        validation[: math.ceil(baselines.VALIDATION_BYTES / bytes_a_token)],
    )
    xz = baselines.xz(*(tokenizer.decode(tokens).encode() for tokens in ends))
    found = baselines.losses(train, validation, tokenizer.vocab_size)
    found["xz"] = xz * math.log(2) * bytes_a_token
    return Measured(n_tokens, n_bytes, repeated(train, validation), found)


def bits_per_byte(loss: float, n_tokens: int, n_bytes: int) -> float:
    """A loss in nats a token, of a text with so many tokens and bytes."""
    return loss / math.log(2) * n_tokens / n_bytes


def n_text_bytes(tokens: np.ndarray, tokenizer: Tokenizer) -> int:
    """The bytes of UTF-8 that `tokens` stand for, a few more where a block's end cuts a character in two."""
    return sum(len(tokenizer.decode(block).encode()) for block in _blocks(tokens))


def repeated(train: np.ndarray, validation: np.ndarray) -> float:
    """The share of the validation text's windows that occur in the training text; 0 where it is too short."""
    asked = _fingerprints(validation)
    return float(np.isin(asked, _fingerprints(train)).mean()) if len(asked) else 0.0


def _fingerprints(tokens: np.ndarray) -> Int[np.ndarray, " F"]:
    """64-bit hashes of windows, those whose hash says so: equal windows are chosen in every text."""
    chosen = []
    for block in _blocks(tokens, overlap=WINDOW - 1):
        hashes = _hashes(block)
        chosen.append(hashes[hashes >> np.uint64(32) & np.uint64(SAMPLED - 1) == 0])
    return np.concatenate(chosen)


def _hashes(tokens: np.ndarray) -> Int[np.ndarray, " N"]:
    """A hash of every window, from those of its two halves."""
    factors = np.random.default_rng(0).integers(1 << 63, size=DOUBLINGS + 1, dtype=np.uint64) * 2 + 1
    hashes = (np.asarray(tokens).astype(np.uint64) + 1) * factors[DOUBLINGS]
    for i in range(DOUBLINGS):
        half = 1 << i
        hashes = (hashes[:-half] ^ hashes[:-half] >> np.uint64(31)) * factors[i] + hashes[half:]
    return hashes


def _blocks(tokens: np.ndarray, overlap: int = 0) -> Iterator[np.ndarray]:
    for start in range(0, len(tokens), BLOCK):
        yield tokens[start : start + BLOCK + overlap]
