"""What each formula must obey whatever the numbers: invariances, identities, limits."""

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from handgrad.ops import (
    activation,
    attention,
    cross_entropy,
    dropout,
    embedding,
    erf,
    layer_norm,
    leaky_relu,
    learned_position,
    linear,
    multi_head_attention,
    prelu,
    relu,
    relu_squared,
    rms_norm,
    rope,
    sigmoid,
    sinusoidal_position,
    softmax,
    softmax_cross_entropy,
    tanh,
)
from handgrad.ops.rope import RopeScaling
from handgrad.parameters import Linear, RMSNorm

EPS = float(np.finfo(np.float64).eps)
SUM = 1e-12
"""Sums of a few dozen products of numbers near one: their rounding is a hundred times smaller."""

seeds = st.integers(0, 2**32 - 1)


def numbers(bound: float) -> st.SearchStrategy[np.ndarray]:
    """Arrays of one to three axes with entries up to `bound`, either sign."""
    return arrays(np.float64, array_shapes(max_dims=3, max_side=6), elements=st.floats(-bound, bound))


def qkv(rng: np.random.Generator, H: int = 2, G: int = 2, T: int = 5, S: int = 5) -> tuple[np.ndarray, ...]:
    return tuple(rng.normal(size=(2, n, m, 4)) for n, m in ((H, T), (G, S), (G, S)))


# Softmax


@given(numbers(50.0), st.floats(-1e3, 1e3))
def test_softmax_does_not_see_a_shift(x, shift):
    # x + shift is rounded at 1e3 * EPS, which exp turns into a relative error, twice
    np.testing.assert_allclose(softmax.forward(x + shift)[0], softmax.forward(x)[0], rtol=1e4 * EPS)


@given(numbers(1e3))
def test_softmax_is_positive_and_sums_to_one(x):
    y, _ = softmax.forward(x)
    assert np.all(y >= 0)
    np.testing.assert_allclose(np.sum(y, axis=-1), 1.0, rtol=8 * EPS)  # at most six terms


@given(numbers(20.0))
def test_rows_of_the_softmax_jacobian_sum_to_zero(x):
    rows = np.sum(softmax.jacobian(x), axis=-1)
    np.testing.assert_allclose(rows, 0.0, atol=8 * EPS)  # entries of at most one


@given(numbers(20.0), seeds)
def test_softmax_backward_is_the_product_with_its_jacobian(x, seed):
    dy = np.random.default_rng(seed).normal(size=x.shape)
    (dx,) = softmax.backward(dy, softmax.forward(x)[1])
    np.testing.assert_allclose(dx, np.einsum("...ij,...i->...j", softmax.jacobian(x), dy), atol=SUM)


def test_softmax_of_a_row_without_any_possibility_is_zero_and_passes_no_gradient():
    y, saved = softmax.forward(np.array([[-np.inf, -np.inf], [0.0, -np.inf]]))
    np.testing.assert_array_equal(y, [[0.0, 0.0], [1.0, 0.0]])
    np.testing.assert_array_equal(softmax.backward(np.ones((2, 2)), saved)[0], 0.0)


# Activations


@given(numbers(800.0))
def test_sigmoid_of_minus_x_is_one_minus_sigmoid_of_x(x):
    np.testing.assert_allclose(sigmoid.forward(-x)[0], 1.0 - sigmoid.forward(x)[0], rtol=0, atol=2 * EPS)


@given(numbers(400.0))
def test_tanh_is_a_sigmoid_stretched_and_centred(x):
    np.testing.assert_allclose(tanh.forward(x)[0], 2.0 * sigmoid.forward(2.0 * x)[0] - 1.0, atol=4 * EPS)


@pytest.mark.parametrize("name", ["gelu", "gelu_tanh", "silu"])
@given(x=numbers(1e4))
def test_what_a_smooth_gate_lets_pass_at_x_and_at_minus_x_is_x_together(name, x):
    up, down = activation.forward(x, name=name)[0], activation.forward(-x, name=name)[0]
    np.testing.assert_allclose(up - down, x, rtol=8 * EPS, atol=8 * EPS)


