"""What is chosen for some minutes follows from the text's size and the speed that was measured."""

import itertools
import json

import numpy as np
import pytest

import handgrad
from handgrad.data import batches, corpus
from handgrad.data.corpus import Corpus
from handgrad.errors import UserError
from handgrad.model.config import PRESETS
from handgrad.model.count import count
from handgrad.training import dial, run
from handgrad.training.clock import Clock
from handgrad.training.dial import Candidate
from handgrad.training.events import Planned, Preparing
from handgrad.training.prepare import Asked, n_tokens, prepare
from handgrad.training.recipe import RECIPES

QUICK = Candidate(PRESETS["quick"], RECIPES["quick"].replace(minutes=1.0))
LONG = 10**9
SIZES = dial.candidates(QUICK, {}, LONG)


def machine(flops):
    """How long a step takes on a machine that makes so many operations a second."""
    return lambda it: count(it.model).training_flops_per_token * it.tokens_a_step / flops


def chosen(seconds, n_tokens=LONG, flops=3e11):
    return dial.plan(SIZES, n_tokens, seconds, machine(flops))


def test_sizes_grow_and_each_is_there_once():
    weights = [it.weights for it in SIZES]
    assert weights == sorted(set(weights))
    assert len(SIZES) == len(dial.SIZES)


def test_more_time_or_a_faster_machine_never_makes_a_model_smaller_or_its_training_shorter():
    plans = [chosen(60.0 * minutes) for minutes in (0.2, 1, 3, 10, 30, 120)]
    for less, more in itertools.pairwise(plans):
        assert less.chosen.weights <= more.chosen.weights
        assert less.passes <= more.passes
    assert chosen(60.0, flops=1e11).chosen.weights <= chosen(60.0, flops=1e12).chosen.weights


def test_what_is_chosen_has_time_for_its_tokens_and_the_next_size_has_not():
    plan = chosen(600.0)
    *_, last = plan.measured
    tokens = plan.chosen.recipe.steps * plan.chosen.tokens_a_step
    assert dial.worth(tokens, LONG) >= dial.TOKENS_A_WEIGHT * plan.chosen.weights
    assert last.candidate.weights > plan.chosen.weights
    assert not last.is_worth_its_size


def test_steps_fill_the_time_but_for_evaluations():
    plan = chosen(600.0)
    taken = plan.chosen.recipe.steps * machine(3e11)(plan.chosen)
    assert 0.9 * 600 < taken <= 600


def test_a_short_text_gets_a_small_model_and_more_dropout():
    short, long = (chosen(600.0, n_tokens) for n_tokens in (20_000, LONG))
    assert short.chosen.weights <= (1 + dial.REPEATED) * 20_000 / dial.TOKENS_A_WEIGHT < long.chosen.weights
    assert short.chosen.model.dropout > long.chosen.model.dropout == 0.0


def test_a_text_that_is_read_again_is_worth_less_each_time_and_never_more_than_so_many_times_its_length():
    assert dial.worth(500, 1000) == 500
    assert dial.worth(1000, 1000) == 1000
    worths = [dial.worth(1000 * passes, 1000) for passes in (1, 2, 3, 10, 100, 1000)]
    gains = [more - less for less, more in itertools.pairwise(worths[:3])]
    assert 1000 > gains[0] > gains[1] > 0
    assert worths == sorted(worths)
    assert worths[-1] == pytest.approx(1000 * (1 + dial.REPEATED))


def test_dropout_grows_with_a_models_size_and_with_how_often_it_reads():
    small, large = (dial.Measured(SIZES[i], 100_000, 1_000_000) for i in (2, 5))
    assert dial.dropout_for(small) < dial.dropout_for(large)
    assert dial.dropout_for(large._replace(steps=10_000)) < dial.dropout_for(large)
    assert dial.dropout_for(large._replace(steps=100)) == 0.0


def test_time_for_no_model_is_spent_on_the_smallest():
    assert chosen(1e-4).chosen.weights == SIZES[0].weights
    assert chosen(1e-4).chosen.recipe.steps == 1


def test_a_text_of_a_few_lines_has_a_context_that_suits_it():
    assert {it.model.context_length for it in dial.candidates(QUICK, {}, 480)} == {30}
    (named, *_) = dial.candidates(QUICK, {"context_length": 64}, 480)
    assert named.model.context_length == QUICK.model.context_length


def test_a_text_too_short_for_the_context_that_is_named_is_refused_before_anything_is_measured(text_file):
    events = []
    with pytest.raises(UserError, match="Give more text, or --context-length"):
        prepared(text_file, events, options={"context_length": 10**6})
    assert not any("measuring" in event.doing for event in events if isinstance(event, Preparing))


def test_options_stay_as_they_are_named():
    asked = Asked(options={"minutes": 1.0, "d_model": 96, "batch_size": 5, "activation": "silu"})
    for model, recipe in dial.candidates(asked.configured(), asked.options, LONG):
        assert (model.d_model, recipe.batch_size, model.activation) == (96, 5, "silu")
    fixed = dial.plan(SIZES, 20_000, 600.0, machine(3e11), ("dropout", "eval_every"))
    assert fixed.chosen.model.dropout == QUICK.model.dropout
    assert fixed.chosen.recipe.eval_every == QUICK.recipe.eval_every


