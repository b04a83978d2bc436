r"""Multi-head self-attention: attentions side by side, each on its own projections, mixed by a last product.

$$Q = XW_Q,\quad K = XW_K,\quad V = XW_V,\qquad Y = \operatorname{concat}\big(\operatorname{head}_1,\dots,
\operatorname{head}_H\big)\,W_O,\quad \operatorname{head}_h = \operatorname{attention}(Q_h, K_h, V_h)$$

$Q_h$ is the $h$-th slice of `d_head` columns; side by side, the heads need not be as wide as $X$. Optionally
each head's queries and keys are normalized (RMSNorm), and then rotated by their position (RoPE). `past` holds
the keys and values of earlier positions, which are constants here.

Backward: the same steps in reverse, each by its own backward. Concatenation only moves numbers, and so does
its backward. $X$ feeds three projections, so its gradient is a sum of three:

$$dX = dQ\,W_Q^\top + dK\,W_K^\top + dV\,W_V^\top$$

Source: Vaswani et al. (2017), arXiv:1706.03762. Normalized queries and keys: Dehghani et al. (2023),
arXiv:2302.05442.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

from handgrad.ops import attention, linear, rms_norm, rope
from handgrad.ops.rope import RopeScaling
from handgrad.parameters import Linear, RMSNorm
from handgrad.shapes import Array, Float, UniformSource, merge_heads, split_heads


class Saved(NamedTuple):
    query: linear.Saved
    key: linear.Saved
    value: linear.Saved
    query_norm: rms_norm.Saved | None
    key_norm: rms_norm.Saved | None
    query_turn: rope.Saved | None
    key_turn: rope.Saved | None
    attention: attention.Saved
    output: linear.Saved


def forward(
    x: Float[Array, "B T D"],
    query: Linear,
    key: Linear,
    value: Linear,
    output: Linear,
    query_norm: RMSNorm | None = None,
    key_norm: RMSNorm | None = None,
    *,
    n_heads: int,
    n_kv_heads: int,
    rope_base: float | None = None,
    rope_scaling: RopeScaling | None = None,
    norm_eps: float = 1e-5,
    causal: bool = True,
    mask: Array | None = None,
    past: tuple[Float[Array, "B G P K"], Float[Array, "B G P K"]] | None = None,
    dropout: float = 0.0,
    rng: UniformSource | None = None,
) -> tuple[Float[Array, "B T D"], Saved]:
    q, saved_q = linear.forward(x, *query)
    k, saved_k = linear.forward(x, *key)
    v, saved_v = linear.forward(x, *value)
    q, k, v = split_heads(q, n_heads), split_heads(k, n_kv_heads), split_heads(v, n_kv_heads)

    q_norm = k_norm = q_turn = k_turn = None
    if query_norm is not None and key_norm is not None:
        q, q_norm = rms_norm.forward(q, *query_norm, eps=norm_eps)
        k, k_norm = rms_norm.forward(k, *key_norm, eps=norm_eps)
    if rope_base is not None:
        offset = 0 if past is None else past[0].shape[2]
        q, q_turn = rope.forward(q, offset=offset, base=rope_base, scaling=rope_scaling)
        k, k_turn = rope.forward(k, offset=offset, base=rope_base, scaling=rope_scaling)
    if past is not None:
        xp = x.__array_namespace__()
        k, v = xp.concat([past[0], k], axis=2), xp.concat([past[1], v], axis=2)

    y, saved_a = attention.forward(q, k, v, causal=causal, mask=mask, dropout=dropout, rng=rng)
    y, saved_o = linear.forward(merge_heads(y), *output)
    return y, Saved(saved_q, saved_k, saved_v, q_norm, k_norm, q_turn, k_turn, saved_a, saved_o)


def backward(
    dy: Float[Array, "B T D"], saved: Saved
) -> tuple[Float[Array, "B T D"], Linear, Linear, Linear, Linear, RMSNorm | None, RMSNorm | None]:
    dy, *doutput = linear.backward(dy, saved.output)
    dq, dk, dv = attention.backward(split_heads(dy, saved.attention.q.shape[1]), saved.attention)

    n_new = dq.shape[2]
    dk, dv = dk[:, :, -n_new:, :], dv[:, :, -n_new:, :]  # of what attention saw, the past is constant
    if saved.query_turn is not None and saved.key_turn is not None:
        (dq,) = rope.backward(dq, saved.query_turn)
        (dk,) = rope.backward(dk, saved.key_turn)
    dq_norm = dk_norm = None
    if saved.query_norm is not None and saved.key_norm is not None:
        dq, *dq_norm = rms_norm.backward(dq, saved.query_norm)
        dk, *dk_norm = rms_norm.backward(dk, saved.key_norm)

    dx_q, *dquery = linear.backward(merge_heads(dq), saved.query)
    dx_k, *dkey = linear.backward(merge_heads(dk), saved.key)
    dx_v, *dvalue = linear.backward(merge_heads(dv), saved.value)
    return (
        dx_q + dx_k + dx_v,
        *(Linear(*d) for d in (dquery, dkey, dvalue, doutput)),
        *(None if d is None else RMSNorm(*d) for d in (dq_norm, dk_norm)),
    )


def cases(rng: Any) -> Iterator[dict[str, Any]]:
    D, H, G, K = 12, 4, 2, 4

    def projection(m: int, n: int, bias: bool) -> Linear:
        return Linear(rng.normal(size=(m, n)) / m**0.5, rng.normal(size=n) if bias else None)

    def inputs(G: int, bias: bool) -> dict[str, Any]:
        widths = {"query": (D, H * K), "key": (D, G * K), "value": (D, G * K), "output": (H * K, D)}
        projections = {name: projection(*width, bias) for name, width in widths.items()}
        return {"x": rng.normal(size=(2, 5, D)), **projections, "n_heads": H, "n_kv_heads": G}

    yield inputs(H, bias=True)
    norms = {"query_norm": RMSNorm(rng.normal(size=K)), "key_norm": RMSNorm(rng.normal(size=K))}
    dropped = {"dropout": 0.2, "rng": rng.spawn(1)[0]}
    yield {**inputs(G, bias=False), **norms, "norm_eps": 0.1, "rope_base": 100.0, **dropped}
    past = (rng.normal(size=(2, G, 3, K)), rng.normal(size=(2, G, 3, K)))
    yield {**inputs(G, bias=False), "rope_base": 100.0, "past": past}
    scaling = RopeScaling("llama3", 4.0, original_context_length=20)
    biased = {**inputs(G, bias=True), "output": projection(H * K, D, bias=False)}
    yield {**biased, "rope_base": 30.0, "rope_scaling": scaling}
