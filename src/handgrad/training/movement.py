r"""Why a weight moves: the next step of a run, looked at from one of its weights.

The run's last checkpoint takes the step that it would take next, on the same batch, without dropout. Of one
weight $w$ are told its gradient $g$, the sum of what each text of the batch pushes; the optimizer's moments
after it; and its update $\Delta w$. What that does to the batch's loss is, to first order, $g\,\Delta w$;
measured, it is the loss with this weight alone moved, less the loss before.
"""

import difflib
from pathlib import Path
from typing import NamedTuple

import numpy as np

from handgrad import parameters as p
from handgrad import tree
from handgrad.data.batches import Batch
from handgrad.engines import State, parallel, reference
from handgrad.errors import UserError, shown
from handgrad.formats import model_folder
from handgrad.formats.model_folder import LAST
from handgrad.model.transformer import LanguageModel, Transformer
from handgrad.training import checkpoint, loop, material, run_config

MOST = 12
"""Texts of the batch that are told: those that push most."""


class Place(NamedTuple):
    """Where a weight stands."""

    parameter: str
    at: tuple[int, ...]

    def of(self, weights: p.Transformer) -> float:
        """The number there; `UserError` where there is none."""
        named = dict(tree.named_leaves(weights))
        if self.parameter not in named:
            near = difflib.get_close_matches(self.parameter, named, n=1, cutoff=0.0)[0]
            raise UserError(f"There is no weight {shown(self.parameter)} in this model. Did you mean {near}?")
        shape = named[self.parameter].shape
        fits = len(self.at) == len(shape)
        if not fits or not all(0 <= i < size for i, size in zip(self.at, shape, strict=True)):
            raise UserError(f"{self.parameter} has the shape {shape}, counted from 0; got {self.at}.")
        return float(named[self.parameter][self.at])

    def moved(self, weights: p.Transformer, update: float) -> p.Transformer:
        """A tree in which this weight alone is another."""
        names = iter([name for name, _ in tree.named_leaves(weights)])

        def leaf(weight: np.ndarray) -> np.ndarray:
            if next(names) == self.parameter:
                weight = weight.copy()
                weight[self.at] += np.float32(update)
            return weight

        return tree.map(leaf, weights)


class Push(NamedTuple):
    """What one text of the batch does."""

    text: str
    share: float
    """Its part of the gradient: all of the batch's add up to it."""


class Movement(NamedTuple):
    """One weight in one step."""

    step: int
    """The number of the step, from 1."""
    value: float
    gradient: float
    """Of the batch's loss, before clipping."""
    norm: float
    """The whole gradient's, to which clipping looks."""
    mean: float
    """The optimizer's, after the step: Adam's mean of gradients, or Muon's velocity."""
    square: float
    """Adam's mean of squared gradients; Muon has none."""
    optimizer: str
    """Which of both moves this weight."""
    learning_rate: float
    update: float
    loss: float
    """The batch's, before the step, in nats a token."""
    effect: float
    """What the update does to it, to first order,"""
    measured: float
    """and measured."""
    pushed_by: list[Push]


def why(folder: str | Path, parameter: str, index: tuple[int, ...]) -> Movement:
    """How a weight, such as "blocks.0.attention.query.weight" at (3, 4), moves in the run's next step.

    Raises `UserError` where the folder holds no run, for LoRA's, and for a weight that there is not.
    """
    folder, place = Path(folder), Place(parameter, index)
    config = run_config.read(folder)
    recipe, model, n = config.recipe, config.trained.replace(dropout=0.0), config.recipe.batch_size
    if recipe.adaptation is not None:
        raise UserError("LoRA moves no weight of the model itself, only what is added to it.")
    tokenizer = model_folder.read_tokenizer(folder, config.model, exactly=not config.begun_from)
    state, progress = checkpoint.read(folder / LAST, config.model, recipe.steps)
    before, settings = place.of(state.weights), recipe.optimizer_settings
    learned = material.read(folder, tokenizer, config.layout)
    rng = np.random.default_rng((config.seed, progress.step, loop.BATCH))
    batch = learned.train.draw(n, rng, slice(n))
    pushes = _pushes(LanguageModel(Transformer(model)), state.weights, place, batch)
    learning_rate, gradient = recipe.learning_rate_at(progress.place), sum(pushes)
    training = reference.training(model, state, settings, batch_size=n)
    step = training.step(*batch, learning_rate)
    after = training.state()
    assert after.moments is not None
    update = place.of(after.weights) - before
    alone = State(place.moved(state.weights, update))
    measured = reference.training(model, alone, settings, batch_size=n).loss(*batch)
    by_muon = settings.is_muons(parameter, dict(tree.named_leaves(after.weights))[parameter])
    order = np.argsort(-np.abs(pushes), kind="stable")[:MOST]
    return Movement(
        step=progress.step + 1,
        value=before,
        gradient=gradient,
        norm=step.gradient_norm,
        mean=place.of(tree.views(after.moments.mean, after.weights)),
        square=place.of(tree.views(after.moments.square, after.weights)),
        optimizer="muon" if by_muon else "adamw",
        learning_rate=learning_rate * (settings.matrix_rate if by_muon else 1.0),
        update=update,
        loss=step.loss,
        effect=gradient * update,
        measured=measured - step.loss,
        pushed_by=[Push(tokenizer.decode(batch[0][i]), pushes[i]) for i in order],
    )


def _pushes(model: LanguageModel, weights: p.Transformer, place: Place, batch: Batch) -> list[float]:
    """What each text of the batch adds to the weight's gradient."""
    token_ids, targets = batch
    n_counted = max(1, int(np.sum(targets >= 0)))
    pushes = []
    with parallel.one_blas_thread():
        for ids, wanted in zip(token_ids, targets, strict=True):
            share = int(np.sum(wanted >= 0)) / n_counted
            _, gradients = model.loss_and_gradients(share, weights, ids[None], wanted[None])
            pushes.append(place.of(gradients))
    return pushes
