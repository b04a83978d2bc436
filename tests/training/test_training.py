"""A run is made whole, learns, is kept, and goes on bit for bit where it stopped."""

import contextlib
import dataclasses
import errno
import itertools
import json
import shutil
import signal

import numpy as np
import pytest
from safetensors.numpy import load_file

import handgrad
from handgrad import tree
from handgrad.data import corpus
from handgrad.engines import cpu
from handgrad.errors import UserError
from handgrad.formats import atomic, tensors
from handgrad.formats.model_folder import BEST, CONFIG, LAST, TOKENIZER
from handgrad.training import loop, metrics, pace, run
from handgrad.training.events import Advised, Evaluated, StepDone
from handgrad.training.metrics import StepRow
from handgrad.training.prepare import Asked
from handgrad.training.recipe import COUNTS, RECIPES, RULES, Recipe


def weights(folder):
    return load_file(folder / LAST)


def assert_same_weights(one, other):
    a, b = weights(one), weights(other)
    assert a.keys() == b.keys()
    for name, array in a.items():
        np.testing.assert_array_equal(array, b[name], err_msg=name)  # bit for bit, moments too


@pytest.mark.usefixtures("curves")
def test_a_run_learns_and_keeps_all_it_should(text_file, tmp_path, small):
    events = []
    small |= {"steps": 150, "eval_every": 50, "learning_rate": 1e-2, "dropout": 0.0}
    folder = handgrad.train(text_file, out=tmp_path / "run", report=events.append, **small)
    evaluations = [event for event in events if isinstance(event, Evaluated)]
    assert [event.step for event in evaluations] == [0, 50, 100, 150]
    assert sum(isinstance(event, StepDone) for event in events) == 150
    about = run.about(folder)
    assert evaluations[-1].validation_loss < about.config.baselines["bigram"]
    assert about.config.baselines["bigram"] < about.config.baselines["unigram"]
    assert {path.name for path in folder.iterdir()} == {
        CONFIG, TOKENIZER, BEST, LAST, "tokens.bin", "metrics.jsonl", "loss.png"
    }  # fmt: skip
    assert (folder / "loss.png").read_bytes().startswith(b"\x89PNG")
    model = handgrad.load(folder)
    assert handgrad.generate(model, "3 times ", max_tokens=40, temperature=0.0).startswith(tuple("123456789"))


def test_samples_want_no_kernels_that_write(text_file, tmp_path, small, monkeypatch):
    """They take longer to compile than all that train."""
    monkeypatch.setattr(cpu, "decoding", lambda *_, **__: pytest.fail("kernels were asked to write"))
    folder = handgrad.train(text_file, out=tmp_path / "run", engine="cpu", **small)
    assert all(row.sample for row in run.about(folder).evaluations)


def test_the_same_seed_gives_the_same_run_and_another_does_not(text_file, tmp_path, small):
    one, same, other = (
        handgrad.train(text_file, out=tmp_path / f"run{i}", seed=seed, **small)
        for i, seed in enumerate((5, 5, 6))
    )
    assert_same_weights(one, same)
    assert losses(one) == losses(same) != losses(other)


def losses(folder):
    return [row.loss for row in metrics.read(folder) if isinstance(row, StepRow)]


@pytest.mark.parametrize("stop_after", [1, 4, 6, 11])
def test_a_stopped_run_goes_on_bit_for_bit(text_file, tmp_path, small, stop_after):
    whole = handgrad.train(text_file, out=tmp_path / "whole", **small)

    def stop(event):
        if isinstance(event, StepDone) and event.step == stop_after:
            signal.raise_signal(signal.SIGINT)

    stopped = tmp_path / "stopped"
    with pytest.raises(KeyboardInterrupt, match=r"go on with handgrad\.resume"):
        handgrad.train(text_file, out=stopped, report=stop, **small)
    assert run.about(stopped).steps_done == stop_after
    assert handgrad.resume(stopped)
    assert_same_weights(whole, stopped)
    untimed = [
        [{k: v for k, v in row._asdict().items() if k != "seconds"} for row in metrics.read(folder)]
        for folder in (whole, stopped)
    ]
    assert untimed[0] == untimed[1]


