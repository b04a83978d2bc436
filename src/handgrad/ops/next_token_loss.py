r"""The end of a language model in training: output head and cross-entropy as one function.

$$L = \operatorname{cross\,entropy}\big(x\,W + b,\ \text{targets}\big),\qquad\text{tied: } x\,W_{emb}^\top$$

The two are one op because of the logits. A token's logits are as many as the vocabulary, so they can be the
largest array of all, and only the loss needs them. An engine may therefore compute some rows at a time and
keep none. `loss_and_gradients` is for callers that know $dL$ beforehand: it computes the logits only once.

Backward: that of the cross-entropy, then that of the head.
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
