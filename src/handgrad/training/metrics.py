"""metrics.jsonl: a line of JSON for every step and every evaluation, in the order they happened."""

import itertools
import json
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple, Self, TextIO

from handgrad.data import files
from handgrad.errors import UserError
from handgrad.formats import atomic
from handgrad.formats.tables import Table

METRICS = "metrics.jsonl"
LONGEST_LINE = 1 << 20
LEAST_LOSS = -1.0
"""Rounding may put a loss a little below zero."""
LARGEST_LOSS = 1e39
"""Beyond what float32 holds."""
REMEDY = "Correct the line, or move the file away: training continues without it."


class StepRow(NamedTuple):
    """What one step measured."""

    step: int
    """Its number, from 1."""
    loss: float
    """The batch's, before the step, in nats a token."""
    learning_rate: float
    gradient_norm: float
    """Before clipping."""
    tokens: int
    """Tokens trained on so far, this step's included."""
    seconds: float
    """Time spent training and evaluating so far."""


class EvaluationRow(NamedTuple):
    """What one evaluation measured."""

    step: int
    """Steps done."""
    validation_loss: float
    """In nats a token."""
    bits_per_byte: float
    """The same loss, which compares across tokenizers: see `validation_text`."""
    train_loss: float | None
    """The mean over the steps since the last evaluation; None before the first step."""
    tokens: int
    """Tokens trained on so far."""
    seconds: float
    """Time spent training and evaluating so far."""
    sample: str
    """What the model wrote."""


Row = StepRow | EvaluationRow


def losses(rows: Iterable[Row]) -> tuple[list[tuple[int, float]], list[tuple[int, float]]]:
    """(step, loss) of every step, and (step, validation loss) of every evaluation."""
    rows = list(rows)
    training = [(row.step, row.loss) for row in rows if isinstance(row, StepRow)]
    validation = [(row.step, row.validation_loss) for row in rows if isinstance(row, EvaluationRow)]
    return training, validation


def read(folder: Path) -> list[Row]:
    """All rows, without a last one that was cut short; `UserError` names a line that is damaged."""
    path = folder / METRICS
    rows: list[Row] = []
    if not files.exists(path):
        return rows
    files.length(path)
    with files.readable(path), path.open("rb") as file:
        for number in itertools.count(1):
            line = file.readline(LONGEST_LINE)
            is_whole = line.endswith(b"\n")
            if len(line) < LONGEST_LINE and not is_whole:
                return rows
            where = f"{path}, line {number}"
            if not is_whole:
                raise UserError(f"{where} has more than {LONGEST_LINE:,} bytes. {REMEDY}")
            rows.append(_row(Table.parse(line, where, REMEDY)))
    return rows


class Writer:
    """Appends rows; begun at a step, it first drops the rows of steps that will be done again."""

    def __init__(self, folder: Path, step: int):
        self.path = folder / METRICS
        self.rows = [row for row in read(folder) if row.step <= step] if step else []
        atomic.write_text(self.path, "".join(map(_line, self.rows)))
        with atomic.explained(self.path):
            self._file: TextIO = self.path.open("a", encoding="utf-8")

    def loss_since_evaluation(self) -> float | None:
        """The mean loss of the steps after the last evaluation; None where there are none."""
        steps = itertools.takewhile(lambda row: isinstance(row, StepRow), reversed(self.rows))
        losses = [row.loss for row in steps if isinstance(row, StepRow)][::-1]
        return sum(losses) / len(losses) if losses else None

    def write(self, row: Row) -> None:
        self.rows.append(row)
        with atomic.explained(self.path):
            self._file.write(_line(row))

    def flush(self) -> None:
        """Hand everything to the operating system."""
        with atomic.explained(self.path):
            self._file.flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with atomic.explained(self.path):
            self._file.close()


class Nowhere(Writer):
    """Writes nothing: the first of several processes does."""

    def __init__(self) -> None:
        self.rows = []

    def write(self, row: Row) -> None:
        self.rows.append(row)

    def flush(self) -> None:
        pass

    def __exit__(self, *_: object) -> None:
        pass


def _row(table: Table) -> Row:
    step = table.whole("step")
    if "loss" in table.fields:
        loss = _loss(table, "loss")
        rate, norm = table.number("learning_rate"), table.number("gradient_norm")
        return StepRow(step, loss, rate, norm, *_so_far(table))
    validation_losses = _loss(table, "validation_loss"), _loss(table, "bits_per_byte")
    train_loss = None if table.fields.get("train_loss") is None else _loss(table, "train_loss")
    return EvaluationRow(step, *validation_losses, train_loss, *_so_far(table), table.text("sample"))


def _so_far(table: Table) -> tuple[int, float]:
    return table.whole("tokens"), table.number("seconds")


def _loss(table: Table, name: str) -> float:
    return table.number(name, LEAST_LOSS, LARGEST_LOSS)


def _line(row: Row) -> str:
    return json.dumps(row._asdict()) + "\n"
