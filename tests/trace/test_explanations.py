"""What is made of a trace: attribution, ablation, patching, lenses, and why a head looks where it looks."""

import itertools

import numpy as np
import pytest

import handgrad
from handgrad import UserError
from handgrad.formats.model_folder import Model
from handgrad.model.transformer import Transformer
from handgrad.trace import (
    ablate,
    attribute,
    edits,
    explain_score,
    in_words,
    logit_lens,
    patch,
    replace,
    runs,
    scale,
    shares,
    sites,
    zero,
)
from handgrad.trace.neurons import strongest
from tests.trace.models import CONFIGS, LETTERS, model_of, weights_of

PRE_NORM = [name for name, config in CONFIGS.items() if config.norm_placement == "pre"]


@pytest.mark.parametrize("method", ["gradient x input", "integrated gradients"])
def test_on_a_linear_model_what_the_tokens_count_sums_to_the_total(method):
    """From the last norm's result on, the logit is linear."""
    found = attribute(
        model_of(), "abcd", "e", objective="logit", site="norm", method=method, steps=3, baseline=0.25
    )
    assert found.by_token.sum() == pytest.approx(found.result - found.baseline, rel=1e-12)
    assert found.values.shape == (4, 8)
    np.testing.assert_allclose(found.by_token[:3], 0.0)  # the last position alone says what comes next


@pytest.mark.parametrize("name", ["nano", "block_gated", "paper"])
def test_integrated_gradients_sum_to_the_total_where_nothing_is_linear(name):
    model = model_of(name)
    found = attribute(model, "abcd", "e")
    scale = 8**0.5 if name == "paper" else 1.0
    mean = scale * model.weights.embedding.mean(axis=0)
    without = handgrad.trace(model, "abcd", "e", edits={"embedding": replace(mean)}).result
    assert found.baseline == pytest.approx(without)
    assert found.missing == pytest.approx(0.0, abs=1e-3 * abs(found.result - without))
    rough = attribute(model, "abcd", "e", method="gradient x input")
    assert abs(rough.missing) > 10 * abs(found.missing)  # a first-order estimate
    assert "background" in found._repr_html_()


def test_a_head_is_what_counts_where_heads_are_looked_at():
    found = attribute(model_of("nano"), "abcd", "e", site="blocks.1.attention.heads", steps=8)
    assert found.values.shape == (2, 4, 4)
    assert found.by_token.shape == (4,)


@pytest.mark.parametrize("each", ["head", "attention", "feed_forward", "neuron"])
@pytest.mark.parametrize("by", ["zero", "mean"])
def test_each_ablation_is_a_run_with_that_part_replaced(each, by):
    model = model_of("block_grouped")
    found = ablate(model, "abcd", "e", each=each, by=by)
    whole = handgrad.trace(model, "abcd", "e")
    assert found.result == whole.result
    site = {"head": "attention.heads", "neuron": "feed_forward.hidden", "attention": "attention.output"}
    n = {"head": 2, "neuron": 12}.get(each)
    assert found.without.shape == ((2, n) if n else (2,))
    for layer, number in itertools.product(range(2), range(n or 1)):
        name = f"blocks.{layer}.{site.get(each, 'feed_forward.down')}"
        where = {"head": np.s_[number], "neuron": np.s_[:, number]}.get(each, ...)
        there = whole[name].value[where]
        instead = there.mean(axis=0) if by == "mean" else 0.0
        one = handgrad.trace(model, "abcd", "e", edits={name: replace(instead, where)}).result
        assert found.without[(layer, number) if n else layer] == pytest.approx(one, rel=1e-12)
    np.testing.assert_array_equal(found.effect, found.without - found.result)


def test_only_the_layers_that_are_asked_for_are_switched_off():
    found = ablate(model_of("nano"), "abcd", layers=[1])
    assert np.isnan(found.without[0]).all()
    assert np.isfinite(found.without[1]).all()
    with pytest.raises(UserError, match="Layers are 0 to 1"):
        ablate(model_of("nano"), "abcd", layers=[2])


def test_patching_all_of_the_stream_at_its_end_gives_the_other_texts_answer():
    model = model_of("nano")
    found = patch(model, "abcd", "fbcd", "e")
    assert found.names == sites.stream(model.config)
    assert found.results.shape == (5, 4)
    assert found.results[-1, -1] == pytest.approx(found.other)
    assert found.recovered[-1, -1] == pytest.approx(1.0)
    np.testing.assert_allclose(found.recovered[0, 1:], 0.0, atol=1e-9)  # these tokens are the same in both
    assert found.recovered[0, 0] == pytest.approx(1.0)  # and this one is all that is not


