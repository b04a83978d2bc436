r"""Cross-entropy of probabilities, for one-hot or soft targets, in nats, averaged over the N rows.

$$L = -\frac1N\sum_n\sum_i t_{ni}\,\log p_{ni},\qquad
dp_{ni} = -\frac1N\,\frac{t_{ni}}{p_{ni}},\qquad
dt_{ni} = -\frac1N\,\log p_{ni}$$

The targets $t$ are usually data, and their gradient is left unused. Where a target is zero its term is zero,
also for a probability of zero. A probability of zero where the target is not would make the loss infinite:
such a probability counts as the smallest normal number of its type, so the loss is large and finite. To
train, prefer `softmax_cross_entropy`, which never forms the quotient.

Source: Shannon, "A mathematical theory of communication" (1948); Good, "Rational decisions" (1952).
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

from handgrad.shapes import Array, Float


class Saved(NamedTuple):
    probs: Float[Array, "*B D"]
    targets: Float[Array, "*B D"]


def forward(probs: Float[Array, "*B D"], targets: Float[Array, "*B D"]) -> tuple[Float[Array, ""], Saved]:
    xp = probs.__array_namespace__()
    probs = xp.maximum(probs, xp.finfo(probs.dtype).smallest_normal)
    n_rows = probs.size // probs.shape[-1]
    return -xp.sum(targets * xp.log(probs)) / n_rows, Saved(probs, targets)


def backward(
    dloss: Float[Array, ""] | float, saved: Saved
) -> tuple[Float[Array, "*B D"], Float[Array, "*B D"]]:
    probs, targets = saved
    share = -dloss / (probs.size // probs.shape[-1])
    return share * targets / probs, share * probs.__array_namespace__().log(probs)


def cases(rng: Any) -> Iterator[dict[str, Any]]:
    probs, targets = rng.dirichlet([2.0] * 5, size=(2, 3)), rng.dirichlet([1.0] * 5, size=(2, 3))
    yield {"probs": probs, "targets": targets}
    one_hot = 1.0 * (targets == targets.max(axis=-1, keepdims=True))
    yield {"probs": probs, "targets": one_hot}
