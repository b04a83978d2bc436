"""Every op and every optimizer against PyTorch: written there independently, differentiated by autograd."""

import copy
import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from handgrad import ops, optim, tree
from handgrad.parameters import Linear, RMSNorm

torch = pytest.importorskip("torch", reason="PyTorch is the oracle: install the extra [oracles]")
F = torch.nn.functional

TOLERANCE = 1e-9
"""Far above the rounding of a few hundred terms in float64 (1e-13), far below any difference of formula."""


def mask_of(rng: np.random.Generator, shape: tuple[int, ...], rate: float) -> Any:
    """What dropout keeps: the op's own numbers, drawn from a copy of its generator."""
    return torch.from_numpy(rng.random(tuple(shape)) >= rate)


def activate(x: Any, alpha: Any = None, *, name: str) -> Any:
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
    return torch.einsum("bhts,bhsk->bhtk", probs * mask_of(rng, probs.shape, dropout) / (1 - dropout), v)


def drop(x: Any, *, rate: float, rng: Any) -> Any:
    return F.dropout(x, p=0.0) if rng is None else x * mask_of(rng, x.shape, rate) / (1 - rate)


def affine(x: Any, weight: Any, bias: Any = None) -> Any:
    return F.linear(x, weight.T, bias)


def feed_forward(
    x: Any, up: Linear, down: Linear, gate: Any = None, alpha: Any = None, *, activation: str = "relu"
) -> Any:
    z = affine(x, *up)
    h = activate(z if gate is None else affine(x, *gate), alpha, name=activation)
    if gate is not None:
        h = h * z
    return affine(h, *down)


def linear_stack(x: Any, layers: Any, *, activation: str = "tanh", activate_last: bool = False) -> Any:
    for layer in layers[:-1]:
        x = activate(affine(x, *layer), name=activation)
    x = affine(x, *layers[-1])
    return activate(x, name=activation) if activate_last else x


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
        return affine(x, *projection).unflatten(-1, (n, -1)).transpose(1, 2)

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
    return affine(y.transpose(1, 2).flatten(-2), *output)


def next_token_loss(x, weight, bias, targets, *, tied=False):
    logits = F.linear(x, weight if tied else weight.T, bias)
    return F.cross_entropy(logits.flatten(0, -2), targets.flatten(), ignore_index=-1)


PEERS: dict[str, Callable[..., Any]] = {
    "activation": activate,
    "attention": attention,
    "cross_entropy": lambda probs, targets: -torch.xlogy(targets, probs).sum(-1).mean(),
    "dropout": drop,
    "embedding": lambda weight, token_ids, *, scale=1.0: scale * F.embedding(token_ids, weight),
    "erf": lambda x: torch.erf(x),
    "feed_forward": feed_forward,
    "gated": lambda gate, up, alpha=None, *, activation: activate(gate, alpha, name=activation) * up,
    "gelu": lambda x: F.gelu(x),
    "gelu_tanh": lambda x: F.gelu(x, approximate="tanh"),
    "layer_norm": lambda x, gamma, beta=None, *, eps=1e-5: F.layer_norm(x, gamma.shape, gamma, beta, eps),
    "leaky_relu": lambda x, *, alpha=0.01: F.leaky_relu(x, alpha),
    "learned_position": lambda x, weight, *, offset=0: (
        x + F.embedding(offset + torch.arange(x.shape[-2]), weight)
    ),
    "linear": affine,
    "linear_stack": linear_stack,
    "lora": lambda a, b, *, weight, scale=1.0: torch.addmm(weight, a, b, alpha=scale),
    "mse": lambda prediction, targets: F.mse_loss(prediction, targets),
    "multi_head_attention": multi_head_attention,
    "next_token_loss": next_token_loss,
    "prelu": prelu,
    "relu": lambda x: F.relu(x),
    "relu_squared": lambda x: F.relu(x).square(),
    "residual": lambda x, h, *, dropout=0.0, rng=None: torch.add(x, drop(h, rate=dropout, rng=rng)),
    "rms_norm": lambda x, gamma, *, eps=1e-5: F.rms_norm(x, gamma.shape, gamma, eps),
    "rope": rope,
    "sigmoid": lambda x: torch.sigmoid(x),
    "silu": lambda x: F.silu(x),
    "sinusoidal_position": sinusoidal_position,
    "softmax": lambda x: F.softmax(x, dim=-1),
    "softmax_cross_entropy": lambda logits, targets, *, ignore=-1: F.cross_entropy(
        logits.flatten(0, -2), targets.flatten(), ignore_index=ignore
    ),
    "tanh": lambda x: torch.tanh(x),
    "unembedding": lambda x, weight: F.linear(x, weight),
}


