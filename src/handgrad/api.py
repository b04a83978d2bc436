"""What a researcher asks first: the loss of a batch, and every gradient by name."""

import numpy as np

from handgrad import parameters as p
from handgrad import tree
from handgrad.errors import UserError
from handgrad.model.config import ModelConfig
from handgrad.model.transformer import LanguageModel, Transformer
from handgrad.shapes import UniformSource


def loss_and_gradients(
    config: ModelConfig,
    weights: p.Transformer,
    token_ids: np.ndarray,
    targets: np.ndarray,
    *,
    rng: UniformSource | None = None,
) -> tuple[float, dict[str, np.ndarray]]:
    """The mean loss, in nats a token, and its gradient with respect to every weight, by dotted name.

    `token_ids` and `targets` are integers (B, T); targets of -1 do not count. `rng` turns dropout on. The
    names are those of checkpoints: `blocks.0.attention.query.weight`. Raises `UserError` for ids that the
    model cannot read.
    """
    _check(config, token_ids, targets)
    model = LanguageModel(Transformer(config))
    loss, gradients = model.loss_and_gradients(1.0, weights, token_ids, targets, rng=rng)
    return float(loss), dict(tree.named_leaves(gradients))


def _check(config: ModelConfig, token_ids: np.ndarray, targets: np.ndarray) -> None:
    if token_ids.ndim != 2 or token_ids.shape != targets.shape or not token_ids.size:
        raise UserError(
            f"token_ids and targets are both (batch, positions); got {token_ids.shape} and {targets.shape}. "
            f"For one text, add an axis: token_ids[None]."
        )
    if token_ids.shape[1] > config.context_length:
        raise UserError(
            f"The model attends to {config.context_length} tokens; got {token_ids.shape[1]}. Cut the text."
        )
    if token_ids.min() < 0 or targets.min() < -1 or max(token_ids.max(), targets.max()) >= config.vocab_size:
        raise UserError(
            f"Token ids are 0 to {config.vocab_size - 1}, and a target may be -1: it does not count; got ids "
            f"{token_ids.min()} to {token_ids.max()}, targets {targets.min()} to {targets.max()}."
        )
