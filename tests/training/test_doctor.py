"""What goes wrong in a run is said in a sentence, and nothing is said of a healthy one."""

import dataclasses
import re

import numpy as np
import pytest

from handgrad.model.config import preset
from handgrad.training import doctor
from handgrad.training.metrics import DiagnosisRow, EvaluationRow, StepRow
from handgrad.training.recipe import RECIPES
from handgrad.training.run_config import RunConfig

BASELINES = {"uniform": 4.0, "unigram": 3.3, "bigram": 2.5, "trigram": 2.0, "xz": 1.8}
STEPS = 400
A_STEP = 768


def config(n_tokens=1_000_000, repeated=0.0, d_model=128, **recipe):
    return RunConfig(
        model=preset("nano").replace(vocab_size=65, d_model=d_model),
        recipe=RECIPES["nano"].replace(**({"steps": STEPS} | recipe)),
        preset="nano",
        seed=0,
        engine="cpu",
        precision="auto",
        text="text",
        n_tokens=n_tokens,
        validation_tokens=n_tokens // 10,
        validation_bytes=n_tokens // 10,
        repeated=repeated,
        baselines=dict(BASELINES),
    )


def rows(training, validation, config, noise=0.05):
    """A run whose losses are functions of the step; evaluated every 50 steps."""
    rng, found, recent = np.random.default_rng(0), [], []
    for step in range(STEPS + 1):
        if step:
            loss = training(step) + noise * rng.normal()
            recent.append(loss)
            rate = config.recipe.learning_rate_at(step - 1)
            found.append(StepRow(step, loss, rate, 1.0, step * A_STEP, step * 0.05))
        if step % 50 == 0:
            train = float(np.mean(recent)) if recent else None
            found.append(EvaluationRow(step, validation(step), 1.0, train, step * A_STEP, step * 0.05, ""))
            recent = []
    return found


def falls_to(end):
    """From a blind guess, quickly at first, to `end`."""
    return lambda step: end + (4.0 - end) * np.exp(-step / 60)


def kind(training, validation, config, noise=0.05):
    finding = doctor.examine(rows(training, validation, config, noise), config)
    return finding and finding.kind


def test_a_run_that_learns_is_healthy_at_every_step():
    healthy = config()
    whole = rows(falls_to(1.9), falls_to(2.0), healthy)
    assert [doctor.examine(whole[:n], healthy) for n in range(len(whole) + 1)] == [None] * (len(whole) + 1)


def test_a_run_without_a_row_is_healthy():
    assert doctor.examine([], config()) is None


def test_a_validation_loss_that_rises_while_the_training_loss_falls_is_overfitting():
    def risen(step):
        return falls_to(2.0)(step) + max(0, step - 250) * 0.002

    assert kind(falls_to(1.2), risen, config()) == "overfitting"
    assert kind(risen, risen, config()) == "diverging"  # not from reading again: both rise
    assert kind(lambda step: 1.2 + 0.0003 * step, risen, config()) is None  # another reason
    assert kind(falls_to(2.45), risen, config()) is None  # nothing is remembered: no gap


def test_a_gap_is_the_models_size_where_it_has_many_parameters_and_few_tokens_read_often():
    small_text = config(n_tokens=20_000)
    assert kind(falls_to(1.5), falls_to(2.0), small_text) == "model too large"
    assert kind(falls_to(1.9), falls_to(2.0), small_text) is None
    assert kind(falls_to(1.5), falls_to(2.0), config()) is None
    assert kind(falls_to(1.5), falls_to(2.0), config(n_tokens=65_000)) is None  # not large enough
    assert kind(falls_to(1.5), falls_to(2.0), config(n_tokens=100_000, d_model=256)) is None  # read thrice


def test_a_loss_that_grows_is_a_learning_rate_too_high():
    def grows(step):
        return falls_to(2.2)(step) + max(0, step - 200) * 0.01

    assert kind(grows, grows, config()) == "diverging"
    assert kind(falls_to(2.6), falls_to(2.6), config(), noise=1.0) is None  # batches differ


def test_a_spike_that_is_over_is_forgotten_once_the_loss_is_low_again():
    def spike(step):
        return falls_to(1.9)(step) + 2.0 * (150 <= step < 180)

    whole, healthy = rows(spike, falls_to(2.0), config()), config()
    assert doctor.examine(whole[:185], healthy).kind == "diverging"
    assert doctor.examine(whole, healthy) is None


def test_long_steps_that_lead_nowhere_are_a_learning_rate_too_high():
    assert kind(falls_to(2.9), falls_to(2.9), config(learning_rate=0.02)) == "learning rate too high"
    assert kind(falls_to(2.9), falls_to(2.9), config(learning_rate=0.003)) is None  # another reason
    still_falls = config(learning_rate=0.02)
    assert kind(*[lambda step: 4.0 - 0.003 * step] * 2, still_falls) is None
    assert kind(falls_to(2.3), falls_to(2.3), config(learning_rate=0.02)) is None


def test_steps_too_short_to_lead_anywhere_are_a_learning_rate_too_low():
    def slowly(step):
        return 4.0 - 0.002 * step

    assert kind(slowly, slowly, config(learning_rate=1e-5)) == "learning rate too low"
    assert kind(slowly, slowly, config(learning_rate=1e-3)) is None
    assert kind(falls_to(2.3), falls_to(2.3), config(learning_rate=1e-5)) is None  # what works is not blamed