@pytest.mark.parametrize(("each", "at"), [("position", "blocks.0.attention.output"), ("head", None)])
def test_each_patch_is_a_run_with_the_other_texts_value_there(each, at):
    model = model_of("block_gated")
    found = patch(model, "abcd", "dcba", "e", at=at, each=each)
    theirs = handgrad.trace(model, "dcba", "e")
    for row, name in zip(found.results, found.names, strict=True):
        for place, result in enumerate(row):
            edit = replace(theirs[name].value[place], place)
            one = handgrad.trace(model, "abcd", "e", edits={name: edit}).result
            assert result == pytest.approx(one, rel=1e-12)


def test_an_estimated_patch_is_the_slope_of_the_patched_ones():
    model = model_of("block_grouped")
    nudged = model.weights._replace(embedding=model.weights.embedding.copy())
    nudged.embedding[5] = nudged.embedding[0] + 1e-5 * nudged.embedding[5]
    near = Model(model.config, nudged, LETTERS)
    exact, estimated = (patch(near, "abcd", "fbcd", "e", estimated=flag) for flag in (False, True))
    moved, expected = estimated.results - estimated.result, exact.results - exact.result
    np.testing.assert_allclose(moved, expected, rtol=1e-3, atol=1e-9)
    assert np.abs(expected).max() > 1e-7


@pytest.mark.parametrize(
    ("question", "says"),
    [
        ({"other": "abc"}, "equal length"),
        ({"other": "dcba", "each": "head", "at": "norm"}, "none of which is H"),
    ],
)
def test_what_cannot_be_patched_is_said(question, says):
    with pytest.raises(UserError, match=says):
        patch(model_of(), "abcd", target="e", **question)


def changed(model, text="abcd", **more):
    """A trace without two heads' work, changed further."""
    standing = {"blocks.0.attention.heads": zero(1), "blocks.1.attention.heads": scale(0.5, 0)}
    return handgrad.trace(model, text, "e", edits={**standing, **more})


def test_what_is_changed_stays_so_in_every_run_of_an_experiment():
    model = model_of("block_gated")
    whole, other = changed(model), changed(model, "dcba")
    kept = {"edits": whole.edits}
    first, second = ("blocks.0.attention.heads", "blocks.1.attention.heads")

    found = ablate(model, "abcd", "e", **kept)
    assert found.result == whole.result
    assert found.without[0, 1] == pytest.approx(whole.result)  # it is off already
    assert found.without[0, 0] == pytest.approx(changed(model, **{first: zero()}).result)
    halved = edits.Chained(scale(0.5, 0), zero(1))
    assert found.without[1, 1] == pytest.approx(changed(model, **{second: halved}).result)

    attributed = attribute(model, "abcd", "e", **kept)
    base = model.weights.embedding.mean(axis=0)
    assert attributed.result == whole.result
    assert attributed.baseline == pytest.approx(changed(model, embedding=replace(base)).result)
    assert abs(attributed.missing) < 1e-3

    patched = patch(model, "abcd", "dcba", "e", each="head", **kept)
    assert [patched.result, patched.other] == [whole.result, other.result]
    theirs = edits.Chained(scale(0.5, 0), replace(other.value(second)[0], 0))
    assert patched.results[1, 0] == pytest.approx(changed(model, **{second: theirs}).result)


@pytest.mark.parametrize("first", [zero(1), scale(2.0), edits.Mixed(np.array([[True], [False]]), np.ones(1))])
def test_the_backward_of_two_edits_is_that_of_both_in_turn(first):
    chained, x = edits.Chained(first, scale(3.0, 0)), np.array([[1.0, 2.0], [4.0, 8.0]])
    _, saved = chained.forward(x)
    for i in np.ndindex(x.shape):
        nudged = x.copy()
        nudged[i] += 1.0  # each edit is linear
        slope = chained.forward(nudged)[0] - chained.forward(x)[0]
        np.testing.assert_array_equal(chained.backward(np.ones((2, 2)), saved)[i], slope.sum())


def test_experiments_tell_how_far_they_are_and_end_where_what_is_told_raises(monkeypatch):
    monkeypatch.setattr(runs, "BYTES", 1)
    for experiment, n_runs in (
        (lambda report: ablate(model_of(), "abcd", report=report), 4),
        (lambda report: attribute(model_of(), "abcd", steps=3, report=report), 3),
        (lambda report: patch(model_of(), "abcd", "dcba", "e", report=report), 20),
    ):
        told = []
        experiment(told.append)
        assert told == pytest.approx([(i + 1) / n_runs for i in range(n_runs)])
        with pytest.raises(InterruptedError):
            experiment(stopped)


def stopped(share):
    raise InterruptedError


def test_many_runs_are_cut_into_batches_of_bounded_size_with_the_same_results(monkeypatch):
    whole = ablate(model_of(), "abcd", each="neuron")
    sizes = []
    results = runs.results
    monkeypatch.setattr(runs, "results", lambda *args: sizes.append(args[-1]) or results(*args))
    monkeypatch.setattr(runs, "BYTES", 1)
    np.testing.assert_allclose(ablate(model_of(), "abcd", each="neuron").without, whole.without, rtol=1e-13)
    assert sizes == [1] * 24