def test_a_row_says_how_many_tokens_and_seconds_went_before(text_file, tmp_path, small):
    rows = metrics.read(handgrad.train(text_file, out=tmp_path / "run", **small))
    a_step = small["batch_size"] * small["context_length"]
    assert [row.tokens for row in rows] == [a_step * row.step for row in rows]
    seconds = [row.seconds for row in rows]
    assert seconds == sorted(seconds)
    assert seconds[0] > 0


def test_a_loss_in_bits_a_byte_is_in_rows_events_and_what_is_known(text_file, tmp_path, small):
    events = []
    folder = handgrad.train(text_file, out=tmp_path / "run", report=events.append, **small)
    about = run.about(folder)
    bits = [row.bits_per_byte for row in about.evaluations]
    assert bits == [row.validation_loss / np.log(2) for row in about.evaluations]  # a token is a byte
    assert bits == [event.bits_per_byte for event in events if isinstance(event, Evaluated)]
    assert about.best_bits_per_byte == min(bits)
    assert f"({bits[-1]:.3f} bits a byte, whole text)" in str(events[-1])


def test_what_goes_wrong_is_reported_once_and_known_afterwards(text_file, tmp_path, small):
    text_file.write_text(text_file.read_text() * 2)
    events = []
    folder = handgrad.train(text_file, out=tmp_path / "run", report=events.append, **small)
    (advice,) = (event for event in events if isinstance(event, Advised))
    finding = run.about(folder).finding
    assert (advice.step, advice.kind, advice.sentence) == (0, "repeated text", finding.sentence)
    assert str(advice) == f"step 0  {finding.sentence}"


def test_a_stop_asked_for_in_the_middle_of_a_turn_is_saved_too(text_file, tmp_path, small, monkeypatch):
    @contextlib.contextmanager
    def deferred():
        answers = itertools.chain([False], itertools.repeat(True))
        yield lambda: next(answers)

    monkeypatch.setattr(loop.interrupt, "deferred", deferred)
    with pytest.raises(KeyboardInterrupt):
        handgrad.train(text_file, out=tmp_path / "run", **small)
    assert run.about(tmp_path / "run").steps_done == max(row.step for row in metrics.read(tmp_path / "run"))


def test_a_crash_after_any_step_costs_no_more_than_the_steps_since_the_checkpoint(text_file, tmp_path, small):
    whole = handgrad.train(text_file, out=tmp_path / "whole", **small)

    def crash(event):
        if isinstance(event, StepDone) and event.step == 7:
            raise RuntimeError("power cut")

    with pytest.raises(RuntimeError):
        handgrad.train(text_file, out=tmp_path / "crashed", report=crash, **small)
    assert run.about(tmp_path / "crashed").steps_done == 4
    assert handgrad.resume(tmp_path / "crashed")
    assert_same_weights(whole, tmp_path / "crashed")


def test_a_finished_run_has_nothing_to_go_on_with(text_file, tmp_path, small):
    folder = handgrad.train(text_file, out=tmp_path / "run", **small)
    before = (folder / LAST).read_bytes()
    assert handgrad.resume(folder, report=pytest.fail)
    assert (folder / LAST).read_bytes() == before


def test_signals_mean_what_they_meant_before_once_training_is_over(text_file, tmp_path, small):
    before = signal.getsignal(signal.SIGINT)
    handgrad.train(text_file, out=tmp_path / "run", **small)
    assert signal.getsignal(signal.SIGINT) is before


def test_the_best_checkpoint_is_the_one_with_the_lowest_validation_loss(text_file, tmp_path, small):
    # a learning rate that soon makes things worse
    folder = handgrad.train(
        text_file, out=tmp_path / "run", **{**small, "learning_rate": 3.0, "schedule": "constant"}
    )
    curve = run.about(folder).evaluations
    best = min(curve, key=lambda row: row.validation_loss)
    assert best.step < curve[-1].step
    kept = json.loads(tensors.read_header(folder / BEST).metadata["progress"])
    assert kept == {"step": best.step, "validation_loss": best.validation_loss}


