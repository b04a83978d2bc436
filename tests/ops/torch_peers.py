"""Every op in PyTorch, written independently: what its page shows beside ours, and what tests compare to it.

Inputs and settings have the op's names. Gradients are autograd's.
"""

import math
from typing import Any

import numpy as np
import torch

from handgrad.parameters import Linear, RMSNorm

F = torch.nn.functional


def kept(rng: np.random.Generator, shape: tuple[int, ...], rate: float) -> Any:
    """What dropout keeps: the op's own numbers, drawn from a copy of its generator."""
    return torch.from_numpy(rng.random(tuple(shape)) >= rate)


def activation(x: Any, alpha: Any = None, *, name: str) -> Any:
    return {
        "sigmoid": torch.sigmoid,
        "tanh": torch.tanh,
        "relu": F.relu,
        "leaky_relu": F.leaky_relu,
        "prelu": lambda x: prelu(x, alpha),
        "gelu": F.gelu,
        "gelu_tanh": lambda x: F.gelu(x, approximate="tanh"),
        "silu": F.silu,
        "relu_squared": lambda x: F.relu(x).square(),
        "softmax": lambda x: F.softmax(x, dim=-1),
    }[name](x)


act = activation  # also where a setting bears the name


def prelu(x: Any, alpha: Any) -> Any:
    return F.prelu(x.reshape(-1, x.shape[-1]), alpha).reshape(x.shape)  # torch's channels are the second axis


def attention(
    q: Any, k: Any, v: Any, *, causal: bool = True, mask: Any = None, dropout: float = 0.0, rng: Any = None
) -> Any:
    T, S = q.shape[2], k.shape[2]
    allowed = torch.ones(T, S, dtype=torch.bool)
    if causal:
        allowed = allowed.tril(S - T)  # torch's own is_causal counts from the first key, not from the last
    if mask is not None:
        added = torch.zeros((), dtype=q.dtype).masked_fill(~allowed, -math.inf)
        allowed = allowed & mask if mask.dtype == torch.bool else added + mask
    if rng is None:
        return F.scaled_dot_product_attention(q, k, v, attn_mask=allowed, enable_gqa=True)
    repeats = q.shape[1] // k.shape[1]
    k, v = (x.repeat_interleave(repeats, dim=1) for x in (k, v))
    scores = torch.einsum("bhtk,bhsk->bhts", q, k) / math.sqrt(q.shape[-1])
    probs = scores.masked_fill(~allowed, -math.inf).softmax(dim=-1)
    return torch.einsum("bhts,bhsk->bhtk", probs * kept(rng, probs.shape, dropout) / (1 - dropout), v)


def dropout(x: Any, *, rate: float, rng: Any) -> Any:
    return F.dropout(x, p=0.0) if rng is None else x * kept(rng, x.shape, rate) / (1 - rate)


drop = dropout


def linear(x: Any, weight: Any, bias: Any = None) -> Any:
    return F.linear(x, weight.T, bias)


def feed_forward(
    x: Any, up: Linear, down: Linear, gate: Any = None, alpha: Any = None, *, activation: str = "relu"
) -> Any:
    z = linear(x, *up)
    h = act(z if gate is None else linear(x, *gate), alpha, name=activation)
    if gate is not None:
        h = h * z
    return linear(h, *down)


def linear_stack(x: Any, layers: Any, *, activation: str = "tanh", activate_last: bool = False) -> Any:
    for layer in layers[:-1]:
        x = act(linear(x, *layer), name=activation)
    x = linear(x, *layers[-1])
    return act(x, name=activation) if activate_last else x


def slowed(frequency: Any, scaling: Any) -> Any:
    """As transformers does it: wavelengths are compared, and each case has its formula."""
    if scaling is None:
        return frequency
    divided = frequency / scaling.factor
    if scaling.kind == "linear":
        return divided
    length, low, high = (
        scaling.original_context_length, scaling.low_frequency_factor, scaling.high_frequency_factor
    )  # fmt: skip
    wavelength = 2 * math.pi / frequency
    smooth = (length / wavelength - low) / (high - low)
    between = (1 - smooth) * divided + smooth * frequency
    lowered = torch.where(wavelength > length / low, divided, frequency)
    is_between = (wavelength <= length / low) & (wavelength >= length / high)
    return torch.where(is_between, between, lowered)


