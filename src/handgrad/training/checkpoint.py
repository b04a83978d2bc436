"""Checkpoints: all that training needs to go on as if it had never stopped, in one file.

The file holds the weights under their names, Adam's two moments flat, the step, and the best validation loss
so far. Schedule, batches and dropout follow from the step and the run's seed.
"""

import dataclasses
import json
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from handgrad import parameters as p
from handgrad import tree
from handgrad.data import files
from handgrad.engines import lora
from handgrad.engines.engine import State
from handgrad.errors import UserError
from handgrad.formats import tensors
from handgrad.formats.model_folder import BASE, MOMENTS
from handgrad.formats.tables import Table
from handgrad.model.config import ModelConfig
from handgrad.model.init import blank
from handgrad.optim import adamw
from handgrad.training.metrics import LEAST_LOSS

PROGRESS = "progress"
LEAST_RATE = 1e-9
"""Places of a schedule that a step goes on at least."""


@dataclass
class Progress:
    """Where a run stands, besides its weights."""

    step: int = 0
    """Steps done."""
    best_loss: float = math.inf
    """The lowest validation loss so far, in nats a token."""
    tokens: int = 0
    """Tokens trained on."""
    seconds: float = 0.0
    """Time that the run has taken, its preparation included, and compiling not."""
    place: float = 0.0
    """Where in the recipe's schedule it is: after `step` steps, unless its time is given."""
    rate: float = 1.0
    """How many places each step goes on: see `pace`."""
    skipped: int = 0
    """Steps that were not applied: see `spikes`."""

    def expected_steps(self, places: int) -> int:
        """How many steps the run will have made when it is through its schedule."""
        return self.step + round((places - self.place) / self.rate)


def save(path: Path, state: State, progress: Progress) -> None:
    """Write the whole state; of LoRA's the adapters and not the weights, which they are added to."""
    learned = state.weights if state.adapters is None else state.adapters
    moments = state.moments or adamw.init(np.zeros(tree.size(learned), np.float32))
    arrays = {**tensors.by_name(learned), **_by_name(moments)}
    tensors.write(path, arrays, {PROGRESS: json.dumps(dataclasses.asdict(progress))})


def read(
    path: Path, config: ModelConfig, steps: int, adaptation: lora.Settings | None = None
) -> tuple[State, Progress]:
    """A state to go on from, and where the run of so many steps stands.

    With LoRA's settings, the state's weights are those that the run began from. `UserError` if a file is
    damaged or another's.
    """
    progress = read_progress(path, steps)
    weights, adapters = blank(config), None
    if adaptation is not None:
        tensors.read_into(tensors.by_name(weights), path.with_name(BASE))
        _, adapters = tree.pack(lora.shapes(config, adaptation.rank))
    learned = weights if adapters is None else adapters
    moments = adamw.init(np.zeros(tree.size(learned), np.float32))
    tensors.read_into({**tensors.by_name(learned), **_by_name(moments)}, path)
    if moments.square.min() < 0.0:
        raise UserError(f"A mean of squares is not negative; {path} has one that is. {files.COPY}")
    return State(weights, moments._replace(step=progress.step - progress.skipped), adapters), progress


def save_weights(path: Path, weights: p.Transformer, progress: Progress) -> None:
    """Write the weights alone, with the step and loss at which they were good."""
    about = {"step": progress.step, "validation_loss": progress.best_loss}
    tensors.write(path, tensors.by_name(weights), {PROGRESS: json.dumps(about)})


def read_progress(path: Path, steps: int) -> Progress:
    """Where the run of a checkpoint stands; `UserError` where it does not say, or says beyond `steps`."""
    metadata = tensors.read_header(path).metadata
    if PROGRESS not in metadata:
        raise UserError(f"{path} holds weights but no state to go on from. {files.COPY}")
    table = Table.parse(metadata[PROGRESS], f"{path}, its state to go on from")
    step, best_loss = table.whole("step"), table.number("best_loss", LEAST_LOSS, math.inf)
    tokens, seconds = table.whole("tokens"), table.number("seconds")
    place, rate = table.number("place", 0.0, steps), table.number("rate", LEAST_RATE, steps)
    skipped = table.whole("skipped")
    if skipped > step:
        raise table.error(f"No more steps are skipped than done; got {skipped:,} of {step:,}.")
    return Progress(step, best_loss, tokens, seconds, place, rate, skipped)


def step(path: Path) -> int:
    """After which step its weights were saved; `UserError` where it does not say."""
    text = tensors.read_header(path).metadata.get(PROGRESS, "{}")
    return Table.parse(text, f"{path}, its state to go on from").whole("step")


def _by_name(moments: adamw.State) -> dict[str, np.ndarray]:
    return dict(zip(MOMENTS, (moments.mean, moments.square), strict=True))
