r"""Why a head looks where it looks: a score, split into what each part of the stream gave to query and key.

A score is $q \cdot k / \sqrt{d_{head}}$. With the factors of the norms left as they are, query and key are
linear in the stream, and the stream is a sum of what its parts wrote. So the score is a sum over pairs:

$$s_{ts} = \frac{1}{\sqrt{d_{head}}}\sum_{i,j} q^{(i)}_t \cdot k^{(j)}_s$$

Biases, of the norm and of the projections, count as a part of their own.
"""

from typing import NamedTuple

import numpy as np

from handgrad import parameters as p
from handgrad.errors import UserError
from handgrad.ops import rope
from handgrad.shapes import Float
from handgrad.trace import parts
from handgrad.trace.prediction import Trace

BIASES = "biases"


class Score(NamedTuple):
    """One score of one head."""

    score: float
    query_parts: list[str]
    key_parts: list[str]
    shares: Float[np.ndarray, "P P"]
    """What each pair, of the query's part and the key's, adds to it."""

    def strongest(self, n: int = 5) -> list[tuple[str, str, float]]:
        """The pairs that add or take most."""
        order = np.argsort(-np.abs(self.shares), axis=None, kind="stable")[:n]
        places = zip(*np.unravel_index(order, self.shares.shape), strict=True)
        return [(self.query_parts[i], self.key_parts[j], float(self.shares[i, j])) for i, j in places]


def explain_score(trace: Trace, layer: int, head: int, query: int, key: int) -> Score:
    """Split the score that the token at `query` gives that at `key`: positions from 0, or from the end.

    `UserError` where the model has no such layer, head or positions, where norms stand after the sums, and
    where the sites that this takes were not kept.
    """
    config = trace.model.config
    n_tokens = len(trace.token_ids)
    for what, number, n in (("layers", layer, config.n_layers), ("heads", head, config.n_heads)):
        if number not in range(n):
            raise UserError(f"The {what} are 0 to {n - 1}; got {number}.")
    for position in (query, key):
        if not -n_tokens <= position < n_tokens:
            raise UserError(f"The positions are 0 to {n_tokens - 1}; got {position}.")
    query, key = query % n_tokens, key % n_tokens
    block, at = trace.model.weights.blocks[layer], f"blocks.{layer}"
    names, written = parts.of(trace, [query, key], layer)
    normed = parts.normalized(written, written.sum(axis=0), block.norm1, config.norm_eps)
    beta = getattr(block.norm1, "beta", None)
    group = head // (config.n_heads // config.kv_heads)
    a = block.attention
    q = _projected(trace, normed[:, 0], beta, a.query, a.query_norm, layer, head, query)
    k = _projected(trace, normed[:, 1], beta, a.key, a.key_norm, layer, group, key)
    shares = q @ k.T / config.head_width**0.5
    score = float(trace.value(f"{at}.attention.scores")[head, query, key])
    all_names = [*names, BIASES] if len(q) > len(names) else names
    return Score(score, all_names, all_names, shares)


def _projected(
    trace: Trace,
    normed: Float[np.ndarray, "P D"],
    beta: Float[np.ndarray, " D"] | None,
    projection: p.Linear,
    norm: p.RMSNorm | None,
    layer: int,
    head: int,
    position: int,
) -> Float[np.ndarray, "P K"]:
    """What each part gives to the head's query or key at a position; the last row is that of biases."""
    config = trace.model.config
    width = config.head_width
    columns = slice(head * width, (head + 1) * width)
    weight = projection.weight[:, columns]
    given = normed @ weight
    if beta is not None or projection.bias is not None:
        bias = np.zeros(width, weight.dtype)
        bias = bias if beta is None else bias + beta @ weight
        bias = bias if projection.bias is None else bias + projection.bias[columns]
        given = np.concatenate([given, bias[None]])
    if norm is not None:
        whole = given.sum(axis=0)
        given = norm.gamma * given * (np.mean(whole * whole) + config.norm_eps) ** -0.5
    if config.turns(layer):
        given, _ = rope.forward(
            given[:, None], offset=position, base=config.rope_base, scaling=config.rope_scaling
        )
        given = given[:, 0]
    return given