def test_a_named_preset_is_not_chosen_but_only_timed(text_file):
    model, recipe, *_ = prepared(text_file, preset="nano", options={"minutes": 0.02, "d_model": 16})
    assert model == PRESETS["nano"].replace(d_model=16, vocab_size=model.vocab_size)
    assert recipe.replace(steps=1, eval_every=1) == RECIPES["nano"].replace(
        minutes=0.02, steps=1, eval_every=1
    )


def prepared(text_file, events=None, **asked):
    text = Corpus("text", files=(text_file,))
    return prepare(text, Asked(**asked), Clock((events if events is not None else []).append))


def test_a_plan_says_what_was_chosen_and_why(text_file):
    events = []
    model, recipe, *_ = prepared(text_file, events, options={"minutes": 0.02})
    (planned,) = (event for event in events if isinstance(event, Planned))
    said = {reason.what: reason for reason in planned.reasons}
    assert list(said) == ["tokenizer", "model", "context", "batch", "steps", "dropout", "learning rate"]
    assert said["model"].choice.startswith(f"{model.d_model} wide, {model.n_layers} layers")
    assert f"{recipe.steps:,}" in said["steps"].choice
    assert all(reason.why for reason in planned.reasons)


def test_what_is_kept_to_validate_is_not_counted_as_text_to_read(text_file):
    events = []
    prepared(text_file, events, options={"minutes": 0.02})
    (planned,) = (event for event in events if isinstance(event, Planned))
    learned, _ = batches.split(np.zeros(len(text_file.read_text(encoding="utf-8"))), 8)
    assert planned.plan.n_tokens == pytest.approx(len(learned), abs=1)
    assert planned.reasons[0].why.startswith(f"{planned.plan.n_tokens:,} tokens to train on")


def test_without_steps_or_minutes_a_run_takes_a_minute_and_a_preset_its_own_steps():
    assert Asked().configured().recipe.minutes == 1.0
    assert Asked(options={"steps": 5}).configured().recipe.minutes is None
    assert Asked(preset="nano").configured().recipe == RECIPES["nano"]
    with pytest.raises(UserError, match="Name one of them"):
        Asked(options={"steps": 5, "minutes": 1.0}).configured()


def test_long_texts_and_those_with_many_characters_are_read_in_pieces_of_words():
    letters = "".join(map(chr, range(0x4E00, 0x4E00 + 400)))
    assert dial.tokenizer_for(Corpus("short", text="a few letters\n")) == "characters"
    assert dial.tokenizer_for(Corpus("chinese", text=letters)) == "bpe"
    assert dial.tokenizer_for(Corpus("long", text="abc\n" * (dial.MOST_CHARACTERS // 4 + 1))) == "bpe"


def test_a_sample_of_a_long_text_is_from_everywhere_and_a_short_one_is_whole():
    text = "".join(f"{i:07}\n" for i in range(200_000))
    assert "".join(Corpus("numbers", text=text).sample(len(text))) == text
    sample = "".join(Corpus("numbers", text=text).sample(len(text) // 4))
    assert len(sample) <= 1.2 * len(text) / 4
    assert sample.startswith("0000000\n")
    assert "\n0198000\n" in sample


def test_a_sample_is_as_long_as_asked_for_however_short_the_pieces_that_a_file_is_read_in(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(corpus, "PIECE_BYTES", 1_000)
    monkeypatch.setattr(corpus, "BLOCK", 100)
    path = tmp_path / "numbers.txt"
    path.write_text("".join(f"{i:07}\n" for i in range(12_500)))
    sample = list(corpus.open_corpus([path]).sample(5_000))
    assert 4_000 <= sum(map(len, sample)) <= 6_000
    assert int(sample[len(sample) // 2][:7]) == pytest.approx(6_250, rel=0.1)


def test_tokens_are_counted_without_encoding_all_of_a_text():
    text = Corpus("text", text="ab" * 1_000_000)
    assert n_tokens(text, handgrad.tokenizer.train("characters", text.pieces())) == 2_000_000


def test_kernels_that_are_compiled_begin_the_clock_anew():
    events = []
    clock = Clock(events.append)
    before = clock.beginning()
    assert clock.beginning() == before
    clock.compiling("one")
    clock.compiling("two")
    assert clock.beginning() > before
    assert [(event.kernel, event.n) for event in events] == [("one", 1), ("two", 2)]
    assert clock.seconds >= 0.0


def test_a_run_without_options_is_planned_trained_and_kept(text_file, tmp_path, monkeypatch):
    monkeypatch.setattr(dial, "SIZES", dial.SIZES[:1])
    folder = handgrad.train(text_file, out=tmp_path / "run", minutes=0.03)
    about = run.about(folder)
    assert about.is_finished
    assert about.config.preset == "quick"
    assert json.loads((folder / "config.json").read_text())["recipe"]["minutes"] == 0.03
