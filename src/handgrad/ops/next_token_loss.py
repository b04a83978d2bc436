r"""The end of a language model in training: output head and cross-entropy as one function.

$$L = \operatorname{cross\,entropy}\big(x\,W + b,\ \text{targets}\big),\qquad\text{tied: } x\,W_{emb}^\top$$

It is a unit of its own because its logits, one row of the whole vocabulary a token, can be the largest array
of all, and nobody but the loss needs them: an engine may compute some rows at a time and keep none. Whoever
knows $dL$ beforehand calls `loss_and_gradients`, which needs them once.

Backward: those of its two parts, in reverse.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

from handgrad.ops import linear, softmax_cross_entropy, unembedding
from handgrad.shapes import Array, Float, Int


class Saved(NamedTuple):
    head: linear.Saved | unembedding.Saved
    loss: softmax_cross_entropy.Saved


def forward(
    x: Float[Array, "*B D"],
    weight: Float[Array, "M N"],
    bias: Float[Array, " V"] | None,
    targets: Int[Array, "*B"],
    *,
    tied: bool = False,
) -> tuple[Float[Array, ""], Saved]:
    logits, head = unembedding.forward(x, weight) if tied else linear.forward(x, weight, bias)
    loss, saved_loss = softmax_cross_entropy.forward(logits, targets)
    return loss, Saved(head, saved_loss)


def backward(
    dloss: Float[Array, ""] | float, saved: Saved
) -> tuple[Float[Array, "*B D"], Float[Array, "M N"], Float[Array, " V"] | None]:
    (dlogits,) = softmax_cross_entropy.backward(dloss, saved.loss)
    if isinstance(saved.head, unembedding.Saved):
        return *unembedding.backward(dlogits, saved.head), None
    return linear.backward(dlogits, saved.head)


def loss_and_gradients(
    dloss: Float[Array, ""] | float, *inputs: Any, tied: bool = False
) -> tuple[Float[Array, ""], Float[Array, "*B D"], Float[Array, "M N"], Float[Array, " V"] | None]:
    """Forward and backward at once."""
    loss, saved = forward(*inputs, tied=tied)
    return loss, *backward(dloss, saved)


def cases(rng: Any) -> Iterator[dict[str, Any]]:
    x, targets = rng.normal(size=(2, 3, 4)), rng.integers(5, size=(2, 3))
    yield {"x": x, "weight": rng.normal(size=(5, 4)), "bias": None, "targets": targets, "tied": True}
    targets = rng.integers(5, size=(2, 3))
    targets[0, 1] = -1
    yield {"x": x, "weight": rng.normal(size=(4, 5)), "bias": rng.normal(size=5), "targets": targets}
