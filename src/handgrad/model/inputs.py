"""What a model reads, checked at the door: token ids and targets, their shapes and their range."""

from typing import Any

import numpy as np

from handgrad.errors import UserError
from handgrad.model.config import ModelConfig


def require_token_ids(config: ModelConfig, token_ids: Any, n_before: int = 0) -> None:
    """Raise `UserError` unless the model can read `token_ids` (B, T) after `n_before` others."""
    if token_ids.ndim != 2 or not token_ids.size:
        remedy = " For one text, add an axis: token_ids[None]." if token_ids.ndim == 1 else ""
        raise UserError(
            f"token_ids are (batch, positions), at least one of each; got {token_ids.shape}.{remedy}"
        )
    n_tokens = n_before + token_ids.shape[1]
    if n_tokens > config.context_length:
        raise UserError(f"The model attends to {config.context_length} tokens; got {n_tokens}. Cut the text.")
    _require_range(config, "Token ids", token_ids, lowest=0)


def require_targets(config: ModelConfig, token_ids: Any, targets: Any) -> None:
    """Raise `UserError` unless `targets` are what may follow `token_ids`."""
    if token_ids.shape != targets.shape:
        raise UserError(
            f"token_ids and targets are both (batch, positions); got {token_ids.shape} and {targets.shape}."
        )
    _require_range(config, "Targets", targets, lowest=-1)


def require_batch(config: ModelConfig, token_ids: Any, targets: Any) -> None:
    """Raise `UserError` unless the model can learn from this batch."""
    require_token_ids(config, token_ids)
    require_targets(config, token_ids, targets)


def _require_range(config: ModelConfig, what: str, ids: Any, lowest: int) -> None:
    if not isinstance(ids, np.ndarray):
        return  # other libraries' arrays are not looked at: inside jax.jit they have no values
    if ids.dtype.kind not in "iu":
        raise UserError(f"{what} are integers; got {ids.dtype}. Convert them: ids.astype(int).")
    if ids.min() < lowest or ids.max() >= config.vocab_size:
        ignored = "; a target of -1 does not count" if lowest < 0 else ""
        raise UserError(
            f"{what} are 0 to {config.vocab_size - 1}{ignored}; got {ids.min()} to {ids.max()}. Take the "
            f"tokenizer of this model."
        )
