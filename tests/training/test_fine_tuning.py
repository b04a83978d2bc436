"""A run that begins from a model has its weights and its tokenizer, and says the loss before and after."""

import dataclasses
import json
import signal

import numpy as np
import pytest
from safetensors.numpy import load_file

import handgrad
from handgrad import tree
from handgrad.engines import OptimizerSettings, State, reference
from handgrad.errors import UserError
from handgrad.formats.model_folder import BEST, LAST, Model
from handgrad.model.config import ModelConfig
from handgrad.model.init import init
from handgrad.tokenizer import ByteTokenizer, CharacterTokenizer
from handgrad.training import doctor, evaluate, metrics, run
from handgrad.training.events import Evaluated, StepDone
from handgrad.training.prepare import Asked
from handgrad.training.recipe import LORA_LEARNING_RATE
from tests.training.test_training import assert_same_weights

CONFIG = ModelConfig(
    vocab_size=260, context_length=64, n_layers=1, n_heads=2, d_model=16, position="rope", dropout=0.1
)
BRIEF = {"steps": 6, "batch_size": 4, "eval_every": 3, "engine": "reference"}


@pytest.fixture(scope="module")
def model():
    """With more tokens than its tokenizer knows, as published ones have."""
    return Model(CONFIG, init(CONFIG), ByteTokenizer(), (1,), (2, 3), "{{ messages[0].content }}")


@pytest.fixture
def source(model, tmp_path):
    return handgrad.save(model, tmp_path / "model")


def tuned(text_file, source, **options):
    asked = {"begin_from": source, "out": text_file.parent / "run"} | BRIEF | options
    return handgrad.train(text_file, **asked)


def stopping(step):
    def report(event):
        if isinstance(event, StepDone) and event.step == step:
            signal.raise_signal(signal.SIGINT)

    return report


def test_it_begins_with_the_models_weights_and_keeps_all_else_of_it(text_file, source, model):
    events = []
    folder = tuned(text_file, source, report=events.append, steps=1, dropout=0.0, context_length=16)
    before, after = (event for event in events if isinstance(event, Evaluated))
    held_out = model.tokenizer.encode(text_file.read_text())[-run.about(folder).config.validation_tokens :]
    training = reference.Training(
        CONFIG.replace(context_length=16), State(model.weights), OptimizerSettings()
    )
    assert before.validation_loss == evaluate.loss(training, held_out, 4)  # all of it, though it is the first
    assert before.is_whole
    assert run.about(folder).losses_before_and_after == (before.validation_loss, after.validation_loss)
    assert after.validation_loss < before.validation_loss
    there = handgrad.load(folder)
    assert there.config == CONFIG.replace(dropout=0.0)  # its context is its own, not the window
    assert (there.starts, there.ends, there.chat_template) == (model.starts, model.ends, model.chat_template)
    assert there.tokenizer.to_json() == model.tokenizer.to_json()


def test_a_run_can_be_begun_from_by_another_run(text_file, source, tmp_path):
    first = tuned(text_file, source)
    second = handgrad.train(text_file, begin_from=first, out=tmp_path / "second", **BRIEF)
    assert run.about(second).evaluations[0].validation_loss == run.about(first).best_validation_loss


def test_a_stopped_one_goes_on_bit_for_bit(text_file, source, tmp_path):
    whole = tuned(text_file, source)
    stopped = tmp_path / "stopped"

    with pytest.raises(KeyboardInterrupt):
        handgrad.train(text_file, begin_from=source, out=stopped, report=stopping(2), **BRIEF)
    assert handgrad.resume(stopped)
    assert_same_weights(whole, stopped)


