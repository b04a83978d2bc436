"""Every op and every optimizer against PyTorch: written there independently, differentiated by autograd."""

import copy
import importlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from handgrad import ops, optim, tree

torch = pytest.importorskip("torch", reason="PyTorch is the oracle: install the extra [oracles]")
torch_peers = importlib.import_module("tests.ops.torch_peers")

TOLERANCE = 1e-9
"""Far above the rounding of a few hundred terms in float64 (1e-13), far below any difference of formula."""


def test_every_op_has_a_peer():
    assert [name for name in ops.ALL if not hasattr(torch_peers, name)] == []


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
    their_y = getattr(torch_peers, case[0])(**theirs)
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