@given(numbers(1e3), st.floats(0.0, 2.0))
def test_the_rectifiers_are_one_family(x, slope):
    np.testing.assert_array_equal(leaky_relu.forward(x, alpha=0.0)[0], relu.forward(x)[0])
    parametric, _ = prelu.forward(x, np.array([slope]))
    np.testing.assert_array_equal(parametric, leaky_relu.forward(x, alpha=slope)[0])
    np.testing.assert_array_equal(relu_squared.forward(x)[0], relu.forward(x)[0] ** 2)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", [*activation.ACTIVATIONS, "erf"])
def test_activations_and_their_gradients_stay_finite_far_out(name, dtype):
    x = np.array([-1e4, -1e3, -100.0, -10.0, -1e-4, 0.0, 1e-4, 10.0, 100.0, 1e3, 1e4], dtype)
    if name == "erf":
        y, saved = erf.forward(x)
        gradients = erf.backward(np.ones_like(x), saved)
    else:
        alpha = np.array([0.25], dtype) if name == "prelu" else None
        y, saved = activation.forward(x, alpha, name=name)
        gradients = activation.backward(np.ones_like(x), saved)
    assert np.all(np.isfinite(y))
    for gradient in gradients:
        assert gradient is None or np.all(np.isfinite(gradient))


# The error function


@given(numbers(30.0))
def test_erf_is_odd(x):
    np.testing.assert_array_equal(erf.forward(-x)[0], -erf.forward(x)[0])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@given(x=numbers(7.0))
def test_erf_never_falls(dtype, x):
    y, _ = erf.forward(np.sort(x.astype(dtype), axis=None))
    # two neighbours' roundings may cross: a few units in the last place of one
    assert np.all(np.diff(y) >= -8 * np.finfo(dtype).eps)
    assert np.all(np.abs(y) <= 1)


# A grid finds the worst place; random numbers rarely do.
def test_erf_is_the_error_function():
    x = np.linspace(-7, 7, 10_001)
    expected = [math.erf(v) for v in x]
    np.testing.assert_allclose(erf.forward(x)[0], expected, rtol=0, atol=4 * EPS)  # 1 - tail: absolute


def test_erf_in_float32_is_the_error_function():
    x = np.linspace(-7, 7, 10_001).astype(np.float32)
    expected = [math.erf(float(v)) for v in x]
    # six roundings of 6e-8: the last steps of the polynomial work on numbers near one
    np.testing.assert_allclose(erf.forward(x)[0], expected, rtol=0, atol=4e-7)


def test_the_complement_keeps_its_digits_where_it_is_tiny():
    z = np.linspace(0, 25, 10_001)
    expected = np.array([math.erfc(v) for v in z])
    relative = np.abs(erf.complement(z) - expected) / expected
    # z * z is rounded to EPS / 2 of itself, and exp makes a relative error of that
    assert np.all(relative <= 4 * EPS * (1 + z * z / 4))


# Attention


@given(seeds, st.integers(0, 3))
def test_later_keys_and_values_do_not_change_the_past(seed, last):
    rng = np.random.default_rng(seed)
    q, k, v = qkv(rng)
    y, _ = attention.forward(q, k, v)
    k[:, :, last + 1 :] = rng.normal(size=k[:, :, last + 1 :].shape)
    v[:, :, last + 1 :] = rng.normal(size=v[:, :, last + 1 :].shape)
    changed, _ = attention.forward(q, k, v)
    np.testing.assert_array_equal(changed[:, :, : last + 1], y[:, :, : last + 1])
    assert np.all(np.any(changed[:, :, last + 1 :] != y[:, :, last + 1 :], axis=-1))


@given(seeds, st.integers(0, 3))
def test_the_past_sends_no_gradient_to_later_keys_and_values(seed, last):
    rng = np.random.default_rng(seed)
    y, saved = attention.forward(*qkv(rng))
    dy = rng.normal(size=y.shape)
    dy[:, :, last + 1 :] = 0.0
    _, dk, dv = attention.backward(dy, saved)
    np.testing.assert_array_equal(dk[:, :, last + 1 :], 0.0)
    np.testing.assert_array_equal(dv[:, :, last + 1 :], 0.0)


@given(seeds)
def test_queries_fewer_than_keys_are_the_last_positions(seed):
    q, k, v = qkv(np.random.default_rng(seed), T=6, S=6)
    whole, _ = attention.forward(q, k, v)
    part, _ = attention.forward(q[:, :, -2:], k, v)
    np.testing.assert_allclose(part, whole[:, :, -2:], atol=SUM)


