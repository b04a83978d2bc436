"""Optimizers, clipping and schedules: what they promise, beside being those of PyTorch."""

import copy
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from handgrad import optim, tree
from handgrad.errors import UserError
from handgrad.optim.schedule import SCHEDULES, share

OPTIMIZERS = {
    "gradient_descent": optim.gradient_descent,
    "momentum": optim.momentum,
    "adam": optim.adam,
    "adamw": optim.adamw,
}
SUM = 1e-12
"""A few operations on numbers near one round at 1e-16 each."""

seeds = st.integers(0, 2**32 - 1)


# Schedules

plans = st.fixed_dictionaries(
    {
        "schedule": st.sampled_from(SCHEDULES),
        "steps": st.integers(1, 60),
        "warmup_steps": st.integers(0, 20),
        "final_share": st.floats(0.0, 1.0),
        "decay_share": st.floats(0.05, 1.0),
    }
)


def test_an_unknown_schedule_is_refused_and_not_taken_for_a_constant():
    with pytest.raises(UserError, match=r"no schedule 'cosin'.*Did you mean cosine"):
        share(3, schedule="cosin", steps=10)


@given(plans)
def test_a_share_is_never_above_one_nor_below_zero(plan):
    shares = [share(step, **plan) for step in range(plan["steps"] + 10)]
    assert all(-SUM <= s <= 1.0 + SUM for s in shares)


@given(plans)
def test_the_share_rises_to_the_end_of_the_warm_up_and_never_after(plan):
    warm = plan["warmup_steps"]
    shares = [share(step, **plan) for step in range(plan["steps"] + 10)]
    rises = np.diff(shares)
    assert np.all(rises[: min(warm, len(rises))] > 0)
    assert np.all(rises[warm:] <= SUM)


@given(plans)
def test_the_first_step_already_moves_and_the_peak_is_reached(plan):
    assert share(0, **plan) > 0.0
    assert share(plan["warmup_steps"], **plan) == pytest.approx(1.0)


def test_warm_up_is_a_straight_line_towards_one():
    shares = [share(step, schedule="cosine", steps=100, warmup_steps=4) for step in range(5)]
    assert shares == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])


def test_constant_stays_at_one():
    assert {share(step, schedule="constant", steps=50, warmup_steps=5) for step in range(5, 70)} == {1.0}


@pytest.mark.parametrize("schedule", ["cosine", "warmup_stable_decay"])
@given(plan=plans)
def test_a_falling_schedule_ends_at_the_final_share_and_stays(schedule, plan):
    plan = {**plan, "schedule": schedule, "steps": plan["steps"] + plan["warmup_steps"]}
    for step in (plan["steps"], plan["steps"] + 1, 10 * plan["steps"]):
        assert share(step, **plan) == pytest.approx(plan["final_share"], abs=SUM)


def test_cosine_is_half_way_down_half_way_through():
    plan = {"schedule": "cosine", "steps": 110, "warmup_steps": 10, "final_share": 0.2}
    assert share(10, **plan) == 1.0
    assert share(60, **plan) == pytest.approx(0.6)
    quarter = 0.2 + 0.4 * (1.0 + math.sqrt(0.5))
    assert share(35, **plan) == pytest.approx(quarter)


def test_warm_up_stable_decay_is_a_plateau_and_a_straight_line_down():
    plan = {
        "schedule": "warmup_stable_decay",
        "steps": 110,
        "warmup_steps": 10,
        "final_share": 0.0,
        "decay_share": 0.2,
    }
    shares = np.array([share(step, **plan) for step in range(111)])
    np.testing.assert_allclose(shares[10:91], 1.0, atol=SUM)  # 80 of 100 steps
    np.testing.assert_allclose(np.diff(shares[90:]), -1.0 / 20, atol=SUM)
    assert shares[-1] == pytest.approx(0.0, abs=SUM)


# Clipping


@given(seeds, st.floats(1e-3, 1e3), st.floats(1e-3, 1e3))
def test_clipping_never_lengthens_and_keeps_the_direction(seed, length, max_norm):
    gradient = np.random.default_rng(seed).normal(size=9)
    gradient *= length / np.linalg.norm(gradient)
    clipped, norm = optim.clip.by_global_norm(gradient, max_norm)
    assert norm == pytest.approx(length)
    assert np.linalg.norm(clipped) == pytest.approx(min(length, max_norm))
    np.testing.assert_allclose(clipped / np.linalg.norm(clipped), gradient / length, atol=SUM)


def test_a_gradient_within_the_limit_is_untouched(rng):
    gradient = rng.normal(size=9)
    np.testing.assert_array_equal(optim.clip.by_global_norm(gradient, 100.0)[0], gradient)


def test_a_gradient_of_zero_can_be_clipped():
    clipped, norm = optim.clip.by_global_norm(np.zeros(4), 1.0)
    assert norm == 0.0
    np.testing.assert_array_equal(clipped, 0.0)


# Optimizers


def ten_steps(optimizer, rng, weights, **settings):
    """Ten steps with random gradients: the weights after each."""
    state, path = optimizer.init(weights), []
    for _ in range(10):
        weights, state = optimizer.update(
            weights, rng.normal(size=weights.shape), state, learning_rate=0.1, **settings
        )
        path.append(weights)
    return np.array(path)


