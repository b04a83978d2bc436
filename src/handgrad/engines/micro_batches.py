"""How a batch is cut into parts, how much each part counts, and what all of them draw from."""

import itertools

import numpy as np


def cut(token_ids: np.ndarray, most_tokens: int, multiple_of: int = 1) -> list[slice]:
    """The batch's sequences in parts as even as can be, of `most_tokens` tokens at most, or one sequence.

    The number of parts is a multiple of `multiple_of`, or every part is a single sequence.
    """
    n_sequences = len(token_ids)
    n_parts = -(-n_sequences // max(1, most_tokens // token_ids.shape[1]))
    n_parts = min(n_sequences, -(-n_parts // multiple_of) * multiple_of)
    edges = [n_sequences * i // n_parts for i in range(n_parts + 1)]
    return [slice(*pair) for pair in itertools.pairwise(edges)]


def counted_share(targets: np.ndarray, part: slice) -> float:
    """The share of a batch's targets in `part`: so weighted, the parts' means sum to the batch's mean.

    Targets of -1 do not count.
    """
    return int(np.count_nonzero(targets[part] != -1)) / max(1, int(np.count_nonzero(targets != -1)))


def seed(rng: np.random.Generator | None) -> int | None:
    """What the batch's dropout is drawn from: one seed for all parts, each of which counts its sequences."""
    return None if rng is None else int(rng.integers(1 << 63))
