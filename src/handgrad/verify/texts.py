"""What a model reads while it is verified: its own text, or random token ids, as much as time allows."""

from typing import NamedTuple

import numpy as np

from handgrad.errors import UserError
from handgrad.formats.model_folder import Model
from handgrad.model.config import ModelConfig
from handgrad.model.count import count
from handgrad.ops import activation

SENTENCES = """The river rises in the hills and runs south for a hundred miles. Near its source it is \
narrow, and a child can step over it. By the time it meets the sea, ships pass each other with ease. \
People have lived beside it for as long as anyone remembers. They fish, they mend their boats, and in the \
evening they tell stories about floods. One of them is about a miller who built his house too low. When the \
water came, he tied it to a tree, and it swam all night like a duck. In the morning it stood in a meadow on \
the other side, and there it is today. Nobody has ever asked him whether he would rather live elsewhere. """
"""The text for a model whose tokenizer reads English."""

N_TEXTS = 3
"""Texts side by side in the KV cache."""
LARGE = 20_000_000
"""From this many weights on, fewer tokens are read."""
READ, READ_BY_LARGE = 40, 8
"""Tokens a text of those that are read and continued."""
PROVED, PROVED_BY_LARGE, PROVED_WITH_KINKS = 24, 8, 8
"""Tokens a text of those whose loss is differentiated. With a ReLU, each token and unit is a kink that a
small step may cross."""


class Texts(NamedTuple):
    """Token ids."""

    read: np.ndarray
    """(N_TEXTS, T): what is read into the KV cache."""
    token_ids: np.ndarray
    """(B, T) of the loss."""
    targets: np.ndarray
    """(B, T): what follows each."""
    source: str
    """Where they are from, in words."""


def texts_for(model: Model, rng: np.random.Generator) -> Texts:
    """As many tokens as the size of the model and its context allow."""
    config = model.config
    large = count(config).parameters >= LARGE
    wanted = PROVED_BY_LARGE if large else PROVED
    wanted = min(wanted, PROVED_WITH_KINKS) if config.activation in activation.KINKED else wanted
    read = min(config.context_length, READ_BY_LARGE if large else READ)
    proved = min(config.context_length, wanted)
    drawn, source = _token_ids(model, N_TEXTS * (max(read, proved) + 1), rng)
    rows = drawn.reshape(N_TEXTS, -1)
    starts = model.starts[: rows.shape[1] // 2]
    rows[:, : len(starts)] = starts  # as every text of this model begins
    batch = rows[: 1 if large else 2]
    return Texts(rows[:, :read], batch[:, :proved], batch[:, 1 : proved + 1], source)


def other_texts(texts: Texts, config: ModelConfig, rng: np.random.Generator) -> Texts:
    """Random token ids in place of those whose loss is differentiated."""
    token_ids, targets = rng.integers(config.vocab_size, size=(2, *texts.token_ids.shape))
    return texts._replace(token_ids=token_ids, targets=targets)


def _token_ids(model: Model, n: int, rng: np.random.Generator) -> tuple[np.ndarray, str]:
    """`n` tokens of the model's own language, or random ones where it does not read English."""
    if model.tokenizer is not None:
        try:
            return np.resize(np.asarray(model.tokenizer.encode(SENTENCES), np.int64), n), "an English text"
        except UserError:  # characters that it does not have
            pass
    return rng.integers(model.config.vocab_size, size=n), "random token ids"
