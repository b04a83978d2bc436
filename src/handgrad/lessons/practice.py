"""A small trained model for the lessons that look inside one: the learner's own, where there is one."""

from pathlib import Path

import handgrad
from handgrad.formats.model_folder import Model
from handgrad.training import run

FOLDER = Path("runs/lessons")
STEPS = 600


def model(folder: str | Path | None = None) -> Model:
    """The model of a training run; without one, `nano` after `STEPS` steps on the embedded text.

    That is trained once, in half a minute, and kept in `runs/lessons` below the folder one works in.
    """
    if folder is not None:
        return handgrad.load(folder)
    if not (FOLDER / "config.json").exists():
        handgrad.train(preset="nano", steps=STEPS, eval_every=STEPS // 3, out=FOLDER)
    elif run.about(FOLDER).steps_done < STEPS:  # interrupted the first time
        handgrad.resume(FOLDER)
    return handgrad.load(FOLDER)
