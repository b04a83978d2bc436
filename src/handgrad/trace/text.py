"""A text as a model reads it: token ids, and what each of them stands for."""

from typing import Any, NamedTuple

import numpy as np

from handgrad import convert
from handgrad.errors import UserError, as_whole, shown
from handgrad.formats.model_folder import Model
from handgrad.model.inputs import require_token_ids
from handgrad.shapes import Int


class Text(NamedTuple):
    """What was read."""

    token_ids: Int[np.ndarray, " T"]
    tokens: list[str]
    """Each as text; without a tokenizer, its number."""


def read(model: Model, text: Any) -> Text:
    """A string, with the tokens that stand before every text of the model; or token ids as they are.

    Raises `UserError` for what the model cannot read.
    """
    if isinstance(text, str):
        if model.tokenizer is None:
            raise UserError(
                "This model has no tokenizer, so it reads token ids; got a text. Give their list."
            )
        token_ids = np.concatenate([np.array(model.starts, np.int64), model.tokenizer.encode(text)])
    else:
        token_ids = convert.integers(text, "text")
    if token_ids.ndim != 1 or not token_ids.size:
        raise UserError(f"A text has at least one token, in one row; got {shown(text)}.")
    require_token_ids(model.config, token_ids[None])
    return Text(token_ids, [word(model, token_id) for token_id in token_ids])


def token(model: Model, what: Any, name: str) -> int:
    """The id of one token, given as such or as the text that it stands for; `UserError` for anything else."""
    if isinstance(what, str) and model.tokenizer is not None:
        token_ids = model.tokenizer.encode(what)
        if len(token_ids) != 1:
            cut = ", ".join(repr(word(model, token_id)) for token_id in token_ids)
            raise UserError(
                f"{name} is one token; {what!r} is {len(token_ids)}: {cut or 'none'}. Name one of them."
            )
        return int(token_ids[0])
    token_id, size = as_whole(what), model.config.vocab_size
    if token_id is None or not 0 <= token_id < size:
        raise UserError(f"{name} is one token, as text or as an id below {size:,}; got {shown(what)}.")
    return token_id


def word(model: Model, token_id: int) -> str:
    """What a token stands for."""
    return str(int(token_id)) if model.tokenizer is None else model.tokenizer.decode([int(token_id)])
