"""Networks of neurons: their beginnings, their gradients, and what they learn."""

import math
from itertools import pairwise
from typing import get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.datasets import load_digits
from threadpoolctl import threadpool_limits

from handgrad import tree
from handgrad.errors import UserError
from handgrad.foundations import mlp

XOR_INPUTS = np.array([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
XOR_TARGETS = np.array([[0.0], [1.0], [1.0], [0.0]])

seeds = st.integers(0, 2**32 - 1)
all_widths = st.lists(st.integers(1, 6), min_size=2, max_size=5)


@given(all_widths, seeds)
def test_layers_fit_each_other_and_the_same_seed_draws_the_same_ones(widths, seed):
    layers, again = (mlp.init(widths, np.random.default_rng(seed)) for _ in range(2))
    assert [layer.weight.shape for layer in layers] == list(pairwise(widths))
    assert not any(np.any(layer.bias) for layer in layers)
    for one, other in zip(tree.leaves(layers), tree.leaves(again), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(
    ("activation", "variance"),
    [("tanh", 2 / 700), ("sigmoid", 2 / 700), ("relu", 2 / 400), ("silu", 2 / 400)],
)
def test_initial_weights_have_the_variance_of_their_source(activation, variance, rng):
    (layer,) = mlp.init([400, 300], rng, activation=activation)
    # the variance of 120,000 draws is known to better than half a percent: this is five times that
    assert np.var(layer.weight) == pytest.approx(variance, rel=0.025)


@pytest.mark.parametrize("activation", ["tanh", "relu"])
def test_signals_neither_die_nor_explode_on_their_way_through_many_layers(activation, rng):
    x = rng.normal(size=(50, 200))
    y = mlp.predict(mlp.init([200] * 11, rng, activation=activation), x, activation=activation)
    assert 0.05 < np.std(y) < 2  # a factor of two a layer too much or too little would be a thousand


@given(
    all_widths,
    seeds,
    st.sampled_from(["tanh", "sigmoid", "gelu", "silu"]),
    st.sampled_from(get_args(mlp.Loss)),
)
def test_the_gradients_are_those_of_the_loss(widths, seed, activation, loss):
    rng = np.random.default_rng(seed)
    layers = mlp.init(widths, rng)
    x = rng.normal(size=(3, widths[0]))
    targets = rng.normal(size=(3, widths[-1])) if loss == "mse" else rng.integers(widths[-1], size=3)
    direction = tree.map(lambda leaf: rng.normal(size=leaf.shape), layers)

    def value(step):
        moved = tree.map(lambda leaf, d: leaf + step * d, layers, direction)
        return mlp.gradients(moved, x, targets, activation=activation, loss=loss)[0]

    _, derived = mlp.gradients(layers, x, targets, activation=activation, loss=loss)
    along = sum(np.sum(g * d) for g, d in zip(tree.leaves(derived), tree.leaves(direction), strict=True))
    measured = (value(1e-5) - value(-1e-5)) / 2e-5
    assert along == pytest.approx(measured, rel=1e-6, abs=1e-7)  # central differences of values of order one


@given(seeds)
def test_the_gradient_of_a_batch_is_the_mean_over_its_rows(seed):
    rng = np.random.default_rng(seed)
    layers = mlp.init([3, 4, 2], rng)
    x, targets = rng.normal(size=(5, 3)), rng.integers(2, size=5)
    rows = [
        mlp.gradients(layers, x[i : i + 1], targets[i : i + 1], loss="softmax_cross_entropy")[1]
        for i in range(5)
    ]
    mean = tree.map(lambda *leaves: sum(leaves) / 5, *rows)
    _, whole = mlp.gradients(layers, x, targets, loss="softmax_cross_entropy")
    for one, other in zip(tree.leaves(whole), tree.leaves(mean), strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-14)  # the order of five additions


def test_a_step_of_gradient_descent_goes_against_the_gradient(rng):
    layers = mlp.init([2, 3, 1], rng)
    loss, gradient = mlp.gradients(layers, XOR_INPUTS, XOR_TARGETS)
    before = [leaf.copy() for leaf in tree.leaves(layers)]
    training = mlp.train(
        layers, XOR_INPUTS, XOR_TARGETS, n_epochs=1, optimizer="gradient_descent", learning_rate=0.5
    )
    assert training.losses.tolist() == [loss]
    np.testing.assert_allclose(
        training.gradient_norms, [[np.linalg.norm(layer.weight) for layer in gradient]]
    )
    for old, slope, new, kept in zip(
        before, tree.leaves(gradient), tree.leaves(training.layers), tree.leaves(layers), strict=True
    ):
        np.testing.assert_array_equal(new, old - 0.5 * slope)
        np.testing.assert_array_equal(kept, old)  # the layers handed in are left alone


def test_a_network_of_one_layer_finds_the_least_squares(rng):
    x = rng.normal(size=(30, 3))
    targets = x @ [[1.0], [-2.0], [0.5]] + 3 + 0.1 * rng.normal(size=(30, 1))
    training = mlp.train(
        mlp.init([3, 1], rng), x, targets, n_epochs=500, optimizer="gradient_descent", learning_rate=0.1
    )
    exact = np.linalg.lstsq(np.column_stack([x, np.ones(30)]), targets)[0]
    (layer,) = training.layers
    # 500 steps shrink the error by (1 - 0.2 times the least curvature, about a half): to below 1e-12
    np.testing.assert_allclose(np.concatenate([layer.weight, layer.bias[None]]), exact, rtol=0, atol=1e-9)
    assert np.all(np.diff(training.losses) <= 1e-15)


@pytest.mark.parametrize("n_hidden", [3, 4])
@pytest.mark.parametrize("seed", range(4))
def test_xor_is_learned_by_one_hidden_layer(n_hidden, seed):
    layers = mlp.init([2, n_hidden, 1], np.random.default_rng(seed))
    training = mlp.train(layers, XOR_INPUTS, XOR_TARGETS, n_epochs=300, learning_rate=0.1)
    np.testing.assert_array_equal(mlp.predict(training.layers, XOR_INPUTS) > 0.5, XOR_TARGETS == 1)
    assert training.losses[-1] < 0.01 < training.losses[0]


def test_without_a_hidden_layer_xor_is_not_learned(rng):
    training = mlp.train(mlp.init([2, 1], rng), XOR_INPUTS, XOR_TARGETS, n_epochs=300, learning_rate=0.1)
    assert training.losses[-1] == pytest.approx(0.25, abs=1e-6)  # the best line answers 1/2 four times


@pytest.mark.parametrize("seed", range(2))
def test_handwritten_digits_are_recognized(seed):
    """On a quarter that was held out, at the accuracy a network of this size is known for."""
    digits, rng = load_digits(), np.random.default_rng(seed)
    x = digits.data / 8 - 1  # 0 to 16 becomes -1 to 1
    held_out, kept = np.split(rng.permutation(len(x)), [len(x) // 4])
    with threadpool_limits(1):  # products this small only lose by threads, and much on a busy machine
        training = mlp.train(
            mlp.init([64, 128, 10], rng, activation="relu"),
            x[kept],
            digits.target[kept],
            n_epochs=20,
            activation="relu",
            loss="softmax_cross_entropy",
            learning_rate=0.005,
            batch_size=64,
            rng=rng,
        )
    answers = np.argmax(mlp.predict(training.layers, x[held_out], activation="relu"), axis=1)
    assert np.mean(answers == digits.target[held_out]) >= 0.97


def test_in_a_deep_network_of_sigmoids_the_gradient_vanishes_towards_the_input(rng):
    layers = mlp.init([2, *[10] * 6, 1], rng, activation="sigmoid")
    norms = mlp.train(layers, XOR_INPUTS, XOR_TARGETS, n_epochs=1, activation="sigmoid").gradient_norms[0]
    assert norms[0] < 1e-3 * norms[-1]  # every sigmoid passes on a quarter at most


@pytest.mark.parametrize("optimizer", mlp.OPTIMIZERS)
def test_the_same_seed_gives_the_same_losses_bit_for_bit(optimizer):
    def losses():
        rng = np.random.default_rng(7)
        layers = mlp.init([2, 3, 1], rng)
        return mlp.train(
            layers, XOR_INPUTS, XOR_TARGETS, n_epochs=20, optimizer=optimizer, batch_size=3, rng=rng
        ).losses

    np.testing.assert_array_equal(losses(), losses())


def test_every_row_is_seen_once_in_every_pass_and_progress_is_told(rng):
    told = []
    layers = mlp.init([1, 1], rng)
    x = np.arange(5.0)[:, None]
    training = mlp.train(
        layers, x, x, n_epochs=2, learning_rate=1e-300, batch_size=2, rng=rng,
        progress=lambda epoch, loss: told.append((epoch, loss)),
    )  # fmt: skip
    assert len(training.losses) == 6
    assert [epoch for epoch, _ in told] == [1, 2]
    assert told[1][1] == np.mean(training.losses[3:])
    whole, _ = mlp.gradients(layers, x, x)
    sizes = [2, 2, 1]
    for losses in (training.losses[:3], training.losses[3:]):
        assert losses @ sizes / 5 == pytest.approx(whole, rel=1e-12)  # only if the batches are a partition


def test_a_training_that_diverges_says_so_in_its_losses(rng):
    layers = mlp.init([2, 3, 1], rng, activation="relu")
    training = mlp.train(
        layers, XOR_INPUTS, XOR_TARGETS, n_epochs=300, activation="relu",
        optimizer="gradient_descent", learning_rate=1e3,
    )  # fmt: skip
    assert len(training.losses) == 300
    assert not np.isfinite(training.losses[-1])
    again = mlp.train(training.layers, XOR_INPUTS, XOR_TARGETS, n_epochs=1)
    assert np.isnan(again.losses[-1])


def test_a_gradient_too_long_to_be_measured_is_infinite():
    layers = tree.map(lambda w: w * 1e60, mlp.init([2, 3, 1], np.random.default_rng(0), activation="relu"))
    training = mlp.train(layers, XOR_INPUTS, XOR_TARGETS, n_epochs=1, activation="relu")
    assert np.isfinite(training.losses[0])
    assert np.isinf(training.gradient_norms).any()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n_epochs": 0}, "n_epochs and batch_size must be at least 1; got n_epochs=0, batch_size=None"),
        ({"batch_size": 0}, "n_epochs and batch_size must be at least 1; got n_epochs=1, batch_size=0"),
        ({"learning_rate": math.nan}, "learning_rate must be a positive number; got nan; try 0.01."),
        ({"activation": "prelu"}, "activation must be one of tanh, sigmoid"),
        ({"optimizer": "newton"}, "optimizer must be one of gradient_descent, momentum, adam; got 'newton'"),
        ({"loss": "hinge"}, "loss must be one of mse, softmax_cross_entropy; got 'hinge'; try 'mse'."),
        ({"x": np.zeros((4, 3))}, "x must be rows of 2 numbers, one for each input; got the shape (4, 3)"),
        (
            {"targets": np.zeros(4)},
            "targets for mse must be numbers of the shape (4, 1); got float64 of the",
        ),
        (
            {"targets": np.array([0, 1, 1, 0]), "loss": "softmax_cross_entropy"},
            "targets for softmax_cross_entropy must be 4 whole numbers from 0 to 0; got int64 of the shape",
        ),
    ],
)
def test_bad_arguments_are_answered_with_rule_facts_and_remedy(arguments, message, rng):
    layers = mlp.init([2, 3, 1], rng)
    with pytest.raises(UserError) as error:
        mlp.train(**{"layers": layers, "x": XOR_INPUTS, "targets": XOR_TARGETS, "n_epochs": 1, **arguments})
    assert str(error.value).startswith(message)


@pytest.mark.parametrize("widths", [[3], [3, 0, 1]])
def test_a_network_needs_an_input_and_an_output(widths, rng):
    with pytest.raises(
        UserError, match=r"widths must be two or more positive numbers, inputs first, outputs last"
    ):
        mlp.init(widths, rng)
