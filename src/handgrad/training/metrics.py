"""metrics.jsonl: a line of JSON for every step and every evaluation, in the order they happened."""

import json
from pathlib import Path
from typing import Any, Self, TextIO

from handgrad.formats import atomic

METRICS = "metrics.jsonl"


def read(folder: Path) -> list[dict[str, Any]]:
    """All whole lines; a last one that was cut short is left out."""
    path = folder / METRICS
    rows = []
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else []:
        try:
            rows.append(json.loads(line))
        except ValueError:
            break
    return rows


class Writer:
    """Appends lines; begun at a step, it first drops the lines of steps that will be done again."""

    def __init__(self, folder: Path, step: int):
        self.path = folder / METRICS
        self._kept = [row for row in read(folder) if row["step"] <= step] if step else []
        atomic.write_text(self.path, "".join(map(_line, self._kept)))
        with atomic.explained(self.path):
            self._file: TextIO = self.path.open("a", encoding="utf-8")

    def losses_since_evaluation(self) -> list[float]:
        """The losses of the steps after the last evaluation, of the lines that were there at first."""
        losses: list[float] = []
        for row in self._kept:
            losses = [*losses, row["loss"]] if "loss" in row else []
        return losses

    def write(self, **row: Any) -> None:
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


def _line(row: dict[str, Any]) -> str:
    return json.dumps(row) + "\n"
