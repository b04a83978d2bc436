"""What a researcher asks first: the loss of a batch, and every gradient by name."""

import numpy as np

from handgrad import parameters as p
from handgrad import tree
from handgrad.model.config import ModelConfig
from handgrad.model.init import require_weights_of
from handgrad.model.inputs import require_batch
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
    require_batch(config, token_ids, targets)
    require_weights_of(config, weights)
    model = LanguageModel(Transformer(config))
    loss, gradients = model.loss_and_gradients(1.0, weights, token_ids, targets, rng=rng)
    return float(loss), dict(tree.named_leaves(gradients))
