"""Weights & Biases (wandb): a run there for each run here, under an id that is kept in RUN/wandb.id.

A run that goes on is the same one there; steps that it has already are not sent again. Offline
(WANDB_MODE=offline) each part is a folder in RUN/wandb with all rows so far: the newest is the one to sync.
"""

import secrets
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from handgrad.data import files
from handgrad.errors import UserError
from handgrad.formats import atomic
from handgrad.training.metrics import EvaluationRow, Row
from handgrad.training.sinks import scalars

ID = "wandb.id"
LONGEST_ID = 64
PROJECT = "handgrad"
SECONDS = 30
"""The most to wait for the network before training begins."""


class Sink:
    """Sends each row: its numbers, and the sample."""

    def __init__(self, folder: Path, settings: Mapping[str, Any], rows: Sequence[Row]):
        import wandb

        quiet = wandb.Settings(silent=True, console="off", init_timeout=SECONDS)
        if wandb.setup(quiet).settings.mode == "online" and not wandb.login(prompt=False):
            raise UserError("nobody is logged in. Call wandb login, or set WANDB_MODE=offline")
        self._run = wandb.init(
            project=PROJECT, id=_id(folder), name=folder.resolve().name, dir=str(folder), resume="allow",
            config=dict(settings), settings=quiet,
        )  # fmt: skip
        self._first = self._run.step
        for row in rows:
            self.write(row)

    def write(self, row: Row) -> None:
        if row.step < self._first:  # it is there
            return
        values: dict[str, Any] = {**scalars.of(row), "tokens": row.tokens, "seconds": row.seconds}
        if isinstance(row, EvaluationRow):
            values["sample"] = row.sample
        self._run.log(values, step=row.step)

    def close(self) -> None:
        self._run.finish()


def _id(folder: Path) -> str:
    path = folder / ID
    if not files.exists(path):
        atomic.write_text(path, secrets.token_hex(4) + "\n")
    return files.read_text(path, LONGEST_ID).strip()
