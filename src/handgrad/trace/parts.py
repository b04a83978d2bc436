r"""The residual stream as a sum: what each part of the model wrote into it.

Where norms stand before each part, nothing in the stream is ever overwritten:

$$x_l = \text{embedding} + \text{position} + \sum_{j<l} (\text{heads}_j + \text{feed-forward}_j)$$

A head's share is told apart by the rows of $W_O$ that its output meets. (Elhage et al., "A mathematical
framework for transformer circuits", 2021.)
"""

from typing import NamedTuple

import numpy as np

from handgrad import parameters as p
from handgrad.errors import UserError
from handgrad.shapes import Float
from handgrad.trace.prediction import Trace


class Parts(NamedTuple):
    """What was written, by whom."""

    names: list[str]
    written: Float[np.ndarray, "P T D"]


def of(trace: Trace, positions: list[int], layer: int | None = None) -> Parts:
    """Everything that the stream holds at some positions where the given layer reads it, or at its end.

    `UserError` where norms stand after the sums, and where the sites that this takes were not kept.
    """
    config, weights = trace.model.config, trace.model.weights
    if config.norm_placement != "pre":
        raise UserError(
            "Where norms stand before each part, the stream is the sum of what was written; here they do not."
        )
    embedding = trace.value("embedding")[positions]
    names, written = ["embedding"], [embedding]
    if config.position != "rope":
        names.append("positions")
        written.append(trace.value("positions")[positions] - embedding)
    for number in range(config.n_layers if layer is None else layer):
        at, block = f"blocks.{number}", weights.blocks[number]
        heads = by_head(trace.value(f"{at}.attention.heads")[:, positions], block.attention.output)
        names += [f"{at}.head {head}" for head in range(config.n_heads)]
        written += list(heads)
        if block.attention.output.bias is not None:
            names.append(f"{at}.attention.output.bias")
            written.append(np.broadcast_to(block.attention.output.bias, embedding.shape))
        names.append(f"{at}.feed_forward")
        written.append(trace.value(f"{at}.feed_forward.down")[positions])
    return Parts(names, np.stack(written))


def by_head(heads: Float[np.ndarray, "H T K"], output: p.Linear) -> Float[np.ndarray, "H T D"]:
    """What each head writes into the stream."""
    rows = output.weight.reshape(heads.shape[0], heads.shape[2], -1)
    return np.matmul(heads, rows)


def normalized(
    written: Float[np.ndarray, "P T D"],
    stream: Float[np.ndarray, "T D"],
    norm: p.LayerNorm | p.RMSNorm,
    eps: float,
) -> Float[np.ndarray, "P T D"]:
    """Each part's share in norm(stream), the norm's factor left as it is for the whole; beta is nobody's."""
    if isinstance(norm, p.LayerNorm):
        written = written - written.mean(axis=-1, keepdims=True)
        stream = stream - stream.mean(axis=-1, keepdims=True)
    factor = (np.mean(stream * stream, axis=-1, keepdims=True) + eps) ** -0.5
    return norm.gamma * (written * factor)
