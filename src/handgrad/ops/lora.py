r"""LoRA, low-rank adaptation: a weight that stays as it is, and a product of two narrow matrices added to it.

$$W' = W + s\,A\,B,\qquad A\in\mathbb R^{d_{in}\times r},\quad B\in\mathbb R^{r\times d_{out}}$$

so that $y = x\,W' = x\,W + s\,(x A)\,B$. $W$ is frozen: only $A$ and $B$ are learned, $r\,(d_{in}+d_{out})$
numbers instead of $d_{in}\,d_{out}$. $B$ begins at zero, and with it $W' = W$.

Backward. $W'_{ij} = W_{ij} + s\sum_k A_{ik} B_{kj}$, hence
$\partial L/\partial A_{ik} = s\sum_j dW'_{ij} B_{kj}$, and for $B$ likewise:

$$dA = s\,dW' B^\top,\qquad dB = s\,A^\top dW'$$

With $dW' = x^\top dy$ these are the gradients of the second form, $s\,x^\top(dy\,B^\top)$ and
$s\,(x A)^\top dy$: the order of the products is all that differs.

Source: Hu et al., "LoRA: Low-rank adaptation of large language models" (2021), arXiv:2106.09685.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

from handgrad.shapes import Array, Float


class Saved(NamedTuple):
    a: Float[Array, "M R"]
    b: Float[Array, "R N"]
    scale: float


def forward(
    a: Float[Array, "M R"], b: Float[Array, "R N"], *, weight: Float[Array, "M N"], scale: float = 1.0
) -> tuple[Float[Array, "M N"], Saved]:
    return weight + scale * a.__array_namespace__().matmul(a, b), Saved(a, b, scale)


def backward(dweight: Float[Array, "M N"], saved: Saved) -> tuple[Float[Array, "M R"], Float[Array, "R N"]]:
    a, b, scale = saved
    xp = dweight.__array_namespace__()
    return scale * xp.matmul(dweight, b.T), scale * xp.matmul(a.T, dweight)


def cases(rng: Any) -> Iterator[dict[str, Any]]:
    weight, a, b = (rng.normal(size=shape) for shape in ((5, 4), (5, 2), (2, 4)))
    yield {"a": a, "b": b, "weight": weight, "scale": 0.5}
    yield {"a": rng.normal(size=(3, 1)), "b": rng.normal(size=(1, 6)), "weight": rng.normal(size=(3, 6))}
