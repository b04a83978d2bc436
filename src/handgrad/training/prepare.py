"""From what is asked for to what is trained: model, recipe and tokenizer, chosen where they are not named."""

import dataclasses
import itertools
from collections.abc import Mapping
from typing import Any, NamedTuple

from handgrad import engines
from handgrad import tokenizer as tokenizers
from handgrad.data import batches, conversations
from handgrad.data.corpus import Corpus
from handgrad.data.examples import Example
from handgrad.engines import fits, lora
from handgrad.errors import UserError, require_count, require_known
from handgrad.formats import sources
from handgrad.formats.model_folder import Model
from handgrad.model.config import ModelConfig, preset
from handgrad.tokenizer import Tokenizer
from handgrad.training import dial, kept, material
from handgrad.training.clock import Clock
from handgrad.training.dial import Candidate, Machine, Plan
from handgrad.training.events import Planned, Preparing
from handgrad.training.recipe import FINE_TUNING, LORA_LEARNING_RATE, RECIPES, Recipe

QUICK = "quick"
"""The preset where none is named."""
MINUTES = 1.0
"""Where neither a preset nor steps nor minutes are named."""
MERGED = 8_000_000
"""Characters that BPE learns its tokens from: more take long, and change little."""
SAMPLED = 1 << 18
"""Characters that say how many a token has."""

TUNED = "fine-tuned"
"""What stands for the preset where a run begins from a model."""
WINDOW = 256
"""The tokens of a sequence there, where no context_length is named."""
VOCAB_SIZE = 1024

MODEL_OPTIONS = {field.name for field in dataclasses.fields(ModelConfig)} - {"vocab_size"}
RECIPE_OPTIONS = {field.name for field in dataclasses.fields(Recipe)} - {"window"}
FREE = {"dropout", "context_length"}
"""What a model's weights leave open."""


class Asked(NamedTuple):
    """What is asked for; what is None is chosen."""

    preset: str | None = None
    seed: int = 1337
    tokenizer: str | None = None
    vocab_size: int = VOCAB_SIZE
    """BPE's."""
    machine: Machine = Machine()
    options: Mapping[str, Any] = {}
    """Changes to the preset's model and recipe, by name."""
    begin_from: str | None = None
    """A model to begin from, as `formats.sources` takes it, instead of a preset."""
    keep: int | str = 1
    """How many checkpoints to keep: see `kept`."""
    log: tuple[str, ...] = ()
    """Where losses go besides the run's folder: see `sinks`."""

    @property
    def preset_name(self) -> str:
        return TUNED if self.begin_from else self.preset or QUICK

    @property
    def is_named(self) -> bool:
        """Whether the model is, so that minutes only say how many steps there are."""
        return bool(self.preset or self.begin_from)

    def configured(self) -> Candidate:
        """The preset, or the model to begin from, with the changes.

        Raises `UserError` for what there is not, or what cannot be.
        """
        kept.require(self.keep)
        for name in self.options:
            require_known("option", name, sorted(MODEL_OPTIONS | RECIPE_OPTIONS))
        of_model, of_recipe = (
            {name: value for name, value in self.options.items() if name in names}
            for names in (MODEL_OPTIONS, RECIPE_OPTIONS)
        )
        if {"steps", "minutes"} <= of_recipe.keys():
            raise UserError("A run is over after some steps or some minutes; got both. Name one of them.")
        if self.preset is None and not {"steps", "minutes"} & of_recipe.keys():
            of_recipe["minutes"] = MINUTES
        if self.begin_from:
            return self._tuned(self.begin_from, of_model, of_recipe)
        if "lora_rank" in of_recipe:
            raise UserError("LoRA adapts a model that is there already. Name it: --from MODEL.")
        model = preset(self.preset_name)
        return Candidate(model.replace(**of_model), RECIPES[self.preset_name].replace(**of_recipe))

    def _tuned(self, source: str, of_model: dict[str, Any], of_recipe: dict[str, Any]) -> Candidate:
        own = {
            "preset": self.preset,
            "tokenizer": self.tokenizer,
            "vocab_size": self.vocab_size != VOCAB_SIZE,
            **{name: name not in FREE for name in of_model},
        }
        if fixed := [name for name, given in own.items() if given]:
            raise UserError(
                f"A run that begins from a model keeps its architecture and its tokenizer; got "
                f"{', '.join(fixed)}. Leave that out: of the model, dropout and context_length can be named."
            )
        model = sources.read_config(source)
        if "lora_rank" in of_recipe:
            of_recipe.setdefault("learning_rate", LORA_LEARNING_RATE)
        window = of_model.pop("context_length", None)
        of_recipe["window"] = None if window is None else require_count("context_length", window)
        model, recipe = model.replace(**of_model), FINE_TUNING.replace(**of_recipe)
        recipe.trained(model)  # refused where that cannot be
        _require_adaptable(model, recipe, self.machine.engine)
        return Candidate(model, recipe)