def test_a_learning_rate_far_too_large_ends_with_a_sentence_and_the_last_good_checkpoint(
    text_file, tmp_path, small
):
    with pytest.raises(UserError, match=r"stopped at step \d+: .*pass at .* after step 0, is kept"):
        handgrad.train(text_file, out=tmp_path / "run", **{**small, "learning_rate": 1e30})
    assert all(np.isfinite(array).all() for array in weights(tmp_path / "run").values())


def test_a_loss_that_breaks_is_traced_to_the_layer_where_it_began(text_file, tmp_path, small, monkeypatch):
    from handgrad.ops import feed_forward

    forward, calls = feed_forward.forward, itertools.count()

    def broken(x, *weights, activation):
        y, saved = forward(x, *weights, activation=activation)
        if next(calls) % small["n_layers"] == 1 and x.shape[1] == small["context_length"]:
            saved = saved._replace(down=saved.down._replace(x=saved.down.x * np.float32(np.inf)))
            y = y * np.float32(np.nan)
        return y, saved

    monkeypatch.setattr(loop.evaluate, "mean", lambda *_: 3.0)
    monkeypatch.setattr(feed_forward, "forward", broken)
    monkeypatch.setattr(loop.Run, "_sample", lambda run, weights: "")
    with pytest.raises(UserError, match=r"loss is nan.*the forward pass at blocks\.1\.feed_forward\.down\.x"):
        handgrad.train(text_file, out=tmp_path / "run", engine="reference", **small)


def test_what_breaks_only_in_the_backward_pass_is_found_too(text_file, tmp_path, small, monkeypatch):
    from handgrad.ops import gelu

    backward = gelu.backward
    monkeypatch.setattr(gelu, "backward", lambda dy, saved: (backward(dy, saved)[0] * np.float32(np.inf),))
    with pytest.raises(UserError, match=r"the backward pass at blocks\.1\.feed_forward\.up\.weight"):
        handgrad.train(text_file, out=tmp_path / "run", engine="reference", **small)


@pytest.mark.parametrize("tokenizer", ["bytes", "bpe"])
def test_other_tokenizers_train_too(text_file, tmp_path, small, tokenizer):
    folder = handgrad.train(text_file, out=tmp_path / "run", tokenizer=tokenizer, vocab_size=300, **small)
    assert handgrad.generate(handgrad.load(folder), "ä 7", max_tokens=5)


@pytest.mark.parametrize("preset", ["paper", "llama"])
def test_other_architectures_train_too(text_file, tmp_path, small, preset):
    small |= {"n_kv_heads": None, "learning_rate": 1e-2, "steps": 40, "preset": preset}
    folder = handgrad.train(text_file, out=tmp_path / "run", **small)
    curve = run.about(folder).evaluations
    assert curve[-1].validation_loss < curve[0].validation_loss - 0.5


def test_several_texts_and_folders_make_one_corpus(tmp_path, text_file, small):
    folder = handgrad.train([text_file, tmp_path], out=tmp_path / "run", **small)
    assert run.about(folder).config.n_tokens == 2 * len(text_file.read_text())


def test_a_default_run_gets_the_first_free_number(text_file, tmp_path, small, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert [str(handgrad.train(text_file, **small)) for _ in range(2)] == ["runs/nano-1", "runs/nano-2"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"preset": "nanoo"}, "Did you mean nano"),
        ({"step": 3}, "Did you mean steps"),
        ({"d_model": 30, "n_heads": 4}, "Try d_model=32"),
        ({"context_length": 4000}, "--context-length"),
        ({"steps": 0}, "steps must be a whole number from 1"),
        ({"learning_rate": -1.0}, "learning_rate must be above zero"),
        ({"learning_rate": float("inf")}, r"learning_rate must be above zero, and at most 3.4e\+38"),
        ({"beta2": 1.0}, "beta2 must be"),
        ({"schedule": "linear"}, "choose one of constant, cosine"),
        ({"seed": -1}, "seed must be"),
        ({"seed": 1 << 63}, "seed must be"),
        ({"tokenizer": "words"}, "choose one of characters"),
        ({"engine": "gpu"}, "There is no engine 'gpu'"),
        ({"engine": "reference", "precision": "float8"}, "There is no precision 'float8'"),
        ({"steps": 10**20}, "steps must be a whole number"),
        ({"learning_rate": 10**400}, "learning_rate must be above zero"),
    ],
)
def test_what_cannot_work_is_refused_before_anything_is_written(text_file, tmp_path, small, options, words):
    with pytest.raises(UserError, match=words):
        handgrad.train(text_file, **({"out": tmp_path / "run"} | small | options))
    assert [path.name for path in tmp_path.iterdir()] == ["text.txt"]


