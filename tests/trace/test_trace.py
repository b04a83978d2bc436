"""Every value of a prediction and its gradient: named, right, and changed by name."""

import tracemalloc
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import handgrad
from handgrad import UserError, tree
from handgrad.formats.model_folder import Model
from handgrad.model.config import PRESETS, ModelConfig
from handgrad.model.init import init
from handgrad.model.transformer import LanguageModel, Transformer
from handgrad.tokenizer.characters import CharacterTokenizer
from handgrad.trace import add, memory, prediction, replace, runs, scale, sites, zero
from handgrad.trace.tapped import Tapped
from handgrad.trace.taps import Taps
from tests.trace.models import CONFIGS, LETTERS, model_of, weights_of

STEP = 1e-5


@pytest.fixture(params=CONFIGS)
def config(request):
    return CONFIGS[request.param].replace(dropout=0.0)


def test_a_trace_computes_the_bits_that_the_formulas_compute_forward_and_backward(config, rng):
    weights, token_ids = weights_of(config), rng.integers(config.vocab_size, size=(2, 5))
    dlogits = rng.normal(size=(2, 5, config.vocab_size))
    plain, tapped = Transformer(config), Tapped.of(config, Taps())
    (logits, saved), (tapped_logits, tapped_saved) = (
        transformer.forward(weights, token_ids) for transformer in (plain, tapped)
    )
    assert np.array_equal(logits, tapped_logits)
    (gradients,), (tapped_gradients,) = plain.backward(dlogits, saved), tapped.backward(dlogits, tapped_saved)
    for (name, one), other in zip(tree.named_leaves(gradients), tree.leaves(tapped_gradients), strict=True):
        assert np.array_equal(one, other), name


def test_sites_are_listed_in_the_order_in_which_they_are_computed(config):
    taps = Taps(frozenset(site.name for site in sites.of(config)))
    Tapped.of(config, taps).forward(weights_of(config), np.array([[1, 2, 3]]))
    assert list(taps.values) == [site.name for site in sites.of(config)]


def test_every_site_has_a_value_and_a_gradient_of_its_shape(config):
    trace = handgrad.trace(Model(config, weights_of(config)), [1, 2, 3, 4])
    for site in trace.sites:
        assert trace[site.name].value.shape == sites.shape(site, config, 4)
        assert trace[site.name].gradient.shape == sites.shape(site, config, 4)


def test_every_gradient_is_the_slope_of_the_loss_when_its_site_moves(config, rng):
    model, text = Model(config, weights_of(config)), [1, 2, 3, 4]
    trace = handgrad.trace(model, text)
    for site in trace.sites:
        direction = rng.normal(size=trace[site.name].value.shape)
        steps = STEP * np.stack([direction, -direction])
        ahead, behind = runs.results(trace, {site.name: add(steps)}, 2)
        along = float(np.sum(trace[site.name].gradient * direction))
        assert (ahead - behind) / (2 * STEP) == pytest.approx(along, rel=1e-5, abs=1e-7), site.name


def test_the_loss_and_the_gradients_of_weights_are_those_of_training():
    model = model_of("block_grouped")
    trace = handgrad.trace(model, "abcde")
    ids = LETTERS.encode("abcde")[None]
    targets = np.append(ids[:, 1:], [[-1]], axis=1)
    loss, gradients = LanguageModel(Transformer(model.config)).loss_and_gradients(
        1.0, model.weights, ids, targets
    )
    assert trace.result == pytest.approx(float(loss), rel=1e-14)
    for one, other in zip(tree.leaves(trace.weight_gradients), tree.leaves(gradients), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-10, atol=1e-14)


def test_a_target_asks_for_its_loss_its_logit_or_its_lead_over_a_rival():
    model = model_of()
    logits = handgrad.logits(model.config, model.weights, LETTERS.encode("abc")[None])[0, -1]
    log_probs = logits - np.log(np.exp(logits).sum())
    assert handgrad.trace(model, "abc", "d").result == pytest.approx(-log_probs[3])
    assert handgrad.trace(model, "abc", 3, objective="logit").result == pytest.approx(logits[3])
    lead = handgrad.trace(model, "abc", "d", rival="a")
    assert lead.result == pytest.approx(logits[3] - logits[0])
    wanted = np.zeros(7)
    wanted[[3, 0]] = 1.0, -1.0
    np.testing.assert_array_equal(lead["logits"].gradient[-1], wanted)
    assert lead.next(2)[0][0] == LETTERS.decode([int(logits.argmax())])


