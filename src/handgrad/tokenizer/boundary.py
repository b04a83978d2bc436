"""Checks what a tokenizer is given: the text that it encodes, the ids that it decodes."""

from typing import Any

from handgrad import convert
from handgrad.errors import UserError


def valid(text: str) -> str:
    """`text`; `UserError` where it holds half a surrogate pair, which no encoding has."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise UserError(
            f"The text is not valid UTF-8: {text[error.start]!a} stands at character {error.start}. Check "
            f"the encoding of the file or the terminal it comes from."
        ) from None
    return text


def listed(token_ids: Any, vocab_size: int) -> list[int]:
    """The ids as a list; `UserError` unless they are in one row and below `vocab_size`."""
    ids = convert.integers(token_ids, "Token ids")
    if ids.ndim != 1:
        raise UserError(f"Token ids are decoded one text at a time, in one row; got the shape {ids.shape}.")
    if ids.size and not 0 <= ids.min() <= ids.max() < vocab_size:
        raise UserError(
            f"Token ids are 0 to {vocab_size - 1}; got {ids.min()} to {ids.max()}. Take the tokenizer that "
            f"the ids were made with."
        )
    return ids.tolist()
