"""All that training needs to go on as if it had never stopped, in one file that is whole or absent.

Weights under their names, Adam's two moments flat, and beside them the step and the best validation loss so
far. Nothing else is left to remember: schedule, batches and dropout follow from the step and the run's seed.
"""

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from handgrad import parameters as p
from handgrad import tree
from handgrad.engines.engine import State
from handgrad.errors import UserError
from handgrad.formats import tensors
from handgrad.model.config import ModelConfig
from handgrad.model.init import blank
from handgrad.optim import adamw

MEAN, SQUARE = "adam.mean", "adam.square"


@dataclass
class Progress:
    """Where a run stands, besides its weights."""

    step: int = 0
    """Steps done."""
    best_loss: float = float("inf")
    """The lowest validation loss so far, in nats a token."""
    seconds: float = 0.0
    """Time spent training and evaluating."""


def save(path: Path, state: State, progress: Progress) -> None:
    """Write the whole state."""
    moments = state.moments or adamw.init(np.zeros(tree.size(state.weights), np.float32))
    arrays = {**tensors.by_name(state.weights), MEAN: moments.mean, SQUARE: moments.square}
    tensors.write(path, arrays, {"progress": json.dumps(dataclasses.asdict(progress))})


def read(path: Path, config: ModelConfig) -> tuple[State, Progress]:
    """A state to go on from, and where the run stands. `UserError` if it is damaged or another's."""
    try:
        progress = Progress(**json.loads(tensors.read_metadata(path)["progress"]))
    except (KeyError, ValueError, TypeError) as error:
        raise UserError(f"{path} holds weights but no state to go on from ({error!r}).") from error
    weights = blank(config)
    moments = adamw.init(np.zeros(tree.size(weights), np.float32))
    tensors.read_into({**tensors.by_name(weights), MEAN: moments.mean, SQUARE: moments.square}, path)
    return State(weights, moments._replace(step=progress.step)), progress


def save_weights(path: Path, weights: p.Transformer, progress: Progress) -> None:
    """Write the weights alone, with the step and loss at which they were good."""
    about = {"step": progress.step, "validation_loss": progress.best_loss}
    tensors.write(path, tensors.by_name(weights), {"progress": json.dumps(about)})


def about(path: Path) -> dict[str, Any]:
    """What stands beside the weights: step and losses. Empty for a file that is not ours."""
    return json.loads(tensors.read_metadata(path).get("progress", "{}"))