def test_numbers_of_numpy_are_kept_as_what_they_are(text_file, tmp_path, small):
    numbers = {"learning_rate": np.float32(0.5), "warmup_steps": np.int64(1), "dropout": np.float64(0.25)}
    options = small | numbers | {"steps": np.int32(2), "seed": np.uint8(3), "vocab_size": np.int64(300)}
    folder = handgrad.train(text_file, out=tmp_path / "run", tokenizer="bpe", **options)
    config = run.about(folder).config
    assert (config.seed, config.recipe.steps, config.recipe.warmup_steps) == (3, 2, 1)
    assert (config.recipe.learning_rate, config.model.dropout) == (0.5, 0.25)


def test_a_folder_in_use_is_left_alone(text_file, tmp_path, small):
    folder = handgrad.train(text_file, out=tmp_path / "run", **small)
    before = (folder / LAST).read_bytes()
    with pytest.raises(
        UserError, match=r"already holds a run\. Go on with it: handgrad train --resume --out"
    ):
        handgrad.train(text_file, out=folder, **small)
    assert (folder / LAST).read_bytes() == before
    with pytest.raises(UserError, match="not empty"):
        handgrad.train(text_file, out=tmp_path, **small)
    with pytest.raises(UserError, match="not empty"):
        handgrad.train(text_file, out=text_file, **small)
    with pytest.raises(UserError, match="a file, not a folder"):
        handgrad.train(text_file, out=text_file / "run", **small)


def test_the_same_command_is_known_again_and_another_one_is_not(text_file, tmp_path, small):
    options = {name: value for name, value in small.items() if name != "preset"}
    asked = Asked("nano", tokenizer="bytes", options=options)
    text = corpus.open_corpus([text_file])
    assert not run.begun(tmp_path / "run", text, asked)
    folder = handgrad.train(text_file, out=tmp_path / "run", tokenizer="bytes", **small)
    assert run.begun(folder, text, asked)
    others = [
        ("tokenizer", {"tokenizer": "characters"}),
        ("seed", {"seed": 1}),
        ("recipe", {"options": options | {"steps": 77}}),
        ("model", {"options": {}}),
    ]
    for name, other in others:
        with pytest.raises(UserError, match=f"another run: its {name} "):
            run.begun(folder, text, asked._replace(**other))


def test_an_empty_folder_may_be_taken(text_file, tmp_path, small):
    (tmp_path / "run").mkdir()
    assert handgrad.train(text_file, out=tmp_path / "run", **small)


def test_a_disk_that_fills_up_ends_the_run_with_a_sentence_and_the_last_checkpoint_whole(
    text_file, tmp_path, small, monkeypatch
):
    whole = handgrad.train(text_file, out=tmp_path / "whole", **small)
    flush, saves = atomic._flush, []

    def full_from_the_fifth_on(path):
        saves.append(path)
        if len([path for path in saves if path.suffix == ".safetensors"]) > 4:
            raise OSError(errno.ENOSPC, "No space left on device")
        flush(path)

    with monkeypatch.context() as disk:
        disk.setattr(atomic, "_flush", full_from_the_fifth_on)
        with pytest.raises(UserError, match="The disk is full"):
            handgrad.train(text_file, out=tmp_path / "run", **small)
    assert run.about(tmp_path / "run").steps_done == 0
    assert not list((tmp_path / "run").glob(".*"))
    assert handgrad.resume(tmp_path / "run")
    assert_same_weights(whole, tmp_path / "run")


