r"""Cross-entropy on logits with integer targets, in nats: the loss one trains with, averaged over N targets.

$$L = \frac1N\sum_n\Big(\log\sum_k e^{z_{nk}} - z_{n,t_n}\Big)$$

The largest logit of each row is subtracted first, $\log\sum_k e^{z_k} = m + \log\sum_k e^{z_k-m}$, so logits
of any size are stable. Targets equal to `ignore` do not count; any other that has no logit makes
the loss and the row's gradient NaN.

Backward. $\partial\log\sum_k e^{z_k}/\partial z_j$ is the softmax, and the second term has the derivative one
at the target. The quotient of the plain cross-entropy and the Jacobian of softmax are gone:

$$dz_n = \frac{\operatorname{softmax}(z_n) - \operatorname{onehot}(t_n)}{N}\quad\text{for counted rows,
else } 0$$

Source: Bridle, "Probabilistic interpretation of feedforward classification network outputs" (1990).
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

from handgrad.shapes import Array, Bool, Float, Int


class Saved(NamedTuple):
    probs: Float[Array, "*B V"]
    targets: Int[Array, "*B"]
    counted: Bool[Array, "*B"]


def forward(
    logits: Float[Array, "*B V"], targets: Int[Array, "*B"], *, ignore: int = -1
) -> tuple[Float[Array, ""], Saved]:
    xp = logits.__array_namespace__()
    counted = targets != ignore
    shifted = logits - xp.max(logits, axis=-1, keepdims=True)
    e = xp.exp(shifted)
    total = xp.sum(e, axis=-1, keepdims=True)
    known = (targets >= 0) & (targets < logits.shape[-1])
    index = xp.where(known, targets, 0)[..., None]
    losses = (xp.log(total) - xp.take_along_axis(shifted, index, axis=-1))[..., 0]
    losses = xp.where(known, losses, xp.nan)
    loss = xp.sum(xp.where(counted, losses, 0.0)) / _count(counted, logits.dtype)
    return loss, Saved(e / total, targets, counted)


def backward(dloss: Float[Array, ""] | float, saved: Saved) -> tuple[Float[Array, "*B V"]]:
    probs, targets, counted = saved
    xp = probs.__array_namespace__()
    one_hot = xp.astype(xp.arange(probs.shape[-1]) == targets[..., None], probs.dtype)
    known = (targets >= 0) & (targets < probs.shape[-1])
    share = xp.where(known | ~counted, dloss / _count(counted, probs.dtype), xp.nan)
    return (xp.where(counted[..., None], (probs - one_hot) * share[..., None], 0.0),)


def _count(counted: Bool[Array, "*B"], dtype: Any) -> Float[Array, ""]:
    """N, at least one: where every target is ignored the loss is zero."""
    xp = counted.__array_namespace__()
    return xp.maximum(xp.sum(xp.astype(counted, dtype)), 1.0)


def cases(rng: Any) -> Iterator[dict[str, Any]]:
    yield {"logits": 3 * rng.normal(size=(2, 3, 5)), "targets": rng.integers(5, size=(2, 3))}
    targets = rng.integers(5, size=6)
    targets[[1, 4]] = -1
    yield {"logits": rng.normal(size=(6, 5)), "targets": targets}
