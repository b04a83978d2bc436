"""From what is asked for to what is trained: model, recipe and tokenizer, chosen where they are not named."""

import dataclasses
import itertools
from collections.abc import Mapping
from typing import Any, NamedTuple

from handgrad import engines
from handgrad import tokenizer as tokenizers
from handgrad.data.corpus import Corpus
from handgrad.engines import fits
from handgrad.errors import UserError, require_known
from handgrad.model.config import ModelConfig, preset
from handgrad.tokenizer import Tokenizer
from handgrad.training import dial
from handgrad.training.clock import Clock
from handgrad.training.dial import Candidate, Machine, Plan
from handgrad.training.events import Planned, Preparing
from handgrad.training.recipe import RECIPES, Recipe

QUICK = "quick"
"""The preset where none is named."""
MINUTES = 1.0
"""Where neither a preset nor steps nor minutes are named."""
SAMPLED = 1 << 18
"""Characters that say how many a token has."""

MODEL_OPTIONS = {field.name for field in dataclasses.fields(ModelConfig)} - {"vocab_size"}
RECIPE_OPTIONS = {field.name for field in dataclasses.fields(Recipe)}


class Asked(NamedTuple):
    """What is asked for; what is None is chosen."""

    preset: str | None = None
    seed: int = 1337
    tokenizer: str | None = None
    vocab_size: int = 1024
    """BPE's."""
    machine: Machine = Machine()
    options: Mapping[str, Any] = {}
    """Changes to the preset's model and recipe, by name."""

    @property
    def preset_name(self) -> str:
        return self.preset or QUICK

    def configured(self) -> Candidate:
        """The preset with its changes; `UserError` for what there is not, or what cannot be."""
        for name in self.options:
            require_known("option", name, sorted(MODEL_OPTIONS | RECIPE_OPTIONS))
        model = preset(self.preset_name)
        of_model, of_recipe = (
            {name: value for name, value in self.options.items() if name in names}
            for names in (MODEL_OPTIONS, RECIPE_OPTIONS)
        )
        if {"steps", "minutes"} <= of_recipe.keys():
            raise UserError("A run is over after some steps or some minutes; got both. Name one of them.")
        if self.preset is None and not {"steps", "minutes"} & of_recipe.keys():
            of_recipe["minutes"] = MINUTES
        return Candidate(model.replace(**of_model), RECIPES[self.preset_name].replace(**of_recipe))


class Prepared(NamedTuple):
    """What will be trained."""

    model: ModelConfig
    recipe: Recipe
    tokenizer: Tokenizer


def prepare(text: Corpus, asked: Asked, clock: Clock) -> Prepared:
    """Make the tokenizer and, where minutes are given, plan what to spend them on; nothing is written.

    Raises `UserError` for what cannot be, or does not fit this machine.
    """
    model, recipe = asked.configured()
    machine = asked.machine
    engines.get(machine.engine, machine.mesh).require(machine.precision)
    clock.report(Preparing("reading the text"))
    kind = asked.tokenizer or dial.tokenizer_for(text)
    made = tokenizers.train(kind, text.pieces(), vocab_size=asked.vocab_size)
    model = model.replace(vocab_size=made.vocab_size)
    if recipe.minutes is not None:
        plan = _plan(Candidate(model, recipe), asked, n_tokens(text, made), clock)
        clock.report(Planned(plan))
        model, recipe = plan.chosen
    _require_fit(Candidate(model, recipe), machine)
    return Prepared(model, recipe, made)


def _plan(candidate: Candidate, asked: Asked, n_tokens: int, clock: Clock) -> Plan:
    candidates = [candidate] if asked.preset else dial.candidates(candidate, asked.options)
    _require_fit(candidates[0], asked.machine)
    candidates = list(itertools.takewhile(lambda it: _fits(it, asked.machine), candidates))

    def step_seconds(candidate: Candidate) -> float:
        width, n_layers = candidate.model.d_model, candidate.model.n_layers
        clock.report(Preparing(f"measuring this machine: {width} wide, {n_layers} layers"))
        return dial.step_seconds(candidate, asked.machine, clock.compiling)

    seconds = 60.0 * (candidate.recipe.minutes or 0.0) - clock.seconds
    fixed = {*asked.options, *(["dropout"] if asked.preset else [])}
    return dial.plan(candidates, n_tokens, seconds, step_seconds, fixed)


def _require_fit(candidate: Candidate, machine: Machine) -> None:
    model, recipe = candidate
    fits.require_training(model, recipe.batch_size, machine.engine, machine.precision, machine.mesh)


def _fits(candidate: Candidate, machine: Machine) -> bool:
    try:
        _require_fit(candidate, machine)
    except UserError:
        return False
    return True


def n_tokens(text: Corpus, tokenizer: Tokenizer) -> int:
    """About how many tokens the text has: its first ones say how long they are."""
    n_characters, start = 0, ""
    for piece in text.pieces():
        start = start or piece[:SAMPLED]
        n_characters += len(piece)
    return round(n_characters * len(tokenizer.encode(start)) / len(start))