def rope(x: Any, *, offset: int = 0, base: float = 10_000.0, scaling: Any = None) -> Any:
    """As Llama's own code does it: a pair of components is a complex number, a turn is a product."""
    T, K = x.shape[-2:]
    frequency = slowed(base ** (-torch.arange(0, K, 2, dtype=torch.float64) / K), scaling)
    angle = torch.outer(torch.arange(offset, offset + T, dtype=torch.float64), frequency)
    pairs = torch.view_as_complex(x.reshape(*x.shape[:-1], K // 2, 2))
    return torch.view_as_real(pairs * torch.polar(torch.ones_like(angle), angle)).flatten(-2)


def sinusoidal_position(x: Any, *, offset: int = 0, base: float = 10_000.0) -> Any:
    T, D = x.shape[-2:]
    code = torch.empty(T, D, dtype=torch.float64)
    for row in range(T):
        for i in range(D):
            angle = (offset + row) / math.pow(base, 2 * (i // 2) / D)
            code[row, i] = math.cos(angle) if i % 2 else math.sin(angle)
    return x + code


def multi_head_attention(
    x: Any,
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
    rope_scaling: Any = None,
    norm_eps: float = 1e-5,
    causal: bool = True,
    mask: Any = None,
    past: Any = None,
    dropout: float = 0.0,
    rng: Any = None,
) -> Any:
    def heads(projection: Linear, n: int) -> Any:
        return linear(x, *projection).unflatten(-1, (n, -1)).transpose(1, 2)

    def placed(h: Any, norm: RMSNorm | None) -> Any:
        if norm is not None:
            h = F.rms_norm(h, norm.gamma.shape, norm.gamma, norm_eps)
        return h if rope_base is None else rope(h, offset=n_past, base=rope_base, scaling=rope_scaling)

    n_past = 0 if past is None else past[0].shape[2]
    q, k = placed(heads(query, n_heads), query_norm), placed(heads(key, n_kv_heads), key_norm)
    v = heads(value, n_kv_heads)
    if past is not None:
        k, v = torch.cat([past[0], k], dim=2), torch.cat([past[1], v], dim=2)
    y = attention(q, k, v, causal=causal, mask=mask, dropout=dropout, rng=rng)
    return linear(y.transpose(1, 2).flatten(-2), *output)


def next_token_loss(x, weight, bias, targets, *, tied=False):
    logits = F.linear(x, weight if tied else weight.T, bias)
    return F.cross_entropy(logits.flatten(0, -2), targets.flatten(), ignore_index=-1)


def cross_entropy(probs: Any, targets: Any) -> Any:
    return -torch.xlogy(targets, probs).sum(-1).mean()


def embedding(weight: Any, token_ids: Any, *, scale: float = 1.0) -> Any:
    return scale * F.embedding(token_ids, weight)


def erf(x: Any) -> Any:
    return torch.erf(x)


def gated(gate: Any, up: Any, alpha: Any = None, *, activation: str) -> Any:
    return act(gate, alpha, name=activation) * up


def gelu(x: Any) -> Any:
    return F.gelu(x)


def gelu_tanh(x: Any) -> Any:
    return F.gelu(x, approximate="tanh")


def layer_norm(x: Any, gamma: Any, beta: Any = None, *, eps: float = 1e-5) -> Any:
    return F.layer_norm(x, gamma.shape, gamma, beta, eps)


def leaky_relu(x: Any, *, alpha: float = 0.01) -> Any:
    return F.leaky_relu(x, alpha)


def learned_position(x: Any, weight: Any, *, offset: int = 0) -> Any:
    return x + F.embedding(offset + torch.arange(x.shape[-2]), weight)


def lora(a: Any, b: Any, *, weight: Any, scale: float = 1.0) -> Any:
    return torch.addmm(weight, a, b, alpha=scale)


def mse(prediction: Any, targets: Any) -> Any:
    return F.mse_loss(prediction, targets)


def relu(x: Any) -> Any:
    return F.relu(x)


def relu_squared(x: Any) -> Any:
    return F.relu(x).square()


def residual(x: Any, h: Any, *, dropout: float = 0.0, rng: Any = None) -> Any:
    return x + drop(h, rate=dropout, rng=rng)


def rms_norm(x: Any, gamma: Any, *, eps: float = 1e-5) -> Any:
    return F.rms_norm(x, gamma.shape, gamma, eps)


def sigmoid(x: Any) -> Any:
    return torch.sigmoid(x)


def silu(x: Any) -> Any:
    return F.silu(x)


def softmax(x: Any) -> Any:
    return F.softmax(x, dim=-1)


def softmax_cross_entropy(logits: Any, targets: Any, *, ignore: int = -1) -> Any:
    return F.cross_entropy(logits.flatten(0, -2), targets.flatten(), ignore_index=ignore)


def tanh(x: Any) -> Any:
    return torch.tanh(x)


def unembedding(x: Any, weight: Any) -> Any:
    return F.linear(x, weight)
