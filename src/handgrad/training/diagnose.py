"""Where a number that is not finite began: the first array of the forward pass, or of the backward, that
holds one."""

import numpy as np

from handgrad import tree
from handgrad.engines.reference import Training
from handgrad.shapes import UniformSource


def first_not_finite(
    training: Training, token_ids: np.ndarray, targets: np.ndarray, rng: UniformSource | None
) -> str:
    """The name of the first such array, in the order of computation: `blocks.2.attention.attention.probs.y`.

    `rng` must stand where it stood before the step, so that dropout falls as it fell.
    """
    with np.errstate(all="ignore"):
        _, saved = training.model.forward(training.weights, token_ids, targets, rng=rng)
        for name, array in tree.named_leaves(saved.transformer):
            if not np.all(np.isfinite(array)):
                return f"the forward pass at {name}"
        (gradients,) = training.model.backward(1.0, saved)
        for name, array in reversed(list(tree.named_leaves(gradients))):
            if not np.all(np.isfinite(array)):
                return f"the backward pass at {name}"
    return "the loss itself"