@pytest.mark.parametrize("name", OPTIMIZERS)
@given(seed=seeds)
def test_an_update_changes_neither_weights_nor_gradient_nor_state(name, seed):
    rng, optimizer = np.random.default_rng(seed), OPTIMIZERS[name]
    weights, gradient = rng.normal(size=(2, 3, 4))
    state = optimizer.init(weights)
    _, state = optimizer.update(weights, gradient, state, learning_rate=0.1)
    before = copy.deepcopy((weights, gradient, state))
    optimizer.update(weights, gradient, state, learning_rate=0.1)
    for a, b in zip(tree.leaves(before), tree.leaves((weights, gradient, state)), strict=True):
        np.testing.assert_array_equal(a, b)
    assert getattr(state, "step", None) == getattr(before[2], "step", None)


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_weights_and_state_keep_their_type(name, dtype, rng):
    optimizer, weights = OPTIMIZERS[name], rng.normal(size=5).astype(dtype)
    updated, state = optimizer.update(weights, weights, optimizer.init(weights), learning_rate=0.1)
    assert {leaf.dtype for leaf in tree.leaves((updated, state))} == {np.dtype(dtype)}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimizer_finds_the_bottom_of_a_bowl(name):
    optimizer, weights = OPTIMIZERS[name], np.array([3.0, -2.0])
    curvature, state = np.array([1.0, 5.0]), optimizer.init(weights)
    start = float(np.sum(curvature * weights**2))
    for _ in range(300):
        weights, state = optimizer.update(weights, 2 * curvature * weights, state, learning_rate=0.03)
    assert float(np.sum(curvature * weights**2)) < 1e-4 * start


@given(seeds)
def test_momentum_without_memory_is_gradient_descent(seed):
    weights = np.random.default_rng(seed).normal(size=6)
    plain = ten_steps(optim.gradient_descent, np.random.default_rng(seed), weights)
    heavy = ten_steps(optim.momentum, np.random.default_rng(seed), weights, beta=0.0)
    np.testing.assert_array_equal(heavy, plain)


def test_momentum_multiplies_a_steady_slope():
    weights, state = np.zeros(1), optim.momentum.init(np.zeros(1))
    for _ in range(400):
        weights, state = optim.momentum.update(weights, np.ones(1), state, learning_rate=1.0, beta=0.9)
    assert state.velocity[0] == pytest.approx(10.0)  # 1 / (1 - beta)


@given(seeds)
def test_adamw_without_decay_is_adam(seed):
    weights = np.random.default_rng(seed).normal(size=6)
    adam = ten_steps(optim.adam, np.random.default_rng(seed), weights)
    adamw = ten_steps(optim.adamw, np.random.default_rng(seed), weights, weight_decay=0.0)
    np.testing.assert_array_equal(adamw, adam)


@given(seeds)
def test_decay_may_differ_from_weight_to_weight(seed):
    weights = np.random.default_rng(seed).normal(size=6)
    decay = np.array([0.0, 0.1, 0.0, 0.5, 0.1, 0.0])
    mixed = ten_steps(optim.adamw, np.random.default_rng(seed), weights, weight_decay=decay)
    for value in (0.0, 0.1, 0.5):
        alone = ten_steps(optim.adamw, np.random.default_rng(seed), weights, weight_decay=value)
        np.testing.assert_allclose(mixed[:, decay == value], alone[:, decay == value], atol=SUM)


@given(seeds)
def test_decay_alone_shrinks_the_weights_by_a_factor(seed):
    weights = np.random.default_rng(seed).normal(size=6)
    state = optim.adamw.init(weights)
    updated, _ = optim.adamw.update(weights, np.zeros(6), state, learning_rate=0.1, weight_decay=0.5)
    np.testing.assert_allclose(updated, 0.95 * weights, atol=SUM)


@given(seeds, st.floats(1e-3, 1e3))
def test_adam_does_not_see_the_scale_of_the_gradient(seed, scale):
    rng = np.random.default_rng(seed)
    weights, gradients = (
        rng.normal(size=6),
        rng.choice([-1.0, 1.0], size=(10, 6)) * (0.5 + rng.random((10, 6))),
    )
    ends = []
    for factor in (1.0, scale):
        w, state = weights, optim.adam.init(weights)
        for gradient in gradients:
            w, state = optim.adam.update(w, factor * gradient, state, learning_rate=0.1, eps=0.0)
        ends.append(w)
    np.testing.assert_allclose(ends[1], ends[0], atol=SUM)


@given(seeds)
def test_the_first_step_of_adam_is_the_learning_rate_against_the_sign(seed):
    rng = np.random.default_rng(seed)
    weights, gradient = rng.normal(size=6), rng.choice([-1.0, 1.0], size=6) * (0.5 + rng.random(6))
    updated, _ = optim.adam.update(weights, gradient, optim.adam.init(weights), learning_rate=0.1)
    # eps = 1e-8 shortens the step by 1e-8 / |g|, at most 2e-8 of it
    np.testing.assert_allclose(updated, weights - 0.1 * np.sign(gradient), atol=1e-8)