def test_later_tokens_have_no_part_in_a_prediction_and_masked_scores_no_gradient():
    trace = handgrad.trace(model_of("nano"), "abcde")
    for layer in range(2):
        probs, dscores = (trace[f"blocks.{layer}.attention.{part}"] for part in ("probs", "scores"))
        later = np.triu(np.ones((5, 5), bool), 1)
        assert not probs.value[:, later].any()
        assert not dscores.gradient[:, later].any()


@pytest.mark.parametrize("edit", [zero, lambda where: scale(0.0, where), lambda where: replace(0.0, where)])
def test_a_head_that_is_silenced_is_as_if_its_rows_of_the_output_were_zero(edit):
    model = model_of("block_grouped")
    block = model.weights.blocks[1]
    output = block.attention.output.weight.copy()
    output[:4] = 0.0
    attention = block.attention._replace(output=block.attention.output._replace(weight=output))
    weights = model.weights._replace(blocks=(model.weights.blocks[0], block._replace(attention=attention)))
    edited = handgrad.trace(model, "abcd", edits={"blocks.1.attention.heads": edit(0)})
    other = handgrad.trace(Model(model.config, weights, LETTERS), "abcd")
    np.testing.assert_allclose(edited.logits, other.logits, rtol=1e-13, atol=1e-13)
    np.testing.assert_allclose(
        edited["embedding"].gradient, other["embedding"].gradient, rtol=1e-10, atol=1e-13
    )
    assert not edited["blocks.1.attention.heads"].value[0].any()


@pytest.mark.parametrize(
    "edit", [scale(1.7, np.s_[1:3]), replace(0.4, np.s_[:, 2]), lambda x: np.where(x > 0.1, 0.1, x)]
)
def test_the_gradients_of_an_edited_model_are_its_own(edit, rng):
    model, at = model_of(), "blocks.0.residual1"
    trace = handgrad.trace(model, "abcd", edits={at: edit})
    direction = rng.normal(size=trace["embedding"].value.shape)
    ahead, behind = (
        handgrad.trace(model, "abcd", edits={"embedding": add(sign * STEP * direction), at: edit}).result
        for sign in (1, -1)
    )
    along = float(np.sum(trace["embedding"].gradient * direction))
    assert (ahead - behind) / (2 * STEP) == pytest.approx(along, rel=1e-6)


def test_a_gradient_that_is_edited_changes_all_that_lies_before_it_and_no_value():
    model, at = model_of("nano"), "blocks.1.residual1"
    plain = handgrad.trace(model, "abcd")
    edited = handgrad.trace(model, "abcd", gradient_edits={at: zero()})
    assert edited.result == plain.result
    order = plain.names.index(at)
    for name in plain.names[:order]:
        np.testing.assert_array_equal(edited[name].value, plain[name].value)
        assert not edited[name].gradient.any(), name
    doubled = handgrad.trace(model, "abcd", gradient_edits={at: lambda gradient: 2 * gradient})
    np.testing.assert_allclose(doubled["embedding"].gradient, 2 * plain["embedding"].gradient, rtol=1e-12)


def test_what_lies_in_a_block_is_kept_where_there_is_room_and_else_computed_when_asked_for(monkeypatch):
    model = model_of()
    roomy, little = handgrad.trace(model, "abcd"), handgrad.trace(model, "abcd", hold=1)
    calls = []
    tapped_block = Tapped.tapped_block

    def counted(self, layer, taps):
        calls.append(layer)
        return tapped_block(self, layer, taps)

    monkeypatch.setattr(Tapped, "tapped_block", counted)
    inside = [name for name in roomy.names if name.startswith("blocks.1.")]
    for name in [*inside, *inside]:
        roomy.value(name)
    assert calls == []
    for name in [*inside, *inside]:
        little.value(name)
    assert calls == [1]
    roomy.release()
    roomy.value("blocks.1.norm1")
    assert calls == [1, 1]