def test_a_learned_position_for_each_token_has_the_whole_context_trained(text_file, tmp_path):
    config = CONFIG.replace(position="learned", context_length=32)
    source = handgrad.save(Model(config, init(config), ByteTokenizer()), tmp_path / "model")
    with pytest.raises(UserError, match=r"learned a position for each of its 32 tokens.*Leave it out\."):
        tuned(text_file, source, context_length=16)
    folder = handgrad.train(
        text_file, begin_from=source, out=tmp_path / "run", steps=1, batch_size=2, engine="reference"
    )
    assert handgrad.load(folder).config == config


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"n_layers": 2}, r"keeps its architecture and its tokenizer; got n_layers\. Leave"),
        ({"preset": "nano", "activation": "relu"}, r"got preset, activation\. Leave"),
        ({"tokenizer": "bytes", "vocab_size": 300}, r"got tokenizer, vocab_size\. Leave"),
        ({"context_length": 65}, r"attends to 64 tokens; got context_length=65"),
        ({"context_length": 0}, r"context_length counts something"),
        ({"begin_from": "nowhere"}, r"no run or model in nowhere"),
        ({"steps": 1, "minutes": 1}, r"Name one of them"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_written(text_file, source, options, sentence):
    with pytest.raises(UserError, match=sentence):
        tuned(text_file, source, **options)
    assert not (text_file.parent / "run").exists()


def test_a_text_that_the_tokenizer_does_not_know_is_refused(text_file, tmp_path):
    config = CONFIG.replace(vocab_size=3)
    source = handgrad.save(Model(config, init(config), CharacterTokenizer("abc")), tmp_path / "model")
    with pytest.raises(UserError, match=r"knows the 3 characters.*never seen '\\n', ' '"):
        tuned(text_file, source)
    assert not (text_file.parent / "run").exists()


def test_a_model_without_a_tokenizer_is_refused(text_file, tmp_path):
    source = handgrad.save(Model(CONFIG, init(CONFIG)), tmp_path / "model")
    with pytest.raises(UserError, match=r"reads text by its tokenizer; .* has none"):
        tuned(text_file, source)


def test_minutes_say_only_how_many_steps_there_are(text_file, source):
    asked = {name: value for name, value in BRIEF.items() if name not in ("steps", "eval_every")}
    folder = handgrad.train(text_file, begin_from=source, out=text_file.parent / "run", minutes=0.02, **asked)
    about = run.about(folder)
    assert about.config.model == CONFIG
    assert about.is_finished


def test_an_old_learning_rate_is_not_judged_by_first_weights(text_file, source):
    about = run.about(tuned(text_file, source, steps=150, eval_every=150, learning_rate=1e-9))
    assert about.finding is None
    judged = dataclasses.replace(about.config, begun_from="")
    assert doctor.examine(metrics.read(text_file.parent / "run"), judged).kind == "learning rate too low"


TALKS = "".join(
    json.dumps(
        {"messages": [{"role": "user", "content": f"{i}+{i}?"}, {"role": "assistant", "content": f"{2 * i}"}]}
    )
    + "\n"
    for i in range(20)
)
TEMPLATE = (
    "{% for m in messages %}{{ m.role[0] }}{{ m.content }}\n{% endfor %}{{ 'a' if add_generation_prompt }}"
)


@pytest.fixture
def talks(tmp_path):
    path = tmp_path / "talks.jsonl"
    path.write_text(TALKS)
    return path


@pytest.fixture
def speaker(tmp_path):
    """A model whose answers end with a line."""
    model = Model(CONFIG, init(CONFIG), ByteTokenizer(), (), (10,), TEMPLATE)
    return handgrad.save(model, tmp_path / "speaker")


def test_of_conversations_only_the_answers_loss_is_learned_and_measured(talks, speaker):
    events = []
    folder = tuned(talks, speaker, report=events.append, steps=40, learning_rate=1e-2, dropout=0.0)
    about = run.about(folder)
    before, after = about.losses_before_and_after
    assert after < before / 2
    assert (about.config.conversations, about.config.recipe.window) == (20, 32)
    assert (about.config.validation_tokens, about.config.validation_bytes) == (6, 6)  # 36, 38, and line ends
    model = handgrad.load(speaker)
    token_ids = np.stack([model.tokenizer.encode(f"u{i}+{i}?\na{2 * i}\n") for i in (18, 19)])
    targets = np.where(np.arange(11) >= 8, token_ids[:, 1:], -1)
    training = reference.Training(CONFIG, State(model.weights), OptimizerSettings())
    assert before == pytest.approx(training.loss(token_ids[:, :-1], targets), rel=1e-6)
    assert handgrad.load(folder).chat_template == TEMPLATE


def test_a_stopped_run_of_conversations_goes_on_bit_for_bit(talks, speaker, tmp_path):
    whole, stopped = tuned(talks, speaker), tmp_path / "stopped"
    with pytest.raises(KeyboardInterrupt):
        handgrad.train(talks, begin_from=speaker, out=stopped, report=stopping(2), **BRIEF)
    assert handgrad.resume(stopped)
    assert_same_weights(whole, stopped)


@pytest.mark.parametrize(
    ("lines", "options", "sentence"),
    [
        ([TALKS, "{}"], {}, r"talks\.jsonl, line 21 is no conversation"),
        ([TALKS, '[{"role": "user", "content": "Hi"}]'], {}, r"line 21: Nothing in it is said by the role"),
        (TALKS.split("\n")[:1], {}, r"that takes 2 at least; got 1"),
        (
            [TALKS],
            {"context_length": 4},
            r"Conversation 1 is cut after 4 tokens, and its first answer begins",
        ),
    ],
)
def test_conversations_that_cannot_be_learned_from_are_refused(talks, speaker, lines, options, sentence):
    talks.write_text("".join(lines))
    with pytest.raises(UserError, match=sentence):
        handgrad.train(talks, begin_from=speaker, out=talks.parent / "run", **options)
    assert not (talks.parent / "run").exists()


LORA = {"lora_rank": 3, "lora_alpha": 6.0, "context_length": 16, "dropout": 0.0}


def test_lora_learns_matrices_whose_product_every_command_reads_merged(text_file, source, model):
    folder = tuned(text_file, source, steps=30, eval_every=30, learning_rate=1e-2, **LORA)
    before, after = run.about(folder).losses_before_and_after
    assert after < before - 0.05
    there, added = (handgrad.load(folder).weights, load_file(folder / LAST))
    base = dict(tree.named_leaves(model.weights))
    for name, weight in tree.named_leaves(there):
        if f"{name}.a" not in added:
            np.testing.assert_array_equal(weight, base[name])
            continue
        expected = base[name] + 2.0 * added[f"{name}.a"] @ added[f"{name}.b"]
        assert np.abs(expected - base[name]).max() > 1e-4
        np.testing.assert_allclose(weight, expected, atol=1e-7)
    assert {name.removesuffix(".a") for name in added if name.endswith(".a")} == {
        name for name, weight in base.items() if name.startswith("blocks.") and weight.ndim == 2
    }
    assert added["adam.mean"].size == sum(added[name].size for name in added if name.endswith((".a", ".b")))


def test_a_stopped_run_with_lora_goes_on_bit_for_bit(text_file, source, tmp_path):
    asked = BRIEF | LORA
    whole, stopped = tuned(text_file, source, **LORA), tmp_path / "stopped"
    with pytest.raises(KeyboardInterrupt):
        handgrad.train(text_file, begin_from=source, out=stopped, report=stopping(4), **asked)
    assert handgrad.resume(stopped)
    assert_same_weights(whole, stopped)
    best, other = (load_file(folder / BEST) for folder in (whole, stopped))
    assert all(np.array_equal(best[name], other[name]) for name in best)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"lora_rank": 16}, r"below the width of every matrix; got lora_rank=16.*such as 2\."),
        ({"lora_rank": 0}, r"lora_rank must be a whole number from 1"),
        ({"lora_rank": 2, "optimizer": "muon"}, r"trained by AdamW on the cpu or the reference engine"),
        ({"lora_rank": 2, "engine": "xla"}, r"trained by AdamW on the cpu or the reference engine"),
        ({"lora_rank": 2, "begin_from": None, "preset": "nano"}, r"Name it: --from MODEL"),
    ],
)
def test_lora_that_cannot_be_is_refused(text_file, source, options, sentence):
    with pytest.raises(UserError, match=sentence):
        tuned(text_file, source, **options)
    assert not (text_file.parent / "run").exists()


def test_a_checkpoint_of_lora_is_read_merged(text_file, source):
    folder = tuned(text_file, source, keep=2, learning_rate=1e-2, **LORA)
    last = run.about(folder).steps_done
    best, *others = (
        dict(tree.named_leaves(handgrad.load(path).weights))
        for path in (folder / BEST, folder / LAST, folder / "checkpoints" / f"{last}.safetensors")
    )
    assert run.about(folder).evaluations[-1].validation_loss == run.about(folder).best_validation_loss
    for other in others:
        for name, weight in best.items():
            np.testing.assert_array_equal(weight, other[name])


def test_loras_learning_rate_is_its_own_where_none_is_named(text_file, source):
    asked = {"begin_from": str(source), "options": {"steps": 1, "lora_rank": 2}}
    assert Asked(**asked).configured().recipe.learning_rate == LORA_LEARNING_RATE
    asked["options"] |= {"learning_rate": 0.5}
    assert Asked(**asked).configured().recipe.learning_rate == 0.5
