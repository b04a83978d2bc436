"""Finds where a number that is not finite began: the first array, forward or backward, that holds one."""

import numpy as np

from handgrad import parameters as p
from handgrad import tree
from handgrad.model.config import ModelConfig
from handgrad.model.transformer import LanguageModel, Transformer


def first(config: ModelConfig, weights: p.Transformer, token_ids: np.ndarray, targets: np.ndarray) -> str:
    """The first such array in the order of computation, as "the forward pass at blocks.2.attention.output.x".

    The formulas themselves run the batch again, without dropout.
    """
    model = LanguageModel(Transformer(config))
    with np.errstate(all="ignore"):
        _, saved = model.forward(weights, token_ids, targets)
        for name, array in tree.named_leaves(saved.transformer):
            if not np.all(np.isfinite(array)):
                return f"the forward pass at {name}"
        (gradients,) = model.backward(1.0, saved)
        for name, array in reversed(list(tree.named_leaves(gradients))):
            if not np.all(np.isfinite(array)):
                return f"the backward pass at {name}"
    return "no layer, when run again without dropout"