def test_every_op_has_a_peer():
    assert PEERS.keys() == ops.ALL.keys()


def tracked(value: Any) -> Iterator[Any]:
    """Every tensor of `value`, in order, from now on followed by autograd."""
    if isinstance(value, torch.Tensor):
        yield value.requires_grad_()
    elif isinstance(value, tuple | list):
        for child in value:
            yield from tracked(child)


def test_values_and_gradients_are_those_of_torch(case, op, inputs, differentiable, rng):
    theirs = {name: tree.map(torch.tensor, value) for name, value in copy.deepcopy(inputs).items()}
    leaves = [tensor for name in differentiable for tensor in tracked(theirs.get(name))]

    y, saved = op.forward(**inputs)
    dy = np.asarray(rng.normal(size=y.shape))
    their_y = PEERS[case[0]](**theirs)
    assert their_y.dtype == torch.float64
    np.testing.assert_allclose(y, their_y.detach().numpy(), rtol=TOLERANCE, atol=TOLERANCE)

    gradients = tree.leaves(op.backward(dy, saved))
    for ours, gradient in zip(gradients, torch.autograd.grad(their_y, leaves, torch.tensor(dy)), strict=True):
        np.testing.assert_allclose(ours, gradient.numpy(), rtol=TOLERANCE, atol=TOLERANCE)


OPTIMIZERS = {
    "gradient_descent": (optim.gradient_descent, torch.optim.SGD, {}, {}),
    "momentum": (optim.momentum, torch.optim.SGD, {"beta": 0.8}, {"momentum": 0.8}),
    "adam": (
        optim.adam,
        torch.optim.Adam,
        {"beta1": 0.8, "beta2": 0.95, "eps": 1e-6},
        {"betas": (0.8, 0.95), "eps": 1e-6},
    ),
    "adam by default": (optim.adam, torch.optim.Adam, {}, {}),
    "adamw": (
        optim.adamw,
        torch.optim.AdamW,
        {"beta1": 0.8, "beta2": 0.95, "weight_decay": 0.1},
        {"betas": (0.8, 0.95), "weight_decay": 0.1},
    ),
    "adamw by default": (optim.adamw, torch.optim.AdamW, {}, {}),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_fifty_steps_of_an_optimizer_are_those_of_torch(name, rng):
    ours, theirs, settings, their_settings = OPTIMIZERS[name]
    weights = rng.normal(size=(5, 3))
    peer = torch.nn.Parameter(torch.tensor(weights))
    optimizer = theirs([peer], lr=0.03, **their_settings)
    state = ours.init(weights)

    for _ in range(50):
        sizes = 10.0 ** rng.uniform(-4, 1, size=(5, 3))
        gradient = sizes * rng.normal(size=(5, 3))
        weights, state = ours.update(weights, gradient, state, learning_rate=0.03, **settings)
        peer.grad = torch.tensor(gradient)
        optimizer.step()
        # the same few operations a step, each rounding at 1e-16, fifty times
        np.testing.assert_allclose(weights, peer.detach().numpy(), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("length", [0.0, 0.5, 0.999, 1.001, 30.0])
def test_clipping_is_that_of_torch(length, rng):
    gradient = rng.normal(size=20)
    gradient *= length / np.linalg.norm(gradient)
    peer = torch.nn.Parameter(torch.zeros(20, dtype=torch.float64))
    peer.grad = torch.tensor(gradient)
    their_norm = float(torch.nn.utils.clip_grad_norm_([peer], 1.0))

    clipped, norm = optim.clip.by_global_norm(gradient, 1.0)

    assert norm == pytest.approx(their_norm, rel=1e-12)
    slack = 1e-6 / length if length > 1 else 0.0  # torch adds 1e-6 to the norm it divides by
    expected = peer.grad.numpy() * (1 + slack)
    np.testing.assert_allclose(clipped, expected, rtol=1e-12, atol=1e-12)