def _require_adaptable(model: ModelConfig, recipe: Recipe, engine: str) -> None:
    """Raise `UserError` where LoRA cannot be."""
    if recipe.adaptation is None:
        return
    lora.shapes(model, recipe.adaptation.rank)
    if engine == "xla" or recipe.optimizer != "adamw":
        raise UserError(
            f"LoRA's matrices are trained by AdamW on the cpu or the reference engine; got "
            f"optimizer={recipe.optimizer}, engine={engine}. Leave these out, or --lora."
        )


class Prepared(NamedTuple):
    """What will be trained."""

    model: ModelConfig
    recipe: Recipe
    tokenizer: Tokenizer
    begun_from: Model | None = None
    """The model whose weights it begins with."""
    conversations: list[Example] | None = None
    """As that model reads them; None where a text is learned."""


def prepare(text: Corpus, asked: Asked, clock: Clock) -> Prepared:
    """Make the tokenizer, or take that of the model to begin from, and plan what to spend minutes on.

    Nothing is written.

    Raises `UserError` for what cannot be, or does not fit this machine.
    """
    model, recipe = asked.configured()
    machine = asked.machine
    engines.get(machine.engine, machine.mesh).require(machine.precision)
    begun_from = found = None
    if asked.begin_from:
        clock.report(Preparing("reading the model"))
        begun_from, made = _loaded(asked.begin_from)
        found = material.encoded(text, begun_from) if conversations.are_in(text) else None
        recipe = _with_window(recipe, model, found)
    else:
        clock.report(Preparing("reading the text"))
        kind = asked.tokenizer or dial.tokenizer_for(text)
        texts = text.sample(MERGED) if kind == "bpe" else text.pieces()
        made = tokenizers.train(kind, texts, vocab_size=asked.vocab_size)
        model = model.replace(vocab_size=made.vocab_size)
    trained = Candidate(recipe.trained(model), recipe)
    if recipe.minutes is not None:
        plan = _plan(trained, asked, _length(text, made, found), clock)
        clock.report(Planned(plan, made.kind))
        trained = plan.chosen
    _require_fit(trained, machine)
    whole = trained.model if begun_from is None else model  # which attends to more than it is trained on
    return Prepared(whole, trained.recipe, made, begun_from, found)


def _with_window(recipe: Recipe, model: ModelConfig, found: list[Example] | None) -> Recipe:
    """The recipe with a window where none was named: a text's, or that of the longest conversation."""
    if recipe.window is None and model.position != "learned":
        most = model.context_length
        recipe = recipe.replace(window=min(WINDOW, most) if found is None else material.window(found, most))
    if found is not None:
        material.require_answers(found, recipe.trained(model).context_length)
    return recipe


def _loaded(source: str) -> tuple[Model, Tokenizer]:
    model = sources.load(source)
    if model.tokenizer is None:
        raise UserError(f"A model reads text by its tokenizer; {source} has none. Take a model with one.")
    return model, model.tokenizer


def _plan(candidate: Candidate, asked: Asked, n_tokens: int, clock: Clock) -> Plan:
    candidates = [candidate] if asked.is_named else dial.candidates(candidate, asked.options, n_tokens)
    batches.require_windows(n_tokens, candidates[0].model.context_length)
    _require_fit(candidates[0], asked.machine)
    candidates = list(itertools.takewhile(lambda it: _fits(it, asked.machine), candidates))

    def step_seconds(candidate: Candidate) -> float:
        width, n_layers = candidate.model.d_model, candidate.model.n_layers
        clock.report(Preparing(f"measuring this machine: {width} wide, {n_layers} layers"))
        return dial.step_seconds(candidate, asked.machine, clock.compiling)

    seconds = 60.0 * (candidate.recipe.minutes or 0.0) - clock.seconds
    fixed = {*asked.options, *(["dropout"] if asked.is_named else [])}
    n_trained = n_tokens - round(batches.VALIDATION_SHARE * n_tokens)
    return dial.plan(candidates, n_trained, seconds, step_seconds, fixed)


def _require_fit(candidate: Candidate, machine: Machine) -> None:
    model, recipe = candidate
    rank = recipe.lora_rank
    fits.require_training(model, recipe.batch_size, machine.engine, machine.precision, machine.mesh, rank)


def _fits(candidate: Candidate, machine: Machine) -> bool:
    try:
        _require_fit(candidate, machine)
    except UserError:
        return False
    return True


def _length(text: Corpus, tokenizer: Tokenizer, found: list[Example] | None) -> int:
    """Tokens of the text, or of the conversations."""
    return n_tokens(text, tokenizer) if found is None else sum(len(example.token_ids) for example in found)


def n_tokens(text: Corpus, tokenizer: Tokenizer) -> int:
    """About how many tokens the text has: its first ones say how long they are."""
    n_characters, start = 0, ""
    for piece in text.pieces():
        start = start or piece[:SAMPLED]
        n_characters += len(piece)
    return round(n_characters * len(tokenizer.encode(start)) / len(start))