@pytest.mark.parametrize("rate", [1e-5, 0.02])
def test_a_learning_rate_is_not_judged_before_it_has_warmed_up(rate):
    slow = config(learning_rate=rate)
    whole = rows(lambda step: 4.0, lambda step: 4.0, slow)
    judged = [row.step for n, row in enumerate(whole, 1) if doctor.examine(whole[:n], slow)]
    nearly_warm = STEPS // 10 * doctor.WARM
    assert judged[0] == pytest.approx(nearly_warm + doctor.STEPS, abs=3)


def test_of_muons_learning_rates_only_the_loss_can_tell():
    muon = {"optimizer": "muon", "matrix_learning_rate": 0.08}
    for rate in (1e-5, 0.02):
        assert kind(falls_to(2.9), falls_to(2.9), config(learning_rate=rate, **muon)) is None
    about = config(**muon)
    finding = doctor.examine(rows(*[lambda step: 2.2 + 0.01 * step] * 2, about), about)
    assert finding.sentence.startswith("Muon's learning rate 0.08 is too high")
    assert finding.sentence.endswith("try --set matrix_learning_rate=0.02.")


def diagnosed(about, dead=(0.0, 0.1), entropies=((0.9, 0.5), (0.8, 0.0)), first=0.5, loss=3.0):
    """What is said of a run that stands above the bigram, after one diagnosis."""
    norms = {f"blocks.{i}.{part}": norm for i, norm in ((0, first), (1, 1.0)) for part in ("attention", "x")}
    found = [list(heads) for heads in entropies]
    row = DiagnosisRow(STEPS, norms, {}, found, list(dead), [1.0, 1.0], STEPS * A_STEP, 20.0)
    finding = doctor.examine([*rows(*[falls_to(loss)] * 2, about), row], about)
    return finding and (finding.kind, finding.sentence)


def test_what_the_layers_of_healthy_runs_do_is_not_blamed():
    assert diagnosed(config()) is None
    assert diagnosed(config(), dead=(0.5, 0.4), entropies=((0.0, 0.02), (0.5, 0.5)), first=0.02) is None


def test_units_that_are_dead_are_said_with_their_layer():
    kind, sentence = diagnosed(config(), dead=(0.6, 0.75))
    assert kind == "dead units"
    assert sentence.startswith("75% of the units of layer 2's feed-forward are dead")
    assert sentence.endswith("take a lower learning rate.")  # the activation is another already
    about = config()
    relu = dataclasses.replace(about, model=about.model.replace(activation="relu"))
    assert diagnosed(relu, dead=(0.6, 0.0))[1].endswith("or --set activation=gelu.")


def test_attention_that_looks_at_single_positions_is_collapsed_where_nothing_is_learned():
    collapsed = {"entropies": ((0.9, 0.5), (0.0, 0.005))}
    kind, sentence = diagnosed(config(), **collapsed)
    assert kind == "attention collapsed"
    assert sentence.startswith("Attention has collapsed: every head of layer 2 looks at a single position")
    assert diagnosed(config(), loss=2.0, **collapsed) is None


def test_gradients_that_hardly_reach_the_first_layer_vanish_where_nothing_is_learned():
    kind, sentence = diagnosed(config(), first=1e-5)
    assert kind == "gradients vanishing"
    assert "their norm is 1.4 in the last layer and 1.4e-05 in the first" in sentence
    assert sentence.endswith("take fewer layers.")
    about = config()
    post = dataclasses.replace(about, model=about.model.replace(norm_placement="post"))
    assert diagnosed(post, first=1e-5)[1].endswith("or --set norm_placement=pre.")
    assert diagnosed(config(), first=1e-5, loss=2.0) is None


def test_of_a_run_that_began_from_a_model_layers_are_not_judged():
    tuned = dataclasses.replace(config(), begun_from="model")
    assert diagnosed(tuned, dead=(0.9, 0.9), first=1e-9) is None


def test_a_text_of_one_token_has_nothing_to_go_wrong():
    nothing = config()
    nothing.baselines.update(dict.fromkeys(BASELINES, 0.0))
    assert doctor.examine(rows(lambda step: 0.0, lambda step: 0.0, nothing, noise=0.0), nothing) is None


def test_a_text_that_repeats_itself_is_said_before_the_first_step():
    assert doctor.examine([], config(repeated=0.5)).kind == "repeated text"
    assert doctor.examine([], config(repeated=0.1)) is None


@pytest.mark.parametrize(
    ("losses", "about", "words"),
    [
        ((1.2, 2.0), {"n_tokens": 20_000}, r"804,096 parameters have read its 18,000 tokens 17 times"),
        (
            (2.9, 2.9),
            {"learning_rate": 0.02},
            r"rate 0\.02 is too high.*tell, 2\.50; try --learning-rate 0\.001",
        ),
        ((3.0, 3.0), {"learning_rate": 1e-5}, r"moved weights by 4\.5% of their size at most"),
        ((1.9, 2.0), {"repeated": 0.5}, r"50% of the validation text stands word for word"),
    ],
)
def test_a_sentence_has_the_facts_and_a_remedy(losses, about, words):
    about = config(**about)
    finding = doctor.examine(rows(*map(falls_to, losses), about), about)
    assert "\n" not in finding.sentence
    assert finding.sentence.endswith(".")
    assert re.search(words, finding.sentence), finding.sentence