def test_what_is_kept_and_what_is_computed_anew_are_the_same_bits():
    model = model_of()
    little, fresh, released = (handgrad.trace(model, "abcd", hold=hold) for hold in (1, None, None))
    released.release()
    for name in [*little.names, *reversed(little.names)]:
        for other in (little, released):
            np.testing.assert_array_equal(other.value(name), fresh.value(name))
            np.testing.assert_array_equal(other.gradient(name), fresh.gradient(name))
    assert len(little._inside) <= 2


def test_several_threads_may_ask_a_trace_at_once():
    model = model_of()
    trace, alone = handgrad.trace(model, "abcd", hold=1), handgrad.trace(model, "abcd", hold=1)
    names = trace.names * 5
    with ThreadPoolExecutor(8) as threads:
        found = list(threads.map(trace.gradient, names))
    for name, gradient in zip(names, found, strict=True):
        np.testing.assert_array_equal(gradient, alone.gradient(name))


def test_a_wrong_name_is_an_error_that_lists_near_ones():
    model = model_of()
    trace = handgrad.trace(model, "abcd")
    with pytest.raises(UserError, match=r"near are blocks\.0\.attention\.scores"):
        trace["blocks.0.attention.score"]
    for wrong in ({"edits": {"residual": zero()}}, {"gradient_edits": {"x": zero()}}):
        with pytest.raises(UserError, match="no site"):
            handgrad.trace(model, "abcd", **wrong)


@pytest.mark.parametrize("edit", [zero(9), replace(np.zeros(3)), lambda x: x[:, :1], lambda x: "no number"])
def test_an_edit_that_does_not_fit_is_said_with_the_site_and_its_shape(edit):
    with pytest.raises(UserError, match=r"blocks\.0\.residual1 has the shape \(4, 8\)"):
        handgrad.trace(model_of(), "abcd", edits={"blocks.0.residual1": edit})


@pytest.mark.parametrize(
    ("question", "says"),
    [
        ({"text": "abz"}, "z"),
        ({"text": "abcdef"}, "attends to 5"),
        ({"text": ""}, "at least one token"),
        ({"text": "a"}, "Name a target"),
        ({"text": "ab", "target": "cd"}, "one token"),
        ({"text": "ab", "target": 7}, "below 7"),
        ({"text": "ab", "rival": "c"}, "Name it: target"),
        ({"text": "ab", "target": "c", "rival": "a", "objective": "loss"}, "Leave out"),
        ({"text": "ab", "target": "c", "objective": "los"}, "Did you mean loss"),
    ],
)
def test_a_question_that_cannot_be_answered_is_refused_in_a_sentence(question, says):
    with pytest.raises(UserError, match=says):
        handgrad.trace(model_of(), **question)


def test_memory_is_said_beforehand_and_what_does_not_fit_is_refused(monkeypatch):
    assert memory(PRESETS["gpt2"], 1024) < 3e9
    monkeypatch.setattr("handgrad.engines.fits.available", lambda: 1_000)
    with pytest.raises(UserError, match=r"This trace needs .* shorter text"):
        handgrad.trace(model_of(), "abcd")


@pytest.mark.parametrize("held", [1 << 20, 1 << 30])
def test_a_trace_takes_at_most_the_memory_that_was_said(held, monkeypatch):
    monkeypatch.setattr(prediction, "HELD_BYTES", held)
    config = ModelConfig(vocab_size=50, context_length=96, n_layers=6, n_heads=8, d_model=64)
    model = Model(config, init(config, 1))
    token_ids = np.arange(96) % 50
    names = handgrad.trace(model, token_ids).names
    tracemalloc.start()
    trace = handgrad.trace(model, token_ids)
    for name in names:
        trace.gradient(name)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert 0.4 * memory(config, 96) < peak < memory(config, 96)


def test_a_notebook_shows_a_table_of_sites_and_text_cannot_reach_into_it():
    html = handgrad.trace(model_of(), "abcd", "e")._repr_html_()
    assert "blocks.1.feed_forward.gate" in html
    assert "loss" in html
    letters = CharacterTokenizer("&<>bxyz")
    shown = handgrad.trace(Model(CONFIGS["nano"], weights_of(CONFIGS["nano"]), letters), "<b>&")._repr_html_()
    assert "<b>" not in shown
