"""An engine against the formulas: logits, loss and gradient on the model's own text, in one precision."""

from collections.abc import Callable, Iterator

import numpy as np

from handgrad import tree
from handgrad.engines.engine import Decoding, Engine, OptimizerSettings, State, Training
from handgrad.engines.texts import CACHES
from handgrad.errors import UserError
from handgrad.verify.check import Check
from handgrad.verify.directions import length
from handgrad.verify.formulas import other_ending
from handgrad.verify.products import products_agree
from handgrad.verify.rounding import (
    Sensitivity,
    apart,
    bound,
    gradient_bound,
    gradient_reason,
    loss_bound,
    reason,
)
from handgrad.verify.subject import Subject, on_another_text
from handgrad.verify.texts import N_TEXTS
from handgrad.verify.writing import UNIT, Limit, writing_agrees

ZERO = 1e-12
"""Of the whole gradient: what is left of an array's gradient that is zero."""
JUMP = 0.25
"""How far off a gradient may be in few bits where activations have kinks: rounding turns units on or off."""
TRIES = 4
"""Texts tried in float32 where there are kinks: a wrong gradient fails on each."""

Report = Callable[[str], object]


def training_agrees(
    subject: Subject,
    sensitivity: Sensitivity,
    engine: Engine,
    name: str,
    precision: str,
    rng: np.random.Generator,
    report: Report,
) -> Iterator[Check]:
    """What the engine trains with = the formulas."""
    group, texts, most = f"{name}, {precision}", subject.texts, bound(precision, sensitivity.logits)
    report(f"{group}: logits and gradient")
    training = engine.training(
        subject.config,
        State(subject.model.weights),
        OptimizerSettings(),
        precision=precision,
        batch_size=len(texts.token_ids),
        compiling=lambda kernel: report(f"compiling {kernel}"),
    )
    found = np.array(training.logits(texts.token_ids))
    yield Check(group, "logits = formulas", apart(found, subject.logits), most, UNIT, reason(precision))
    changed, kept = other_ending(subject)
    moved = apart(training.logits(changed)[:, :kept], found[:, :kept])
    yield Check(group, "later tokens change nothing before", moved, most, UNIT, reason(precision))
    yield _loss_agrees(subject, sensitivity, training, group, precision)
    verdict = _gradients_agree(subject, sensitivity, training, group, precision)
    for _ in range(TRIES - 1 if subject.has_kinks else 0):
        if verdict.passed:
            break
        verdict = _gradients_agree(on_another_text(subject, rng), sensitivity, training, group, precision)
    yield verdict


def writing_is_right(
    subject: Subject,
    sensitivity: Sensitivity,
    engine: Engine,
    name: str,
    precision: str,
    rng: np.random.Generator,
    report: Report,
) -> Iterator[Check]:
    """What the engine writes with = the formulas without a cache."""
    group = f"{name}, writing in {precision}"
    if precision == "blocks" and not subject.model.blocks:
        return
    report(group)
    decoding = _decoding(subject, engine, precision, "auto", report)
    if decoding is None:
        return
    limit = Limit(bound(precision, sensitivity.logits), reason(precision), same_bits=name == "cpu")
    yield from writing_agrees(subject.texts.read, subject.uncached, decoding, group, limit, report)
    yield from products_agree(subject, engine, precision, group, rng, report)


def caches_are_right(
    subject: Subject, sensitivity: Sensitivity, engine: Engine, name: str, report: Report
) -> Iterator[Check]:
    """Writing with weights in float32 = the formulas, whatever keys and values are kept in."""
    for cache in CACHES[2:]:  # float32 is what "auto" takes
        kind = f"a cache in {cache}"
        group = f"{name}, {kind}"
        report(group)
        decoding = _decoding(subject, engine, "float32", cache, report)
        if decoding is not None:
            limit = Limit(bound(kind, sensitivity.logits), reason(kind), same_bits=name == "cpu")
            yield from writing_agrees(subject.texts.read, subject.uncached, decoding, group, limit, report)


def _decoding(
    subject: Subject, engine: Engine, precision: str, cache: str, report: Report
) -> Decoding | None:
    """None where the engine does not write so."""
    try:
        return engine.decoding(
            subject.config,
            subject.model.weights,
            n_texts=N_TEXTS,
            capacity=subject.texts.read.shape[1],
            precision=precision,
            cache=cache,
            blocks=subject.model.blocks if precision == "blocks" else None,
            compiling=lambda kernel: report(f"compiling {kernel}"),
        )
    except UserError:
        return None


def _loss_agrees(
    subject: Subject, sensitivity: Sensitivity, training: Training, group: str, precision: str
) -> Check:
    """Of an evaluation, and of a step of training."""
    token_ids, targets = subject.texts.token_ids, subject.texts.targets
    losses = training.loss(token_ids, targets), training.loss_and_gradients(token_ids, targets)[0]
    error = max(abs(loss - subject.loss) for loss in losses)
    most = loss_bound(precision, sensitivity, float(np.std(subject.logits)))
    return Check(group, "loss = formulas", error, most, "nats", reason(precision))


def _gradients_agree(
    subject: Subject, sensitivity: Sensitivity, training: Training, group: str, precision: str
) -> Check:
    """The gradient of every array; shown is the one that comes closest to its bound."""
    _, found = training.loss_and_gradients(subject.texts.token_ids, subject.texts.targets)
    whole, worst, most = subject.length, ("none", 0.0, 1.0), 0.0
    for name, gradient in tree.named_leaves(found):
        size, allowed = subject.lengths[name], gradient_bound(precision, sensitivity, name)
        if size <= ZERO * whole:  # it is zero: what rounding leaves of it is compared with the whole
            size, allowed = whole or 1.0, bound(precision, whole or 1.0)
        error, allowed = length(gradient - subject.gradients[name]) / size, allowed / size
        if subject.has_kinks and precision != "float32":
            allowed = max(allowed, JUMP)
        if not error / allowed <= most:
            worst, most = (name, error, allowed), error / allowed
    name, error, allowed = worst
    return Check(
        group, "gradient = formulas, array by array", error, allowed, "of an array's gradient",
        gradient_reason(precision), f"closest to its bound: {name}",
    )  # fmt: skip
