"""A user's own model, verified: what it computes does not depend on how, where or by whom it is computed.

`handgrad.check` proves formulas on small inputs; this measures one model, on its own weights and text. Every
comparison has a bound and the reason for it. What is compared:

- `formulas`: reading with a KV cache, in pieces, side by side, cut back = reading without one; later tokens
  change nothing before; the loss is that of the logits;
- `gradients`: the gradient = measured slopes, for all weights and for every part; no weight is without one;
- `agreement`: an engine's logits, loss and gradient, and what it writes with, = the formulas, in each
  precision that the machine has and with every kind of KV cache;
- `chat`: what is read of a conversation = what the model's template writes;
- `files`: what is exported and read again = what was written.
"""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from handgrad import engines
from handgrad.engines import allocator, fits
from handgrad.engines.engine import Engine
from handgrad.errors import UserError
from handgrad.formats.model_folder import Model
from handgrad.formats.sources import load
from handgrad.model.config import ModelConfig
from handgrad.model.count import count
from handgrad.verify.agreement import caches_are_right, training_agrees, writing_is_right
from handgrad.verify.chat import chat_agrees
from handgrad.verify.check import Check as Check
from handgrad.verify.files import files_agree
from handgrad.verify.formulas import formulas_agree
from handgrad.verify.gradients import gradients_are_right
from handgrad.verify.rounding import sensitivity
from handgrad.verify.subject import subject_of
from handgrad.verify.texts import PROVED, READ

PRECISIONS = ("float32", "bfloat16", "int16", "int8", "blocks")
"""Those of training and of writing: not every engine has all, nor has every model blocks."""
BYTES_A_WEIGHT = 32
"""Weights, their gradient and a second one to compare it with in float64, and a part of them moved."""


def verify(model: Model | str | Path, *, engine: str = "cpu", seed: int = 0) -> list[Check]:
    """Verify a model, or the one in a folder: a verdict on every comparison.

    `engine` is compared with the formulas; `seed` draws directions, and the text where the model's tokenizer
    reads no English. Raises `UserError` where there is no model, or too little memory.
    """
    return list(checks(model, engine=engine, seed=seed))


def checks(
    model: Model | str | Path,
    *,
    engine: str = "cpu",
    seed: int = 0,
    report: Callable[[str], object] = lambda doing: None,
) -> Iterator[Check]:
    """The verdicts of `verify`, each as soon as it is reached; `report` is told what is being computed."""
    computes, rng = engines.get(engine), np.random.default_rng(seed)
    model = model if isinstance(model, Model) else load(model)
    fits.require(memory(model.config, computes), "Verifying this model")
    allocator.keep_freed()
    report("logits and gradient by the formulas")
    subject = subject_of(model, rng)
    report("what rounding does to this model")
    moves = sensitivity(subject, rng)
    yield from formulas_agree(subject, moves, report)
    yield from gradients_are_right(subject, rng, report)
    for precision in PRECISIONS:
        if trains_in(computes, precision):
            yield from training_agrees(subject, moves, computes, engine, precision, rng, report)
        yield from writing_is_right(subject, moves, computes, engine, precision, rng, report)
    yield from caches_are_right(subject, moves, computes, engine, report)
    yield from chat_agrees(model, report)
    yield from files_agree(subject, report)


def trains_in(engine: Engine, precision: str) -> bool:
    """Whether the engine trains in this precision on this machine."""
    try:
        engine.require(precision)
    except UserError:
        return False
    return True


def memory(config: ModelConfig, engine: Engine) -> int:
    """Bytes that verifying takes at its peak: float64 for the formulas, and training with the engine."""
    short = config.replace(context_length=min(config.context_length, max(READ, PROVED)))
    return BYTES_A_WEIGHT * count(config).parameters + engine.memory(short, 2, "float32").total
