"""What an op does at the edge of what it is made for: it says so, in words or with NaN."""

import math

import numpy as np
import pytest

from handgrad import ops
from handgrad.errors import UserError

EPS = np.finfo(np.float64).eps


@pytest.mark.parametrize("token_id", [-1, -5, 5, 100_000])
def test_an_id_without_a_row_is_nan_and_leaves_the_others_alone(rng, token_id):
    weight = rng.normal(size=(5, 4))
    y, saved = ops.embedding.forward(weight, np.array([2, token_id]), scale=2.0)
    assert np.isnan(y[1]).all()
    np.testing.assert_array_equal(y[0], 2.0 * weight[2])
    (dweight,) = ops.embedding.backward(np.ones((2, 4)), saved)
    assert np.flatnonzero(dweight.any(axis=1)).tolist() == [2]


@pytest.mark.parametrize("target", [-2, -5, 5, 100_000])
def test_a_target_without_a_logit_makes_the_loss_and_its_gradient_nan(rng, target):
    logits = rng.normal(size=(3, 5))
    loss, saved = ops.softmax_cross_entropy.forward(logits, np.array([1, target, 2]))
    assert np.isnan(loss)
    (dlogits,) = ops.softmax_cross_entropy.backward(1.0, saved)
    np.testing.assert_array_equal(np.isnan(dlogits).all(axis=1), [False, True, False])
    loss, _ = ops.next_token_loss.forward(logits, np.eye(5), None, np.array([1, target, 2]))
    assert np.isnan(loss)
    loss, _ = ops.softmax_cross_entropy.forward(logits, np.array([1, 9, 2]), ignore=9)
    assert np.isfinite(loss)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_the_gradient_of_an_ignored_row_is_zero_whatever_its_logits(rng, value):
    logits = rng.normal(size=(3, 5))
    logits[1, 2] = value
    with np.errstate(invalid="ignore"):  # inf - inf
        loss, saved = ops.softmax_cross_entropy.forward(logits, np.array([1, -1, 2]))
    (dlogits,) = ops.softmax_cross_entropy.backward(1.0, saved)
    assert np.isfinite(loss)
    assert np.all(dlogits[1] == 0.0)
    assert np.all(dlogits[[0, 2]] != 0.0)


@pytest.mark.parametrize(
    ("n_positions", "offset", "got"), [(2, 0, "0 to 1"), (1, 1, "1 to 1"), (1, -1, "-1 to -1")]
)
def test_positions_that_nobody_learned_are_refused(n_positions, offset, got):
    with pytest.raises(UserError, match=f"positions are 0 to 0; got {got}"):
        ops.learned_position.forward(np.zeros((2, n_positions, 3)), np.ones((1, 3)), offset=offset)


def heads(rng, B, H, G, T, S):
    return (rng.normal(size=(B, n, m, 4)) for n, m in ((H, T), (G, S), (G, S)))


@pytest.mark.parametrize(
    "shape",
    [(3, 5), (1, 5), (1, 1, 3, 5), (2, 1, 3, 5), (2, 1, 1, 5), (2, 4, 3, 5), (1, 4, 1, 1), (2, 1, 3, 1)],
)
@pytest.mark.parametrize("n_kv_heads", [1, 2, 4])
def test_a_mask_is_what_pytorch_takes_it_for(rng, shape, n_kv_heads):
    torch = pytest.importorskip("torch")
    q, k, v = heads(rng, B=2, H=4, G=n_kv_heads, T=3, S=5)
    allowed = rng.random(shape) < 0.7
    allowed[..., 0] = True  # a query that sees nothing is NaN there, zero here
    for mask in (allowed, np.where(allowed, rng.normal(size=shape), -np.inf)):
        ours, _ = ops.attention.forward(q, k, v, causal=False, mask=mask)
        tensors = map(torch.tensor, (q, k, v))
        theirs = torch.nn.functional.scaled_dot_product_attention(
            *tensors, attn_mask=torch.tensor(mask), enable_gqa=True
        )
        np.testing.assert_allclose(ours, theirs.numpy(), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    ("mask", "words"),
    [
        (np.ones((2, 3, 5), bool), r"\(queries, keys\), here \(3, 5\)"),
        (np.ones((4, 5), bool), r"got \(4, 5\)"),
        (np.ones((2, 2, 3, 5), bool), r"here \(2, 4, 3, 5\)"),
        (np.ones(5, bool), "Add axes"),
        (np.ones((3, 5), int), r"mask\.astype\(bool\)"),
    ],
)
def test_a_mask_that_means_nothing_is_refused(rng, mask, words):
    q, k, v = heads(rng, B=2, H=4, G=2, T=3, S=5)
    with pytest.raises(UserError, match=words):
        ops.attention.forward(q, k, v, mask=mask)


def test_the_error_function_keeps_its_relative_accuracy_near_zero():
    x = np.concatenate([np.logspace(-300, 1, 2000), np.linspace(0.45, 0.55, 1001)])
    y, _ = ops.erf.forward(np.concatenate([x, -x]))
    expected = np.array([math.erf(value) for value in x])
    # where 1 - erfc takes over, erfc is 0.48: its last digits count about as much as those of the result
    np.testing.assert_allclose(y, np.concatenate([expected, -expected]), rtol=8 * EPS, atol=0)
    near, _ = ops.erf.forward(x.astype(np.float32))
    np.testing.assert_allclose(
        near, expected, rtol=8 * np.finfo(np.float32).eps, atol=3e-45
    )  # of the smallest numbers, two steps


@pytest.mark.parametrize("op", [ops.layer_norm, ops.rms_norm])
def test_a_row_whose_squares_overflow_is_nan_and_not_its_shift(op):
    x = np.array([[1e30, -1e30], [1.0, 2.0]], np.float32)
    with np.errstate(over="ignore", invalid="ignore"):
        y, saved = op.forward(x, np.ones(2, np.float32))
        dx, *_ = op.backward(np.ones_like(y), saved)
    assert np.isnan(y[0]).all()
    assert np.isnan(dx[0]).all()
    assert np.isfinite(y[1]).all()
    assert np.isfinite(dx[1]).all()
