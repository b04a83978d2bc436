"""TensorBoard's event files, in RUN/tensorboard, written by tensorboardX: pure Python, without TensorFlow.

A file is made anew from the rows whenever a run goes on. Its first event tells TensorBoard to forget what it
has read of the run (`purge_step`), so that no step is there twice. The file before stays: a TensorBoard that
is open goes on from it to the next one.
"""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tensorboardX import SummaryWriter
from tensorboardX.summary import hparams

from handgrad.training.metrics import EvaluationRow, Row
from handgrad.training.sinks import scalars

FOLDER = "tensorboard"
EVENTS = "events.out.tfevents.*"


class Sink:
    """Writes scalars by step, samples as text, and what the run is as hyperparameters."""

    def __init__(self, folder: Path, settings: Mapping[str, Any], rows: Sequence[Row]):
        for old in sorted((folder / FOLDER).glob(EVENTS))[:-1]:
            old.unlink()
        self._began = time.time() - (rows[-1].seconds if rows else 0.0)
        suffix = f".{time.time_ns()}"  # names have the second alone, and files are read in their order
        self._writer = SummaryWriter(str(folder / FOLDER), purge_step=0, filename_suffix=suffix)
        for summary in hparams(dict(settings), {scalars.VALIDATION: 0}):
            self._writer.file_writer.add_summary(summary)
        for row in rows:
            self.write(row)
        self._writer.flush()

    def write(self, row: Row) -> None:
        when = self._began + row.seconds
        for tag, value in scalars.of(row).items():
            self._writer.add_scalar(tag, value, row.step, walltime=when)
        if isinstance(row, EvaluationRow):
            indented = "\n".join(f"    {line}" for line in row.sample.splitlines())  # Markdown: as it stands
            self._writer.add_text("sample", indented, row.step, walltime=when)
            self._writer.flush()

    def close(self) -> None:
        self._writer.close()