def test_a_run_is_not_trained_twice_at_once(stopped_run, tmp_path):
    folder = shutil.copytree(stopped_run, tmp_path / "run")

    def second(event):
        with pytest.raises(UserError, match="Another process is at work in"):
            handgrad.resume(folder)
        events.append(event)

    events = []
    assert handgrad.resume(folder, report=second)
    assert [type(event) for event in events] == [StepDone, Evaluated]
    assert handgrad.resume(folder)  # and the lock is free again


def test_every_preset_has_a_recipe():
    assert RECIPES.keys() == handgrad.PRESETS.keys()


def test_nanos_recipe_is_nanogpts_to_the_digit():
    # nanoGPT: learning_rate 1e-3 falling to min_lr 1e-4 at lr_decay_iters 2000 after warmup_iters 100
    nano = RECIPES["nano"]
    assert [round(nano.learning_rate_at(step), 9) for step in (0, 99, 100, 1050, 1999)] == pytest.approx(
        [1e-3 / 101, 1e-3 * 100 / 101, 1e-3, 5.5e-4, 1e-4], rel=1e-5
    )
    assert (nano.steps, nano.batch_size, nano.beta2, nano.weight_decay) == (2000, 12, 0.99, 0.1)


def test_a_short_run_warms_up_no_longer_than_a_tenth():
    assert Recipe(steps=50).learning_rate_at(5) == pytest.approx(1e-3)


def test_gradients_by_name_are_those_of_the_checkpoint(text_file, tmp_path, small):
    model = handgrad.load(handgrad.train(text_file, out=tmp_path / "run", **small))
    token_ids = model.tokenizer.encode("3 times 4 is 12.\n")[None]
    loss, gradients = handgrad.loss_and_gradients(
        model.config, model.weights, token_ids[:, :-1], token_ids[:, 1:]
    )
    assert 0 < loss < 10
    assert gradients.keys() == load_file(tmp_path / "run" / BEST).keys()
    assert all(np.isfinite(g).all() for g in tree.leaves(list(gradients.values())))


def test_every_number_of_a_recipe_has_a_rule():
    numbers = {field.name for field in dataclasses.fields(Recipe)} - {"schedule", "optimizer"}
    assert numbers == {*RULES, *COUNTS}


@pytest.fixture
def impatient(monkeypatch):
    """A run of a second finds out soon what a step is worth, and keeps none for its curve."""
    monkeypatch.setattr(pace, "LEAST_SECONDS", 0.05)
    monkeypatch.setattr(pace, "END_SECONDS", 0.0)


def of_a_second(small):
    return {name: it for name, it in small.items() if name != "steps"} | {"minutes": 0.02, "eval_every": 1000}


@pytest.mark.usefixtures("impatient")
def test_a_run_of_given_seconds_ends_on_time_and_is_finished(text_file, tmp_path, small):
    events = []
    folder = handgrad.train(text_file, out=tmp_path / "run", report=events.append, **of_a_second(small))
    about = run.about(folder)
    assert about.is_finished
    assert 0.8 < about.progress.seconds < 10.0
    last = [event for event in events if isinstance(event, StepDone)][-1]
    assert last.step == last.expected_steps == about.steps_done == about.expected_steps
    assert handgrad.resume(folder, report=pytest.fail)


@pytest.mark.usefixtures("impatient")
def test_a_run_of_given_seconds_that_is_stopped_has_the_rest_of_them_left(text_file, tmp_path, small):
    def stop(event):
        if isinstance(event, StepDone) and event.step == 20:
            signal.raise_signal(signal.SIGINT)

    folder = tmp_path / "run"
    with pytest.raises(KeyboardInterrupt):
        handgrad.train(text_file, out=folder, report=stop, **of_a_second(small))
    before = run.about(folder).progress
    assert not run.about(folder).is_finished
    assert handgrad.resume(folder)
    after = run.about(folder).progress
    assert before.seconds < after.seconds < 10.0
    assert before.place < after.place
    assert run.about(folder).is_finished
