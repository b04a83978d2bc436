"""A small trained model for the lessons that look inside one, and a real one where it can be had."""

import os
from pathlib import Path

import handgrad
from handgrad.errors import UserError
from handgrad.formats.model_folder import Model
from handgrad.lessons import knobs
from handgrad.training import run

FOLDER = Path("runs/lessons")
STEPS = 600


def model(folder: str | Path | None = None) -> Model:
    """The model of a training run; without `folder`, `nano` after `STEPS` steps on the embedded text.

    It is trained once, in half a minute, and kept in `runs/lessons` below the current folder.
    """
    if folder is not None:
        return handgrad.load(folder)
    if not (FOLDER / "config.json").exists():
        handgrad.train(preset="nano", steps=STEPS, eval_every=STEPS // 3, out=FOLDER)
    elif (about := run.about(FOLDER)).steps_done < about.config.recipe.steps:  # interrupted the first time
        handgrad.resume(FOLDER)
    return handgrad.load(FOLDER)


def real(name: str) -> str:
    """`name`, where a model of this name can be had; else, and on a page, the folder of the small one."""
    if not os.environ.get(knobs.ON_A_PAGE):
        try:
            handgrad.load(name)
            return name
        except UserError as error:
            print(f"{error} The small model of the lessons stands in.")
    model()
    return str(FOLDER)
