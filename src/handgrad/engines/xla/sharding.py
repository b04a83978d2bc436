"""Which device holds what: the axis of the mesh that divides each axis of each array.

XLA inserts the communication that follows from it; there is none of our own.
"""

from typing import Any

from jax.sharding import PartitionSpec as P

from handgrad import parameters as p

WHOLE = P()
BATCH = P(("data", "fsdp"))
"""The sequences of a batch."""
COLUMNS = p.Linear(P("fsdp", "model"), P("model"))
"""A device computes some of the outputs, from all inputs."""
ROWS = p.Linear(P("model", "fsdp"), WHOLE)
"""A device computes a summand of all outputs, from some of the inputs."""

BLOCK: Any = p.Block(
    norm1=WHOLE,
    attention=p.MultiHeadAttention(
        query=COLUMNS, key=COLUMNS, value=COLUMNS, output=ROWS, query_norm=WHOLE, key_norm=WHOLE
    ),
    norm2=WHOLE,
    feed_forward=p.FeedForward(up=COLUMNS, down=ROWS, gate=COLUMNS, alpha=P("model")),
)
WEIGHTS: Any = p.Transformer(
    embedding=P("model", "fsdp"),
    positions=P(None, "fsdp"),
    blocks=BLOCK,
    norm=WHOLE,
    head=COLUMNS,
)
"""Each weight, its moments and its gradient, where they are kept. A product reads it gathered from `fsdp`."""
