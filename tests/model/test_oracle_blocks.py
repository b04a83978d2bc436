"""Every kind of block against the same one written with torch: value and all gradients in float64 to 1e-9."""

import copy
import math

import numpy as np
import pytest

from handgrad import tree
from handgrad.model.cases import BLOCKS, every_case

torch = pytest.importorskip("torch", reason="needs torch: pip install handgrad[oracles]")
F = torch.nn.functional

ACTIVATIONS = {
    "relu": F.relu,
    "gelu": F.gelu,
    "gelu_tanh": lambda x: F.gelu(x, approximate="tanh"),
    "relu_squared": lambda x: F.relu(x) ** 2,
    "silu": F.silu,
}


def norm(x, weights, config):
    if config.norm == "rms_norm":
        return F.rms_norm(x, x.shape[-1:], weights.gamma, config.norm_eps)
    return F.layer_norm(x, x.shape[-1:], weights.gamma, weights.beta, config.norm_eps)


def linear(x, weights):
    return F.linear(x, weights.weight.T, weights.bias)


def dropout(x, config, rng):
    if config.dropout == 0:
        return x
    return x * torch.tensor(rng.random(tuple(x.shape)) >= config.dropout) / (1 - config.dropout)


def rotated(x, config):
    """RoPE as a product of complex numbers: each pair of components is one, turned by its angle."""
    T, K = x.shape[-2:]
    frequency = [slowed(config.rope_base ** (-2 * i / K), config.rope_scaling) for i in range(K // 2)]
    angle = torch.outer(torch.arange(T).double(), torch.tensor(frequency, dtype=torch.float64))
    pairs = torch.view_as_complex(x.reshape(*x.shape[:-1], K // 2, 2))
    return torch.view_as_real(pairs * torch.polar(torch.ones_like(angle), angle)).reshape(x.shape)


def slowed(frequency, scaling):
    """As Meta published it for Llama 3.1: by wavelengths, case by case."""
    if scaling is None:
        return frequency
    wavelength, length = 2 * math.pi / frequency, scaling.original_context_length
    if wavelength < length / scaling.high_frequency_factor:
        return frequency
    if wavelength > length / scaling.low_frequency_factor:
        return frequency / scaling.factor
    low, high = scaling.low_frequency_factor, scaling.high_frequency_factor
    smooth = (length / wavelength - low) / (high - low)
    return (1 - smooth) * frequency / scaling.factor + smooth * frequency


def attention(x, weights, config, rng):
    B, T, _ = x.shape
    q, k, v = (
        linear(x, part).view(B, T, -1, config.head_width).transpose(1, 2)
        for part in (weights.query, weights.key, weights.value)
    )
    if config.qk_norm:
        q, k = (
            F.rms_norm(t, t.shape[-1:], scale.gamma, 1e-5)
            for t, scale in ((q, weights.query_norm), (k, weights.key_norm))
        )
    if config.position == "rope":
        q, k = rotated(q, config), rotated(k, config)
    k, v = (t.repeat_interleave(config.n_heads // config.kv_heads, dim=1) for t in (k, v))
    scores = (q @ k.transpose(-1, -2) / config.head_width**0.5).masked_fill(
        torch.ones(T, T, dtype=torch.bool).triu(1), -torch.inf
    )
    probs = torch.softmax(scores, dim=-1)
    grouped = probs.view(B, config.kv_heads, -1, T, T)  # the order in which the masks are drawn
    y = dropout(grouped, config, rng).view(probs.shape) @ v
    return linear(y.transpose(1, 2).reshape(B, T, -1), weights.output)


def feed_forward(x, weights, config):
    up = linear(x, weights.up)
    if config.activation == "prelu":
        h = torch.where(up > 0, up, weights.alpha * up)
    elif config.gated:
        h = ACTIVATIONS[config.activation](linear(x, weights.gate)) * up
    else:
        h = ACTIVATIONS[config.activation](up)
    return linear(h, weights.down)


def block(x, weights, config, rng):
    if config.norm_placement == "post":
        x = norm(
            x + dropout(attention(x, weights.attention, config, rng), config, rng), weights.norm1, config
        )
        return norm(
            x + dropout(feed_forward(x, weights.feed_forward, config), config, rng), weights.norm2, config
        )
    x = x + dropout(attention(norm(x, weights.norm1, config), weights.attention, config, rng), config, rng)
    h = feed_forward(norm(x, weights.norm2, config), weights.feed_forward, config)
    return x + dropout(h, config, rng)


@pytest.mark.parametrize("name", BLOCKS)
def test_a_block_is_the_same_block_written_with_torch(name, rng):
    (case,) = every_case(name)
    x, weights, masks = (case.inputs[key] for key in ("x", "weights", "rng"))
    y, saved = case.op.forward(x, weights, rng=copy.deepcopy(masks))
    dy = rng.normal(size=y.shape)
    gradients = case.op.backward(dy, saved)

    theirs = tree.map(lambda leaf: torch.tensor(leaf, requires_grad=True), (x, weights))
    expected = block(*theirs, case.op.config, copy.deepcopy(masks))
    np.testing.assert_allclose(y, expected.detach().numpy(), rtol=1e-9, atol=1e-9)
    expected.backward(torch.tensor(dy))
    leaves = _leaves(theirs)
    for (path, gradient), leaf in zip(tree.named_leaves(gradients), leaves, strict=True):
        np.testing.assert_allclose(gradient, leaf.grad.numpy(), rtol=1e-9, atol=1e-9, err_msg=path)


def _leaves(node):
    """Tensors in the order of the fields: torch's are no arrays of the array API, which `tree` knows."""
    if isinstance(node, torch.Tensor):
        return [node]
    return [leaf for child in node or () for leaf in _leaves(child)]
