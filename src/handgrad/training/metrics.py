"""metrics.jsonl: a line of JSON for every step, evaluation and diagnosis, in the order they happened."""

import itertools
import json
from collections.abc import Callable, Iterable
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
LARGEST_SHARE = 1.001
"""Rounding may put a share a little above one."""
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


class DiagnosisRow(NamedTuple):
    """What one step did to each part of the model, and what its layers then do: see `diagnosis`.

    Parts are named `embedding`, `blocks.0.attention`, `blocks.0.feed_forward` and so on, and `head`.
    """

    step: int
    gradient_norms: dict[str, float]
    """By part, before clipping."""
    update_ratios: dict[str, float]
    """By part: the root mean square of the step's update of its matrices, as a share of theirs."""
    entropies: list[list[float]]
    """By layer and head: the attention's mean entropy, as a share of the largest there can be."""
    dead_units: list[float]
    """By layer: the share of the feed-forward's units that no token activates."""
    residual_rms: list[float]
    """By layer: the root mean square of the residual stream after it."""
    tokens: int
    """Tokens trained on so far."""
    seconds: float
    """Time spent training, evaluating and diagnosing so far."""


class SkippedRow(NamedTuple):
    """A step that was not applied: its own row stands before."""

    step: int
    largest_loss: float
    """With which it would have been, in nats a token;"""
    largest_gradient_norm: float
    """and likewise."""
    tokens: int
    """Tokens read so far."""
    seconds: float
    """Time spent training and evaluating so far."""


Row = StepRow | EvaluationRow | DiagnosisRow | SkippedRow


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
            rows.append(parsed(line, where))
    return rows


def parsed(line: bytes, where: str) -> Row:
    """The row that a line holds; `UserError` where it is damaged."""
    return _row(Table.parse(line, where, REMEDY))


class Writer:
    """Appends rows; begun at a step, it first drops the rows of steps that will be done again."""

    tell: Callable[[Row], object] = staticmethod(lambda row: None)
    """Is called with each row that is appended: see `sinks`."""

    def __init__(self, folder: Path, step: int):
        self.path = folder / METRICS
        self.rows = _until(step, folder)
        atomic.write_text(self.path, "".join(map(_line, self.rows)))
        with atomic.explained(self.path):
            self._file: TextIO = self.path.open("a", encoding="utf-8")

    def loss_since_evaluation(self) -> float | None:
        """The mean loss of the steps after the last evaluation; None where there are none."""
        steps = itertools.takewhile(lambda row: not isinstance(row, EvaluationRow), reversed(self.rows))
        losses = [row.loss for row in steps if isinstance(row, StepRow)][::-1]
        return sum(losses) / len(losses) if losses else None

    def write(self, row: Row) -> None:
        self.rows.append(row)
        with atomic.explained(self.path):
            self._file.write(_line(row))
        self.tell(row)

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
    """Knows the rows and writes nothing: the first of several processes does."""

    def __init__(self, folder: Path, step: int):
        self.rows = _until(step, folder)

    def write(self, row: Row) -> None:
        self.rows.append(row)

    def flush(self) -> None:
        pass

    def __exit__(self, *_: object) -> None:
        pass


def _until(step: int, folder: Path) -> list[Row]:
    """The rows of the steps that are done."""
    return [row for row in read(folder) if row.step <= step] if step else []


def _row(table: Table) -> Row:
    step = table.whole("step")
    if "loss" in table.fields:
        loss = _loss(table, "loss")
        rate, norm = table.number("learning_rate"), table.number("gradient_norm")
        return StepRow(step, loss, rate, norm, *_so_far(table))
    if "gradient_norms" in table.fields:
        return _diagnosis(step, table)
    if "largest_loss" in table.fields:
        largest = _loss(table, "largest_loss"), table.number("largest_gradient_norm")
        return SkippedRow(step, *largest, *_so_far(table))
    validation_losses = _loss(table, "validation_loss"), _loss(table, "bits_per_byte")
    train_loss = None if table.fields.get("train_loss") is None else _loss(table, "train_loss")
    return EvaluationRow(step, *validation_losses, train_loss, *_so_far(table), table.text("sample"))


def _diagnosis(step: int, table: Table) -> DiagnosisRow:
    norms, ratios = (
        {part: values.number(part) for part in values.fields}
        for values in (table.table("gradient_norms"), table.table("update_ratios"))
    )
    shares = table.rows("entropies", most=LARGEST_SHARE), table.numbers("dead_units", most=1.0)
    return DiagnosisRow(step, norms, ratios, *shares, table.numbers("residual_rms"), *_so_far(table))


def _so_far(table: Table) -> tuple[int, float]:
    return table.whole("tokens"), table.number("seconds")


def _loss(table: Table, name: str) -> float:
    return table.number(name, LEAST_LOSS, LARGEST_LOSS)


def _line(row: Row) -> str:
    return json.dumps(row._asdict()) + "\n"