@given(seeds)
def test_without_a_mask_the_order_of_keys_and_values_does_not_matter(seed):
    rng = np.random.default_rng(seed)
    q, k, v = qkv(rng, T=3, S=6)
    order = rng.permutation(6)
    y, _ = attention.forward(q, k, v, causal=False)
    permuted, _ = attention.forward(q, k[:, :, order], v[:, :, order], causal=False)
    np.testing.assert_allclose(permuted, y, atol=SUM)


@given(seeds)
def test_a_mask_of_the_lower_triangle_is_causal(seed):
    q, k, v = qkv(np.random.default_rng(seed))
    masked, _ = attention.forward(q, k, v, causal=False, mask=np.tri(5, dtype=bool))
    np.testing.assert_array_equal(masked, attention.forward(q, k, v)[0])


@given(seeds, st.sampled_from([(4, 1), (4, 2), (6, 3)]))
def test_grouped_heads_are_key_value_heads_repeated(seed, heads):
    rng = np.random.default_rng(seed)
    H, G = heads
    q, k, v = qkv(rng, H=H, G=G)
    dy = rng.normal(size=q.shape)
    grouped, saved = attention.forward(q, k, v)
    repeated, saved_repeated = attention.forward(
        q, np.repeat(k, H // G, axis=1), np.repeat(v, H // G, axis=1)
    )
    np.testing.assert_allclose(grouped, repeated, atol=SUM)

    dq, dk, dv = attention.backward(dy, saved)
    dq_repeated, *dkv_repeated = attention.backward(dy, saved_repeated)
    np.testing.assert_allclose(dq, dq_repeated, atol=SUM)
    for shared, each in zip((dk, dv), dkv_repeated, strict=True):  # who shares a head adds to its gradient
        np.testing.assert_allclose(shared, each.reshape(2, G, H // G, 5, 4).sum(axis=2), atol=SUM)


@given(seeds)
def test_a_query_with_nothing_to_attend_to_gives_zeros_and_no_gradient(seed):
    rng = np.random.default_rng(seed)
    mask = np.ones((5, 5), dtype=bool)
    mask[2] = False
    y, saved = attention.forward(*qkv(rng), causal=False, mask=mask)
    dq, _, _ = attention.backward(rng.normal(size=y.shape), saved)
    np.testing.assert_array_equal(y[:, :, 2], 0.0)
    np.testing.assert_array_equal(dq[:, :, 2], 0.0)
    assert np.all(np.any(y[:, :, [0, 1, 3, 4]] != 0, axis=-1))


@given(seeds, st.integers(1, 5))
def test_positions_taken_one_part_after_the_other_give_what_all_give_at_once(seed, n_past):
    rng = np.random.default_rng(seed)
    D, H, G, K, T = 6, 4, 2, 4, 6
    widths = ((D, H * K), (D, G * K), (D, G * K), (H * K, D))
    parts: tuple[Any, ...] = tuple(Linear(rng.normal(size=w)) for w in widths)
    parts += (RMSNorm(rng.normal(size=K)), RMSNorm(rng.normal(size=K)))
    settings: dict[str, Any] = {"n_heads": H, "n_kv_heads": G, "rope_base": 100.0}
    x = rng.normal(size=(2, T, D))

    whole, _ = multi_head_attention.forward(x, *parts, **settings)
    first, saved = multi_head_attention.forward(x[:, :n_past], *parts, **settings)
    past = (saved.attention.k, saved.attention.v)
    rest, _ = multi_head_attention.forward(x[:, n_past:], *parts, **settings, past=past)

    np.testing.assert_allclose(np.concatenate([first, rest], axis=1), whole, atol=100 * SUM)  # wider sums


# Positions


@given(seeds, st.integers(0, 1000))
def test_rope_preserves_norms(seed, offset):
    x = np.random.default_rng(seed).normal(size=(3, 5, 8))
    y, _ = rope.forward(x, offset=offset)
    np.testing.assert_allclose(np.linalg.norm(y, axis=-1), np.linalg.norm(x, axis=-1), rtol=16 * EPS)


@given(seeds, st.integers(0, 500), st.integers(0, 500), st.integers(1, 500))
def test_rope_makes_the_product_of_query_and_key_depend_on_their_distance_alone(seed, i, j, shift):
    q, k = np.random.default_rng(seed).normal(size=(2, 1, 8))

    def product(i: int, j: int) -> float:
        return float(np.sum(rope.forward(q, offset=i)[0] * rope.forward(k, offset=j)[0]))

    # an angle up to 1000 is rounded at 1000 * EPS
    tolerance = 1e4 * EPS * float(np.linalg.norm(q) * np.linalg.norm(k))
    assert product(i + shift, j + shift) == pytest.approx(product(i, j), rel=0, abs=tolerance)


def test_rope_sees_the_distance(rng):
    q, k = rng.normal(size=(2, 1, 8))
    here, there = (np.sum(rope.forward(q, offset=i)[0] * k) for i in (3, 4))
    assert abs(here - there) > 1e-3


def test_scaled_by_f_linearly_position_f_times_p_is_unscaled_position_p(rng):
    x = rng.normal(size=(1, 8))
    scaled, _ = rope.forward(x, offset=12, scaling=RopeScaling("linear", 4.0))
    np.testing.assert_allclose(scaled, rope.forward(x, offset=3)[0], rtol=16 * EPS)


@given(st.floats(1.0, 1e6), st.floats(0.1, 10.0), st.floats(0.1, 10.0), st.integers(1, 100_000))
def test_llama3_scaling_keeps_fast_pairs_divides_slow_ones_and_keeps_their_order(factor, low, width, length):
    scaling = RopeScaling("llama3", factor, low, low + width, length)
    omega, scaled = rope.frequencies(128, 500_000.0), rope.frequencies(128, 500_000.0, scaling)
    turns = length * omega / (2 * np.pi)
    np.testing.assert_array_equal(scaled[turns >= low + width], omega[turns >= low + width])
    np.testing.assert_allclose(scaled[turns <= low], omega[turns <= low] / factor, rtol=4 * EPS)
    assert np.all(np.diff(scaled) < 0)
    assert np.all(scaled <= omega * (1 + 4 * EPS))


@given(st.integers(1, 6), st.integers(1, 4), st.integers(0, 300), st.integers(1, 300))
def test_shifting_sinusoidal_positions_turns_every_pair(T, n_pairs, offset, shift):
    sine, cosine = np.moveaxis(
        sinusoidal_position.table(T, 2 * n_pairs, offset=offset).reshape(T, n_pairs, 2), -1, 0
    )
    angle = shift / 10_000.0 ** (np.arange(n_pairs) / n_pairs)
    turned = np.stack(
        [sine * np.cos(angle) + cosine * np.sin(angle), cosine * np.cos(angle) - sine * np.sin(angle)],
        axis=-1,
    )
    shifted = sinusoidal_position.table(T, 2 * n_pairs, offset=offset + shift)
    np.testing.assert_allclose(turned.reshape(T, -1), shifted, atol=1e4 * EPS)  # angles up to 600, rounded


@given(seeds, st.integers(0, 3))
def test_a_learned_position_belongs_to_its_place(seed, offset):
    rng = np.random.default_rng(seed)
    weight = rng.normal(size=(8, 3))
    y, saved = learned_position.forward(np.zeros((2, 4, 3)), weight, offset=offset)
    np.testing.assert_array_equal(y[1], weight[offset : offset + 4])
    _, dweight = learned_position.backward(np.ones((2, 4, 3)), saved)
    used = [offset <= row < offset + 4 for row in range(8)]
    np.testing.assert_array_equal(dweight[:, 0], np.where(used, 2.0, 0.0))  # two sequences


# Normalization


@given(seeds, st.floats(-100.0, 100.0), st.floats(0.01, 100.0))
def test_layer_norm_does_not_see_shift_and_positive_scale(seed, shift, scale):
    rng = np.random.default_rng(seed)
    x, gamma, beta = rng.normal(size=(4, 7)), rng.normal(size=7), rng.normal(size=7)
    y, _ = layer_norm.forward(x, gamma, beta)
    moved, _ = layer_norm.forward(
        scale * x + shift, gamma, beta, eps=1e-5 * scale**2
    )  # eps on the same scale
    # the shift rounds x at 100 * EPS, up to 10,000 times larger after division by a small scale
    np.testing.assert_allclose(moved, y, atol=1e6 * EPS)


@given(seeds, st.floats(0.01, 100.0))
def test_rms_norm_does_not_see_positive_scale(seed, scale):
    rng = np.random.default_rng(seed)
    x, gamma = rng.normal(size=(4, 7)), rng.normal(size=7)
    y, _ = rms_norm.forward(x, gamma)
    np.testing.assert_allclose(rms_norm.forward(scale * x, gamma, eps=1e-5 * scale**2)[0], y, atol=SUM)


@given(seeds)
def test_normalized_rows_have_mean_zero_and_mean_square_one(seed):
    x = np.random.default_rng(seed).normal(3.0, 2.0, size=(4, 7))
    y, _ = layer_norm.forward(x, np.ones(7), eps=0.0)
    np.testing.assert_allclose(np.mean(y, axis=-1), 0.0, atol=SUM)
    np.testing.assert_allclose(np.mean(y * y, axis=-1), 1.0, atol=SUM)
    y, _ = rms_norm.forward(x, np.ones(7), eps=0.0)
    np.testing.assert_allclose(np.mean(y * y, axis=-1), 1.0, atol=SUM)


def test_layer_norm_in_float32_keeps_its_digits_at_a_large_mean(rng):
    x = (1000.0 + rng.normal(size=(16, 512))).astype(np.float32)
    gamma = np.ones(512, np.float32)
    y, _ = layer_norm.forward(x, gamma)
    exact, _ = layer_norm.forward(x.astype(np.float64), gamma.astype(np.float64))
    # the mean is rounded at 1000 * 6e-8, three times at most; <x^2> - <x>^2 would be wrong by 0.3
    np.testing.assert_allclose(y, exact, rtol=0, atol=2e-4)


# Losses


def one_hot(targets: np.ndarray, n: int) -> np.ndarray:
    return np.eye(n)[targets]


@given(seeds, st.floats(0.1, 10.0))
def test_cross_entropy_of_logits_is_that_of_their_softmax(seed, spread):
    rng = np.random.default_rng(seed)
    logits, targets = spread * rng.normal(size=(2, 3, 5)), rng.integers(5, size=(2, 3))
    fused, saved = softmax_cross_entropy.forward(logits, targets)
    probs, saved_probs = softmax.forward(logits)
    plain, saved_plain = cross_entropy.forward(probs, one_hot(targets, 5))
    assert fused == pytest.approx(plain, rel=SUM)

    dprobs, _ = cross_entropy.backward(1.0, saved_plain)
    np.testing.assert_allclose(
        softmax_cross_entropy.backward(1.0, saved)[0], softmax.backward(dprobs, saved_probs)[0], atol=SUM
    )


@pytest.mark.parametrize("n", [1, 3])
def test_a_uniform_guess_costs_the_logarithm_of_the_choices(n, rng):
    loss, _ = softmax_cross_entropy.forward(np.zeros((n, 65)), rng.integers(65, size=n))
    assert loss == pytest.approx(math.log(65), rel=4 * EPS)


@given(seeds)
def test_halves_of_a_batch_average_to_the_whole(seed):
    rng = np.random.default_rng(seed)
    logits, targets = 3 * rng.normal(size=(4, 3, 5)), rng.integers(5, size=(4, 3))
    whole, saved = softmax_cross_entropy.forward(logits, targets)
    halves = [softmax_cross_entropy.forward(logits[i : i + 2], targets[i : i + 2]) for i in (0, 2)]
    assert np.mean([loss for loss, _ in halves]) == pytest.approx(whole, rel=SUM)

    gradients = [softmax_cross_entropy.backward(1.0, saved_half)[0] for _, saved_half in halves]
    (dlogits,) = softmax_cross_entropy.backward(1.0, saved)
    np.testing.assert_allclose(np.concatenate(gradients) / 2, dlogits, atol=SUM)


@given(seeds, arrays(np.bool_, 6), st.sampled_from([-1, -100]))
def test_ignored_targets_do_not_count(seed, counted, ignore):
    rng = np.random.default_rng(seed)
    logits, targets = rng.normal(size=(6, 5)), rng.integers(5, size=6)
    loss, saved = softmax_cross_entropy.forward(logits, np.where(counted, targets, ignore), ignore=ignore)
    (dlogits,) = softmax_cross_entropy.backward(1.0, saved)

    assert np.all(dlogits[~counted] == 0.0)
    if counted.any():
        expected, saved = softmax_cross_entropy.forward(logits[counted], targets[counted])
        assert loss == pytest.approx(expected, rel=SUM)
        np.testing.assert_allclose(dlogits[counted], softmax_cross_entropy.backward(1.0, saved)[0], atol=SUM)
    else:
        assert loss == 0.0


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_loss_of_any_logits_is_finite(dtype):
    logits = np.array([[1e4, -1e4, 0.0], [-1e4, -1e4, -1e4]], dtype)
    loss, saved = softmax_cross_entropy.forward(logits, np.array([1, 2]))
    assert loss == pytest.approx((2e4 + math.log(3)) / 2, rel=1e-6)  # float32
    np.testing.assert_allclose(
        softmax_cross_entropy.backward(1.0, saved)[0], [[0.5, -0.5, 0], [1 / 6, 1 / 6, -1 / 3]], rtol=1e-6
    )


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_probability_of_zero_costs_nothing_or_much_but_never_infinitely(dtype):
    probs = np.array([[0.0, 1.0]], dtype)
    right, saved = cross_entropy.forward(probs, np.array([[0.0, 1.0]], dtype))
    assert right == 0.0
    np.testing.assert_array_equal(cross_entropy.backward(1.0, saved)[0], [[0.0, -1.0]])
    wrong, saved = cross_entropy.forward(probs, np.array([[1.0, 0.0]], dtype))
    assert 50.0 < wrong < np.inf
    assert np.all(np.isfinite(cross_entropy.backward(1.0, saved)[0]))


# Dropout and embedding


@given(seeds, st.floats(0.05, 0.9))
def test_dropout_keeps_the_mean(seed, rate):
    n = 10_000
    y, _ = dropout.forward(np.ones(n), rate=rate, rng=np.random.default_rng(seed))
    # y is 1 / (1 - rate) or 0, with mean 1 and variance rate / (1 - rate). The mean of n draws is nearly
    # normal: it misses by more than six of its standard deviations twice in a thousand million times.
    assert abs(np.mean(y) - 1.0) < 6.0 * math.sqrt(rate / (1.0 - rate) / n)


@given(seeds, st.floats(0.05, 0.9))
def test_dropout_sends_the_gradient_where_the_value_went(seed, rate):
    rng = np.random.default_rng(seed)
    x, dy = 1.0 + rng.random((6, 8)), rng.normal(size=(6, 8))
    y, saved = dropout.forward(x, rate=rate, rng=rng)
    kept = y != 0
    np.testing.assert_array_equal(y, np.where(kept, x / (1.0 - rate), 0.0))
    np.testing.assert_array_equal(dropout.backward(dy, saved)[0], np.where(kept, dy / (1.0 - rate), 0.0))


@pytest.mark.parametrize(("rate", "seed"), [(0.0, 1), (0.5, None), (0.0, None)])
def test_dropout_without_a_rate_or_a_generator_is_the_identity(rate, seed, rng):
    x = rng.normal(size=(4, 5))
    y, saved = dropout.forward(x, rate=rate, rng=None if seed is None else np.random.default_rng(seed))
    np.testing.assert_array_equal(y, x)
    np.testing.assert_array_equal(dropout.backward(x, saved)[0], x)


@given(seeds, st.floats(0.5, 4.0))
def test_an_embedding_is_an_affine_layer_on_one_hot_rows(seed, scale):
    rng = np.random.default_rng(seed)
    weight, token_ids = rng.normal(size=(5, 3)), rng.integers(5, size=(2, 6))
    dy = rng.normal(size=(2, 6, 3))
    y, saved = embedding.forward(weight, token_ids, scale=scale)
    product, saved_product = linear.forward(scale * one_hot(token_ids, 5), weight)
    np.testing.assert_allclose(y, product, atol=SUM)
    _, dweight, _ = linear.backward(dy, saved_product)
    np.testing.assert_allclose(embedding.backward(dy, saved)[0], dweight, atol=SUM)
