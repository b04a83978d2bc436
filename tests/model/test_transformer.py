"""The transformer as a whole: its laws, and the proof of blocks and presets."""

import numpy as np
import pytest

from handgrad import tree
from handgrad.api import loss_and_gradients
from handgrad.errors import UserError
from handgrad.model.cases import BLOCKS, SMALL
from handgrad.model.config import PRESETS, ModelConfig
from handgrad.model.init import init
from handgrad.model.transformer import LanguageModel, Transformer
from handgrad.ops.rope import RopeScaling
from handgrad.proof import results

KINDS = {
    "learned": ModelConfig(**SMALL),
    "sinusoidal, post": ModelConfig(
        **SMALL, position="sinusoidal", norm_placement="post", scale_embedding=True
    ),
    "rope, grouped": ModelConfig(
        **SMALL, position="rope", n_kv_heads=1, qk_norm=True, gated=True, tied=False
    ),
    "rope, scaled, wide heads": ModelConfig(
        **SMALL, position="rope", d_head=6, bias=False, qkv_bias=True, unturned_every=2,
        rope_scaling=RopeScaling("llama3", 4.0, original_context_length=20),
    ),
}  # fmt: skip


@pytest.fixture(params=KINDS)
def config(request):
    return KINDS[request.param]


@pytest.fixture
def weights(config, rng):
    return tree.map(lambda w: w + 0.2 * rng.normal(size=w.shape), init(config, rng, np.float64))


@pytest.mark.parametrize("name", [*BLOCKS, *PRESETS])
def test_backward_is_the_gradient_of_forward(name):
    proved = list(results(name))
    assert proved
    assert all(result.passed for result in proved), proved


def test_future_tokens_do_not_change_the_past(config, weights, rng):
    token_ids = rng.integers(config.vocab_size, size=(2, config.context_length))
    changed = token_ids.copy()
    changed[:, 3:] = (changed[:, 3:] + 1) % config.vocab_size
    model = Transformer(config)
    before, after = (model.forward(weights, ids)[0] for ids in (token_ids, changed))
    np.testing.assert_array_equal(before[:, :3], after[:, :3])
    assert (before[:, 3:] != after[:, 3:]).any()


@pytest.mark.parametrize("cut", [1, 2, 4])
def test_reading_in_two_parts_with_the_cache_is_reading_at_once(config, weights, rng, cut):
    token_ids = rng.integers(config.vocab_size, size=(2, config.context_length))
    model = Transformer(config)
    whole, _ = model.forward(weights, token_ids)
    first, saved = model.forward(weights, token_ids[:, :cut])
    past = [(block.attention.attention.k, block.attention.attention.v) for block in saved.blocks]
    second, _ = model.forward(weights, token_ids[:, cut:], past=past)
    # the same sums, in products of other shapes: a few roundings of float64 apart
    np.testing.assert_allclose(np.concatenate([first, second], axis=1), whole, rtol=1e-12, atol=1e-12)


def test_a_layer_that_turns_nothing_does_not_see_the_order_of_the_past(rng):
    token_ids = np.array([[1, 2, 3, 4, 5]])
    swapped = token_ids[:, [2, 0, 1, 3, 4]]

    def moves(n_layers, unturned_every):
        config = ModelConfig(
            **{**SMALL, "n_layers": n_layers}, position="rope", unturned_every=unturned_every
        )
        weights = tree.map(lambda w: w + 0.3, init(config, rng, np.float64))
        one, other = (Transformer(config).forward(weights, ids)[0][0, -1] for ids in (token_ids, swapped))
        return float(np.abs(one - other).max()) > 1e-9

    assert not moves(1, unturned_every=1)
    assert moves(1, unturned_every=2)
    assert moves(2, unturned_every=2)


def test_every_fourth_layer_turns_nothing_where_that_is_asked_for():
    config = ModelConfig(**{**SMALL, "n_layers": 8}, position="rope", unturned_every=4)
    _, saved = Transformer(config).forward(init(config), np.array([[1, 2]]))
    turns = [each.attention.query_turn is not None for each in saved.blocks]
    assert turns == [config.turns(layer) for layer in range(8)] == 2 * [True, True, True, False]


