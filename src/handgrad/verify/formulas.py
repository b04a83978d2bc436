"""The formulas themselves, in float64: their cache, that they are causal, and what the loss is."""

from collections.abc import Callable, Iterator

import numpy as np

from handgrad.engines import parallel, reference
from handgrad.verify.check import Check
from handgrad.verify.rounding import Sensitivity, apart, bound, loss_bound, reason
from handgrad.verify.subject import Subject, logits
from handgrad.verify.texts import N_TEXTS
from handgrad.verify.writing import UNIT, Limit, writing_agrees

GROUP = "formulas, float64"


def formulas_agree(
    subject: Subject, sensitivity: Sensitivity, report: Callable[[str], object]
) -> Iterator[Check]:
    """What the formulas say of one text, however it is read, and of its loss."""
    yield from _writing(subject, sensitivity, report)
    yield _future_is_unseen(subject)
    yield _loss_is_that_of_the_logits(subject, sensitivity)


def _writing(subject: Subject, sensitivity: Sensitivity, report: Callable[[str], object]) -> Iterator[Check]:
    """With a cache, in float32 where the model is large, against float64 without one."""
    config, texts = subject.config, subject.texts.read
    precision, weights = (
        ("float32", subject.model.weights) if subject.is_large else ("float64", subject.weights)
    )
    limit = Limit(bound(precision, sensitivity.logits), reason(precision), same_bits=False)
    decoding = reference.decoding(config, weights, n_texts=N_TEXTS, capacity=texts.shape[1])
    with parallel.one_blas_thread():
        yield from writing_agrees(
            texts, subject.uncached, decoding, f"formulas, writing in {precision}", limit, report
        )


def other_ending(subject: Subject) -> tuple[np.ndarray, int]:
    """The texts with another second half, and how many tokens are the same."""
    ids = subject.texts.token_ids
    kept = (ids.shape[1] + 1) // 2
    changed = ids.copy()
    changed[:, kept:] = (changed[:, kept:] + 1) % subject.config.vocab_size
    return changed, kept


def _future_is_unseen(subject: Subject) -> Check:
    changed, kept = other_ending(subject)
    found = logits(subject.config, subject.weights, changed)[:, :kept]
    return Check(
        GROUP, "later tokens change nothing before", apart(found, subject.logits[:, :kept]), 0.0, UNIT,
        "what may not be seen has the probability zero, and adds nothing",
        f"{kept} tokens before another ending",
    )  # fmt: skip


def _loss_is_that_of_the_logits(subject: Subject, sensitivity: Sensitivity) -> Check:
    z, targets = subject.logits, subject.texts.targets
    chosen = np.take_along_axis(z, targets[..., None], axis=-1)[..., 0]
    highest = z.max(axis=-1)
    surprise = highest + np.log(np.sum(np.exp(z - highest[..., None]), axis=-1)) - chosen
    return Check(
        GROUP, "loss = mean surprise by the logits", abs(subject.loss - float(surprise.mean())),
        loss_bound("float64", sensitivity, float(np.std(z))), "nats", reason("float64"),
        f"{targets.size} tokens, {subject.loss:.4f} nats each",
    )  # fmt: skip
