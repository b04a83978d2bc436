"""sweep.json and trials.csv: what a sweep tries, what came of it, and all that is needed to go on with it."""

import csv
import dataclasses
import io
import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from handgrad.data import files
from handgrad.errors import UserError, shown
from handgrad.formats import atomic
from handgrad.formats.tables import Table
from handgrad.training.metrics import LARGEST_LOSS, LEAST_LOSS
from handgrad.training.sweeps import over

SWEEP, TRIALS = "sweep.json", "trials.csv"
LONGEST = 1 << 24
NO_MORE = (over.SEED, "steps", "minutes")
"""Where the end of what was tried says nothing: chance, and that longer is better."""
REMEDY = "Take another copy of it, or start a new sweep."

State = Literal["running", "finished", "stopped early", "failed"]
STATES: tuple[State, ...] = get_args(State)


@dataclass(frozen=True)
class Trial:
    """One run of a sweep."""

    number: int
    """From 1."""
    options: dict[str, Any]
    """What it is tried with."""
    state: State = "running"
    losses: tuple[float, ...] = ()
    """Validation losses of its evaluations, in nats a token; of a part of the text before the last."""
    bits_per_byte: float | None = None
    """The last one in bits a byte."""
    steps: int = 0
    seconds: float = 0.0
    why: str = ""
    """Why it failed."""

    @property
    def name(self) -> str:
        """Its folder's, in that of the sweep."""
        return f"trial-{self.number}"

    @property
    def loss(self) -> float | None:
        """The last validation loss, in nats a token; over the whole text, where it is finished."""
        return self.losses[-1] if self.losses and self.state != "failed" else None

    @property
    def rank(self) -> tuple[int, float, int]:
        """Sorts trials: the finished ones by their loss, those stopped early by theirs, then the others."""
        is_last = math.inf if self.loss is None else self.loss
        order = ("finished", "stopped early", "running", "failed").index(self.state)
        return order, is_last, self.number


@dataclass(frozen=True, kw_only=True)
class Record:
    """A sweep."""

    texts: tuple[str, ...]
    """Paths; none is the embedded text."""
    over: dict[str, Any]
    """What is tried, as it was asked for: see `over`."""
    n_trials: int
    early_stopping: bool
    seed: int
    preset: str | None
    tokenizer: str | None
    vocab_size: int
    engine: str
    precision: str
    begin_from: str | None
    options: dict[str, Any]
    """What all runs have in common."""
    trials: tuple[Trial, ...] = ()

    @property
    def ranked(self) -> list[Trial]:
        """The trials, best first."""
        return sorted(self.trials, key=lambda trial: trial.rank)

    @property
    def best(self) -> Trial | None:
        """The finished trial with the lowest loss; None where none is finished."""
        found = self.ranked[:1]
        return found[0] if found and found[0].state == "finished" else None

    @property
    def hints(self) -> list[str]:
        """What to try next: beyond the ends at which the best trial is."""
        if self.best is None:
            return []
        found = []
        for name, values in over.parse(self.over).items():
            value = self.best.options[name]
            if name not in NO_MORE and value != 0 and (end := over.end(values, value)):
                beyond = "smaller" if end == "smallest" else "larger"
                shown = f"{value:.4g}" if isinstance(value, float) else value
                found.append(
                    f"The best {name}, {shown}, is the {end} that was tried, or near it: try {beyond} ones."
                )
        return found

    @property
    def is_over(self) -> bool:
        return len(self.trials) >= self.n_trials and all(it.state != "running" for it in self.trials)

    def with_trial(self, trial: Trial) -> "Record":
        """The sweep with a trial added, or with another state of it."""
        return dataclasses.replace(self, trials=(*self.trials[: trial.number - 1], trial))


def write(folder: Path, record: Record) -> None:
    """Both files, each whole or as it was."""
    atomic.write_text(folder / SWEEP, json.dumps(dataclasses.asdict(record), indent=1) + "\n")
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(["trial", *record.over, "loss", "bits_per_byte", "steps", "seconds", "state"])
    for it in record.ranked:
        options = [it.options.get(name) for name in record.over]
        table.writerow([it.name, *options, it.loss, it.bits_per_byte, it.steps, it.seconds, it.state])
    atomic.write_text(folder / TRIALS, text.getvalue())


def read(folder: Path) -> Record:
    """The sweep in `folder`; `UserError` where there is none, or where it is damaged."""
    path = folder / SWEEP
    if not files.exists(path):
        raise UserError(f"There is no sweep in {folder}: it has no {SWEEP}. Check the path.")
    table = Table.parse(files.read_text(path, LONGEST), str(path), REMEDY)
    early_stopping = table.fields.get("early_stopping")
    if not isinstance(early_stopping, bool):
        raise table.error("early_stopping must be true or false.")
    return Record(
        texts=tuple(_list(table, "texts", str)),
        over=table.table("over").fields,
        n_trials=table.whole("n_trials", least=1),
        early_stopping=early_stopping,
        seed=table.whole("seed"),
        preset=_maybe(table, "preset"),
        tokenizer=_maybe(table, "tokenizer"),
        vocab_size=table.whole("vocab_size", least=1),
        engine=table.text("engine"),
        precision=table.text("precision"),
        begin_from=_maybe(table, "begin_from"),
        options=table.table("options").fields,
        trials=tuple(_trial(table, n, it) for n, it in enumerate(_list(table, "trials", dict), start=1)),
    )


def _trial(table: Table, number: int, fields: dict[str, Any]) -> Trial:
    it = Table(f"{table.where}: trial {number}", fields, REMEDY)
    if it.whole("number") != number:
        raise it.error(f"number must be {number}.")
    state = next(known for known in STATES if known == it.text("state", STATES))
    losses = _list(it, "losses", float, int)
    if not all(LEAST_LOSS <= loss <= LARGEST_LOSS for loss in losses):
        raise it.error("losses must be those of evaluations.")
    bits = None if fields.get("bits_per_byte") is None else it.number("bits_per_byte", LEAST_LOSS)
    options = it.table("options").fields
    return Trial(
        number, options, state, tuple(losses), bits, it.whole("steps"), it.number("seconds"), it.text("why")
    )


def _maybe(table: Table, name: str) -> str | None:
    return None if table.fields.get(name) is None else table.text(name)


def _list(table: Table, name: str, *kinds: type) -> list[Any]:
    values = table.fields.get(name)
    if not isinstance(values, list) or not all(type(value) in kinds for value in values):
        raise table.error(f"{name} must be a list as a sweep writes it; got {shown(values)}.")
    return values
