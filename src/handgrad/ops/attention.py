r"""Scaled dot-product attention, head by head: each query averages the values, weighted by how keys match.

$$S = \frac{QK^\top}{\sqrt{d_{head}}},\qquad P = \operatorname{softmax}(S),\qquad Y = P\,V$$

- `causal`: no query sees a key after it. With more keys than queries (the cache holds the past), the queries
  are the last positions.
- `mask`: (T, S), or (B, H, T, S) with 1 in place of any size. Booleans allow what is True, floats are added
  to the scores. What is not allowed has the score $-\infty$, hence the probability zero.
- `dropout` applies to $P$.
- Grouped queries: with fewer key-value heads than query heads, neighbouring query heads share one. Its
  gradient is the sum over the heads that share it.

Backward, from the last product to the first; `*` is element by element:

$$dV = P^\top dY,\quad dP = dY\,V^\top,\quad dS = P * \big(dP - \operatorname{rowsum}(dP * P)\big),\quad
dQ = \frac{dS\,K}{\sqrt{d_{head}}},\quad dK = \frac{dS^\top Q}{\sqrt{d_{head}}}$$

$dS$ is the product with the Jacobian of softmax, row by row. Some texts write $\partial Y/\partial Q$ as a
matrix product, "the derivative of softmax times V". That has no meaning: the derivative of a matrix by a
matrix has four indices. What exists is the product above, which begins with $dY$.

Source: Vaswani et al., "Attention is all you need" (2017), arXiv:1706.03762; grouped queries: Ainslie et
al. (2023), arXiv:2305.13245.
"""

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from handgrad.errors import UserError
from handgrad.ops import dropout as dropout_op
from handgrad.ops import softmax
from handgrad.shapes import Array, Bool, Float, UniformSource


class Saved(NamedTuple):
    q: Float[Array, "B H T K"]
    k: Float[Array, "B G S K"]
    v: Float[Array, "B G S K"]
    probs: softmax.Saved
    dropped: Float[Array, "B G R T S"]
    drop: dropout_op.Saved
    scale: float


def forward(
    q: Float[Array, "B H T K"],
    k: Float[Array, "B G S K"],
    v: Float[Array, "B G S K"],
    *,
    causal: bool = True,
    mask: Array | None = None,
    dropout: float = 0.0,
    rng: UniformSource | None = None,
) -> tuple[Float[Array, "B H T K"], Saved]:
    xp = q.__array_namespace__()
    scale = 1.0 / math.sqrt(q.shape[-1])
    scores = (
        xp.matmul(_group(q, k), xp.expand_dims(xp.matrix_transpose(k), axis=2)) * scale
    )  # (B,G,R,T,K) (B,G,1,K,S)
    if causal:
        scores = xp.where(_no_later_key(q, k), scores, -xp.inf)
    if mask is not None:
        scores = _masked(scores, mask, q, k)
    probs, saved_probs = softmax.forward(scores)
    dropped, drop = dropout_op.forward(probs, rate=dropout, rng=rng)
    y = xp.reshape(xp.matmul(dropped, xp.expand_dims(v, axis=2)), q.shape)
    return y, Saved(q, k, v, saved_probs, dropped, drop, scale)


def backward(
    dy: Float[Array, "B H T K"], saved: Saved
) -> tuple[Float[Array, "B H T K"], Float[Array, "B G S K"], Float[Array, "B G S K"]]:
    q, k, v, probs, dropped, drop, scale = saved
    xp = q.__array_namespace__()
    dy = _group(dy, k)
    dv = xp.sum(xp.matmul(xp.matrix_transpose(dropped), dy), axis=2)
    (dprobs,) = dropout_op.backward(xp.matmul(dy, xp.expand_dims(xp.matrix_transpose(v), axis=2)), drop)
    (dscores,) = softmax.backward(dprobs, probs)
    dscores = dscores * scale
    dq = xp.reshape(xp.matmul(dscores, xp.expand_dims(k, axis=2)), q.shape)
    dk = xp.sum(xp.matmul(xp.matrix_transpose(dscores), _group(q, k)), axis=2)
    return dq, dk, dv


def _group(q: Float[Array, "B H T K"], k: Float[Array, "B G S K"]) -> Float[Array, "B G R T K"]:
    """Sort the query heads by the key-value head they share."""
    B, H, T, K = q.shape
    G = k.shape[1]
    return q.__array_namespace__().reshape(q, (B, G, H // G, T, K))


def _no_later_key(q: Float[Array, "B H T K"], k: Float[Array, "B G S K"]) -> Bool[Array, "T S"]:
    xp, T, S = q.__array_namespace__(), q.shape[2], k.shape[2]
    return xp.arange(S)[None, :] <= xp.arange(S - T, S)[:, None]


def _masked(
    scores: Float[Array, "B G R T S"], mask: Array, q: Float[Array, "B H T K"], k: Float[Array, "B G S K"]
) -> Float[Array, "B G R T S"]:
    """The scores under a mask, whose heads are sorted as the queries' are."""
    xp, (B, H, T, _), (_, G, S, _) = scores.__array_namespace__(), q.shape, k.shape
    fits = all(size in (1, full) for size, full in zip(reversed(mask.shape), (S, T, H, B), strict=False))
    if mask.ndim not in (2, 4) or not fits:
        raise UserError(
            f"An attention mask is (queries, keys), here {(T, S)}, or (batch, heads, queries, keys), here "
            f"{(B, H, T, S)}, with 1 in place of any of them; got {tuple(mask.shape)}. Add axes of length 1."
        )
    if mask.ndim == 4:
        heads = (G, H // G) if mask.shape[1] == H else (1, 1)
        mask = xp.reshape(mask, (mask.shape[0], *heads, *mask.shape[2:]))
    if xp.isdtype(mask.dtype, "bool"):
        return xp.where(mask, scores, -xp.inf)
    if xp.isdtype(mask.dtype, "real floating"):
        return scores + xp.astype(mask, scores.dtype)
    raise UserError(
        f"An attention mask is of booleans, True where a key may be seen, or of floats, which are added to "
        f"the scores; got {mask.dtype}. Convert it: mask.astype(bool)."
    )


def cases(rng: Any) -> Iterator[dict[str, Any]]:
    def qkv(H: int, G: int, T: int, S: int) -> dict[str, Any]:
        return {name: rng.normal(size=(2, n, m, 4)) for name, n, m in (("q", H, T), ("k", G, S), ("v", G, S))}

    yield qkv(H=2, G=2, T=5, S=5)
    yield {**qkv(H=4, G=2, T=5, S=5), "dropout": 0.3, "rng": rng.spawn(1)[0]}
    yield qkv(H=2, G=1, T=2, S=6)
    mask = rng.random((3, 6)) < 0.6
    mask[0] = False  # a query that may look at nothing
    yield {**qkv(H=1, G=1, T=3, S=6), "causal": False, "mask": mask}
    added = rng.normal(size=(2, 4, 3, 6))
    added[:, :, :, 4] = -np.inf
    yield {**qkv(H=4, G=2, T=3, S=6), "causal": False, "mask": added}
