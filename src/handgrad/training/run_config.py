"""config.json of a run: the architecture, and all that decides how it is trained."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from handgrad import engines
from handgrad.errors import UserError, shown
from handgrad.formats import model_folder
from handgrad.formats.model_folder import BEGUN_FROM
from handgrad.formats.tables import Table
from handgrad.kernels import PRECISIONS
from handgrad.model.config import ModelConfig
from handgrad.training import baselines, kept, validation_text
from handgrad.training.material import Layout
from handgrad.training.recipe import Recipe

LARGEST_LOSS = 1e6
"""More than any text's, in nats a token."""


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """What a run is."""

    model: ModelConfig
    recipe: Recipe
    preset: str
    """The preset; options may have changed its model and recipe."""
    seed: int
    engine: str
    precision: str
    text: str
    """The name of the text."""
    n_tokens: int
    """Its tokens, the validation text included."""
    validation_tokens: int
    validation_bytes: int
    """The validation text in UTF-8."""
    repeated: float
    """The share of the validation text that stands in the training text too."""
    baselines: dict[str, float]
    """Validation losses of the baselines, in nats a token."""
    conversations: int = 0
    """How many it learns from and is judged by; none: it is a text."""
    begun_from: str = ""
    """The model whose weights it began with; empty where they were drawn."""
    keep: int | str = 1
    """How many checkpoints it keeps, the last one among them; or "all"."""
    log: tuple[str, ...] = ()
    """Where its losses go besides its folder: see `sinks`."""

    @property
    def trained(self) -> ModelConfig:
        """The model as it is in training: see `Recipe.trained`."""
        return self.recipe.trained(self.model)

    @property
    def layout(self) -> Layout:
        """How what it learns from lies in its folder."""
        return Layout(self.n_tokens, self.trained.context_length, bool(self.conversations))

    def to_json(self) -> dict[str, Any]:
        """What `read` reads."""
        return dataclasses.asdict(self)

    def bits_per_byte(self, loss: float) -> float:
        """A validation loss, in nats a token, as bits a byte."""
        return validation_text.bits_per_byte(loss, self.validation_tokens, self.validation_bytes)


def read(folder: Path) -> RunConfig:
    """What config.json in `folder` says; `UserError` where it describes no run."""
    return from_table(model_folder.read_config(folder))


def from_table(config: Table) -> RunConfig:
    """The run that config.json describes; `UserError` where it is none."""
    model = model_folder.model_config(config)
    recipe = config.table("recipe").make(Recipe)
    try:
        recipe.trained(model)
    except UserError as error:
        raise config.error(str(error)) from error
    losses, n_tokens = config.table("baselines"), config.whole("n_tokens", least=1)
    validation_tokens = config.whole("validation_tokens", least=1)
    if validation_tokens >= n_tokens:
        raise config.error(
            f"validation_tokens must be below n_tokens, {n_tokens:,}; got {validation_tokens:,}."
        )
    return RunConfig(
        model=model,
        recipe=recipe,
        preset=config.text("preset"),
        seed=config.whole("seed"),
        engine=config.text("engine", tuple(engines.ENGINES)),
        precision=config.text("precision", PRECISIONS),
        text=config.text("text"),
        n_tokens=n_tokens,
        validation_tokens=validation_tokens,
        validation_bytes=config.whole("validation_bytes", least=1),
        repeated=config.number("repeated", 0.0, 1.0),
        baselines={name: losses.number(name, most=LARGEST_LOSS) for name in baselines.NAMES},
        conversations=config.whole("conversations"),
        begun_from=config.text(BEGUN_FROM),
        keep=_keep(config),
        log=_log(config),
    )


def _log(config: Table) -> tuple[str, ...]:
    names = config.fields.get("log", [])
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise config.error(f"log must list names; got {shown(names)}.")
    return tuple(names)


def _keep(config: Table) -> int | str:
    try:
        return kept.require(config.fields.get("keep", 1))
    except UserError as error:
        raise config.error(str(error)) from error