def test_a_split_batch_sums_to_the_whole(config, weights, rng):
    token_ids, targets = rng.integers(config.vocab_size, size=(2, 4, config.context_length))
    loss, whole = loss_and_gradients(config, weights, token_ids, targets)
    halves = [loss_and_gradients(config, weights, token_ids[i : i + 2], targets[i : i + 2]) for i in (0, 2)]
    assert np.isclose(loss, (halves[0][0] + halves[1][0]) / 2, rtol=1e-13)
    for name, gradient in whole.items():
        np.testing.assert_allclose(gradient, (halves[0][1][name] + halves[1][1][name]) / 2, atol=1e-14)


def test_every_weight_has_a_gradient_by_the_same_name_and_shape(config, weights, rng):
    token_ids, targets = rng.integers(config.vocab_size, size=(2, 2, config.context_length))
    _, gradients = loss_and_gradients(config, weights, token_ids, targets)
    assert {n: g.shape for n, g in gradients.items()} == {n: w.shape for n, w in tree.named_leaves(weights)}


def test_everything_stays_float32_where_weights_are_float32(config, rng):
    token_ids = rng.integers(config.vocab_size, size=(2, config.context_length))
    model = LanguageModel(Transformer(config))
    loss, saved = model.forward(init(config), token_ids, token_ids)
    (gradients,) = model.backward(1.0, saved)
    assert loss.dtype == np.float32
    assert {leaf.dtype for leaf in tree.leaves(gradients)} == {np.dtype(np.float32)}
    floats = {a.dtype for a in tree.leaves(saved) if np.issubdtype(a.dtype, np.floating)}
    assert floats == {np.dtype(np.float32)}


def test_a_new_model_is_as_good_as_guessing(rng):
    config = PRESETS["nano"]
    token_ids, targets = rng.integers(config.vocab_size, size=(2, 2, 64))
    loss, _ = LanguageModel(Transformer(config)).forward(init(config), token_ids, targets)
    assert abs(loss - np.log(config.vocab_size)) < 0.1  # weights of 0.02: logits near zero


def test_dropout_is_off_without_a_generator(rng):
    config = ModelConfig(**SMALL, dropout=0.5)
    weights, token_ids = init(config), rng.integers(config.vocab_size, size=(1, 5))
    model = Transformer(config)
    still = [model.forward(weights, token_ids)[0] for _ in range(2)]
    dropped, _ = model.forward(weights, token_ids, rng=rng)
    np.testing.assert_array_equal(*still)
    assert (dropped != still[0]).any()


def test_targets_of_minus_one_do_not_count(config, weights, rng):
    token_ids, targets = rng.integers(config.vocab_size, size=(2, 2, config.context_length))
    targets[1] = -1
    loss, gradients = loss_and_gradients(config, weights, token_ids, targets)
    alone, gradients_alone = loss_and_gradients(config, weights, token_ids[:1], targets[:1])
    assert np.isclose(loss, alone, rtol=1e-13)
    for name, gradient in gradients_alone.items():
        np.testing.assert_allclose(gradients[name], gradient, atol=1e-14)


@pytest.mark.parametrize(
    ("token_ids", "targets", "words"),
    [
        (np.zeros(3, int), np.zeros(3, int), "add an axis"),
        (np.zeros((1, 3), int), np.zeros((1, 2), int), "both"),
        (np.zeros((1, 0), int), np.zeros((1, 0), int), "at least one"),
        (np.zeros((1, 6), int), np.zeros((1, 6), int), "attends to 5 tokens; got 6"),
        (np.full((1, 3), 7), np.zeros((1, 3), int), "0 to 6"),
        (np.zeros((1, 3), int), np.full((1, 3), -2), "0 to 6"),
    ],
)
def test_ids_that_the_model_cannot_read_are_refused(token_ids, targets, words):
    config = KINDS["learned"]
    with pytest.raises(UserError, match=words):
        loss_and_gradients(config, init(config), token_ids, targets)
