"""The proof on a user's own model: what is right passes, and each kind of fault is found and named."""

import tracemalloc

import numpy as np
import pytest

from handgrad import ops, tree
from handgrad.engines import fits
from handgrad.errors import UserError
from handgrad.formats.model_folder import Model
from handgrad.model import cases
from handgrad.model.config import PRESETS, ModelConfig
from handgrad.model.init import init
from handgrad.model_proof import check_model, weight_proofs
from handgrad.optim import adamw
from handgrad.tokenizer import CharacterTokenizer

TOKENIZER = CharacterTokenizer("abcdefg")


def small(preset: str, **changes) -> Model:
    config = cases.small(PRESETS[preset]).replace(**changes)
    return Model(config, init(config, 1), TOKENIZER)


@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_passes_and_only_keys_have_a_bias_without_gradient(preset):
    model = small(preset)
    proofs = check_model(model)
    assert [proof.name for proof in proofs] == [name for name, _ in tree.named_leaves(model.weights)]
    assert [proof for proof in proofs if not proof.passed] == []
    without = {proof.name.split(".", 2)[-1] for proof in proofs if proof.n_zero == proof.size}
    assert without == ({"attention.key.bias"} if model.config.bias else set())


def test_a_wrong_gradient_is_found_in_the_weights_it_belongs_to(monkeypatch):
    right = ops.layer_norm.backward

    def wrong(dy, saved):
        dx, dgamma, dbeta = right(dy, saved)
        return dx, dgamma * (1 + 1e-5), dbeta

    monkeypatch.setattr(ops.layer_norm, "backward", wrong)
    failed = {proof.name for proof in check_model(small("nano")) if not proof.passed}
    assert failed == {f"blocks.{i}.norm{j}.gamma" for i in (0, 1) for j in (1, 2)} | {"norm.gamma"}


def test_weights_without_a_gradient_are_found(monkeypatch):
    right = ops.layer_norm.backward
    monkeypatch.setattr(
        ops.layer_norm, "backward", lambda dy, saved: tree.map(lambda g: g * (g.ndim > 1), right(dy, saved))
    )
    failed = [proof for proof in check_model(small("nano")) if not proof.passed]
    assert len(failed) == 5
    for proof in failed:
        assert "gamma" in proof.name
        assert proof.n_zero == proof.size
        assert proof.why_zero == ""


def test_weights_that_a_step_does_not_move_are_found(monkeypatch):
    right = adamw.update

    def lazy(weights, *arguments, **settings):
        _, state = right(weights, *arguments, **settings)
        return weights, state

    monkeypatch.setattr(adamw, "update", lazy)
    proofs = check_model(small("nano"))
    assert all(proof.n_unmoved > 0 and not proof.passed for proof in proofs)


def test_tokens_that_the_batch_does_not_have_are_the_reason_for_rows_without_gradient():
    model = small("nano", tied=False, vocab_size=3000)
    embedding, *others = check_model(Model(model.config, model.weights, None))
    assert embedding.why_zero == "tokens that the batch does not have"
    assert 0 < embedding.n_zero < embedding.size
    assert all(proof.passed for proof in (embedding, *others))


def test_units_that_are_off_are_the_reason_for_weights_without_gradient():
    model = small("paper")
    for block in model.weights.blocks:
        block.feed_forward.up.bias[3] = -100.0
    proofs = {proof.name: proof for proof in check_model(model)}
    for part, n_zero in (("up.weight", 8), ("up.bias", 1), ("down.weight", 8)):
        proof = proofs[f"blocks.0.feed_forward.{part}"]
        assert (proof.n_zero, proof.why_zero) == (n_zero, "units that no token turns on")
        assert proof.passed


def test_slopes_of_units_that_are_always_on_have_no_gradient():
    model = small("paper", activation="prelu")
    for block in model.weights.blocks:
        block.feed_forward.up.bias[3] = 100.0
    proofs = {proof.name: proof for proof in check_model(model)}
    alpha = proofs["blocks.0.feed_forward.alpha"]
    assert (alpha.n_zero, alpha.why_zero) == (1, "units that no token makes negative")
    assert all(proof.passed for proof in proofs.values())


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("qk_norm", [False, True])
def test_with_one_position_queries_and_keys_have_no_gradient(preset, qk_norm):
    proofs = check_model(small(preset, context_length=1, qk_norm=qk_norm))
    assert [proof for proof in proofs if not proof.passed] == []
    for proof in proofs:
        decides = any(part in proof.name for part in ("query", "key"))
        assert decides == (proof.why_zero == "one position: there is nowhere else to look")
        assert not decides or proof.n_zero == proof.size


def test_with_one_token_nothing_has_a_gradient():
    model = small("nano", vocab_size=1)
    proofs = check_model(Model(model.config, model.weights, None))
    assert all(proof.passed and proof.n_zero == proof.size for proof in proofs)
    assert {proof.why_zero for proof in proofs} == {"one token: there is nothing to predict"}


@pytest.mark.parametrize(
    "changes",
    [{"vocab_size": 2000}, {"context_length": 1024}, {"d_ff": 600, "activation": "gelu_tanh"}],
    ids=str,
)
def test_the_memory_that_a_proof_needs_is_asked_for(changes, monkeypatch):
    model = small("nano", **changes)
    model = Model(model.config, model.weights, None)
    tracemalloc.start()
    next(weight_proofs(model))  # the largest batch comes first
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    monkeypatch.setattr(fits, "available", lambda: peak)
    with pytest.raises(UserError, match="The proof of this model needs"):
        check_model(model)
    monkeypatch.setattr(fits, "available", lambda: 2 * peak)
    next(weight_proofs(model))


def test_weights_of_another_model_are_refused():
    model = small("nano")
    with pytest.raises(UserError, match="another model"):
        check_model(Model(ModelConfig(), model.weights, TOKENIZER))


def test_the_same_seed_gives_the_same_verdicts():
    model = small("llama")
    assert check_model(model, seed=3) == check_model(model, seed=3)
    assert check_model(model, seed=3) != check_model(model, seed=4)


@pytest.mark.parametrize("seed", [-1, 1.5, None])
def test_a_seed_that_is_none_is_refused(seed):
    with pytest.raises(UserError, match="seed must be a whole number from 0"):
        check_model(small("nano"), seed=seed)


def test_the_weights_are_left_as_they_are():
    model = small("nano")
    before = tree.map(np.copy, model.weights)
    check_model(model)
    for old, new in zip(tree.leaves(before), tree.leaves(model.weights), strict=True):
        np.testing.assert_array_equal(old, new)
