r"""Cross-entropy of probabilities, for one-hot or soft targets, in nats, averaged over the N rows.

$$L = -\frac1N\sum_n\sum_i y_{ni}\,\log\hat y_{ni},\quad d\hat y_{ni} = -\frac1N\,\frac{y_{ni}}{\hat y_{ni}}$$

Where the target is zero the term is zero, also for a probability of zero. A probability of zero where the
target is not would be an infinite loss; such probabilities count as the smallest normal number of their
type, so that the loss is large and finite. To train, prefer `softmax_cross_entropy`, which never forms the
quotient.

Source: Shannon, "A mathematical theory of communication" (1948); Good, "Rational decisions" (1952).
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

from handgrad.shapes import Array, Float


class Saved(NamedTuple):
    probs: Float[Array, "*B D"]
    target: Float[Array, "*B D"]


def forward(probs: Float[Array, "*B D"], *, target: Float[Array, "*B D"]) -> tuple[Float[Array, ""], Saved]:
    xp = probs.__array_namespace__()
    probs = xp.maximum(probs, xp.finfo(probs.dtype).smallest_normal)
    n_rows = probs.size // probs.shape[-1]
    return -xp.sum(target * xp.log(probs)) / n_rows, Saved(probs, target)


def backward(dloss: Float[Array, ""] | float, saved: Saved) -> tuple[Float[Array, "*B D"]]:
    probs, target = saved
    n_rows = probs.size // probs.shape[-1]
    return (-dloss / n_rows * target / probs,)


def cases(rng: Any) -> Iterator[dict[str, Any]]:
    probs, target = rng.dirichlet([2.0] * 5, size=(2, 3)), rng.dirichlet([1.0] * 5, size=(2, 3))
    yield {"probs": probs, "target": target}
    one_hot = 1.0 * (target == target.max(axis=-1, keepdims=True))
    yield {"probs": probs, "target": one_hot}