@pytest.mark.parametrize("name", CONFIGS)
def test_the_logit_lens_at_the_end_of_the_stream_is_the_model(name):
    trace = handgrad.trace(model_of(name), "abcd")
    lens = logit_lens(trace)
    assert list(lens) == sites.stream(trace.model.config)
    np.testing.assert_allclose(list(lens.values())[-1], trace.logits, rtol=1e-13)


@pytest.mark.parametrize("name", PRE_NORM)
def test_the_shares_of_all_parts_add_up_to_the_logit_and_to_the_lead_over_a_rival(name):
    trace = handgrad.trace(model_of(name), "abcd")
    assert sum(shares(trace, "e").values()) == pytest.approx(trace.logits[-1, 4], rel=1e-10)
    lead = shares(trace, "e", "a")
    assert sum(lead.values()) == pytest.approx(trace.logits[-1, 4] - trace.logits[-1, 0], rel=1e-10)
    assert {"embedding", "blocks.0.head 1", "blocks.1.feed_forward"} <= lead.keys()


@pytest.mark.parametrize("name", PRE_NORM)
def test_the_shares_of_a_score_add_up_to_it(name):
    config = CONFIGS[name]
    trace = handgrad.trace(model_of(name), "abcde")
    for layer, head, query, key in [(0, 0, 4, 2), (1, 1, 3, 0), (1, config.n_heads - 1, -1, -2)]:
        score = explain_score(trace, layer, head, query, key)
        there = trace[f"blocks.{layer}.attention.scores"].value[head, query, key]
        assert score.score == there
        assert score.shares.sum() == pytest.approx(there, rel=1e-9, abs=1e-12)
        assert score.shares.shape == (len(score.query_parts), len(score.key_parts))
    strongest = score.strongest(2)
    assert abs(strongest[0][2]) == np.abs(score.shares).max() >= abs(strongest[1][2])


def test_a_score_that_there_is_not_and_a_stream_that_is_no_sum_are_said():
    trace = handgrad.trace(model_of(), "abcd")
    for place, says in (((9, 0, 0, 0), "layers"), ((0, 9, 0, 0), "heads"), ((0, 0, 4, 0), "positions")):
        with pytest.raises(UserError, match=says):
            explain_score(trace, *place)
    with pytest.raises(UserError, match="Where norms stand before"):
        shares(handgrad.trace(model_of("paper"), "abcd"), "e")
    with pytest.raises(UserError, match="Words are read from the stream"):
        in_words(trace, "blocks.0.attention.probs")


def test_a_gradient_in_words_raises_the_token_that_should_have_come():
    """At the stream's end a step against the gradient raises the target's logit, and no other's as much."""
    config = CONFIGS["nano"].replace(dropout=0.0, d_model=32)
    model = Model(config, weights_of(config), LETTERS)
    for target in "abcdefg":
        words = in_words(handgrad.trace(model, "abcd", target), "norm", n=1)
        assert words[-1].raised == [target]


def test_a_step_against_the_gradient_of_an_edited_stream_lowers_the_loss():
    model, at = model_of("nano"), "blocks.0.residual2"
    trace = handgrad.trace(model, "abcd", "e")
    moved = handgrad.trace(model, "abcd", "e", edits={at: edits.add(-1e-3 * trace[at].gradient)})
    assert moved.result < trace.result


def test_models_with_more_tokens_than_text_are_read_by_ids():
    model = Model(CONFIGS["nano"].replace(dropout=0.0), weights_of(CONFIGS["nano"]))
    trace = handgrad.trace(model, [1, 2, 3], 4)
    assert trace.tokens == ["1", "2", "3"]
    logits, _ = Transformer(model.config).forward(model.weights, np.array([[1, 2, 3]]))
    np.testing.assert_array_equal(trace.logits, logits[0])
    with pytest.raises(UserError, match="no tokenizer"):
        handgrad.trace(model, "abc")


def test_a_neurons_strongest_contexts_are_where_it_is_largest():
    model = model_of("nano")
    tokens = np.random.default_rng(3).integers(7, size=5 * 9 + 3)
    found = strongest(model, tokens, layer=1, unit=4, n=4)
    hidden = [
        handgrad.trace(model, tokens[i : i + 5], 0).value("blocks.1.feed_forward.hidden")[:, 4]
        for i in range(0, len(tokens), 5)
    ]
    expected = np.sort(np.concatenate(hidden))[::-1][:4]
    np.testing.assert_allclose([context.activation for context in found], expected, rtol=1e-10)
    place = int(np.concatenate(hidden).argmax())
    assert found[0].token_ids[found[0].at] == tokens[place]
    with pytest.raises(UserError, match="units are 0 to 11"):
        strongest(model, tokens, layer=0, unit=12)
