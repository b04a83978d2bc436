"""What the explorer keeps: a run's checkpoints by name, and the traces asked for last."""

import threading
from collections import OrderedDict
from pathlib import Path

from handgrad.data import files
from handgrad.engines import fits
from handgrad.errors import UserError
from handgrad.formats import sources
from handgrad.formats.model_folder import BEST, CHECKPOINTS, CONFIG, LAST, SAFETENSORS, Model
from handgrad.trace import Trace, prediction

MODELS = 2
"""Checkpoints that are held."""
TRACES = 2, 6
"""Traces that are held, at least and at most: as many as `HOLD` has room for."""
HOLD = 2 << 30
"""The bytes of blocks' insides that are held of the trace asked for last: at most an eighth of the memory."""


class ForgottenError(Exception):
    """A trace that is held no longer, or never was: ask anew."""


class Held:
    """One model. Several threads may ask at once."""

    def __init__(self, source: str):
        self.source = source
        self._lock = threading.RLock()
        self._models: OrderedDict[str, Model] = OrderedDict()
        self._traces: OrderedDict[str, Trace] = OrderedDict()

    @property
    def folder(self) -> Path | None:
        """The run's, where the model is one."""
        path = Path(self.source)
        return path if path.is_dir() and files.exists(path / CONFIG) and files.exists(path / LAST) else None

    def checkpoints(self) -> list[str]:
        """Those of a run, by the names that a question may have."""
        if self.folder is None:
            return []
        steps = [path.stem for path in (self.folder / CHECKPOINTS).glob(f"*{SAFETENSORS}")]
        numbers = sorted((step for step in steps if step.isdecimal()), key=int)
        return [*(["best"] if files.exists(self.folder / BEST) else []), "last", *numbers]

    def model(self, checkpoint: str | None = None) -> Model:
        """As it is now: a run that trains writes better ones."""
        version = self.version(checkpoint)
        with self._lock:
            if version not in self._models:
                self._models[version] = sources.load(self._path(checkpoint))
                while len(self._models) > MODELS:
                    self._models.popitem(last=False)
            self._models.move_to_end(version)
            return self._models[version]

    def version(self, checkpoint: str | None) -> str:
        """Other after a run that trains has written the checkpoint anew."""
        path = Path(self._path(checkpoint))
        if checkpoint is None and self.folder is not None:
            path = path / (BEST if files.exists(path / BEST) else LAST)
        return f"{checkpoint} {path.stat().st_mtime_ns if path.is_file() else 0}"

    def make_room(self) -> None:
        """For a trace that comes: those before it are held without what lies inside blocks."""
        with self._lock:
            for before in self._traces.values():
                before.release()

    def add(self, key: str, made: Trace) -> None:
        """Hold it, as the one asked for last."""
        with self._lock:
            self._traces[key] = made
            while len(self._traces) > room_for(made):
                self._traces.popitem(last=False)

    def known(self, key: str) -> Trace | None:
        """The trace, where it is held."""
        with self._lock:
            if key in self._traces:
                self._traces.move_to_end(key)
            return self._traces.get(key)

    def trace(self, key: str) -> Trace:
        """The trace; `ForgottenError` where it is held no longer."""
        made = self.known(key)
        if made is None:
            raise ForgottenError
        return made

    def _path(self, checkpoint: str | None) -> str | Path:
        if checkpoint is None:
            return self.source
        if checkpoint not in self.checkpoints():
            raise UserError(f"This model has no checkpoint {checkpoint[:50]!r}.")
        kept = {"best": BEST, "last": LAST}.get(checkpoint, f"{CHECKPOINTS}/{checkpoint}{SAFETENSORS}")
        return Path(self.source) / kept


def room_for(made: Trace) -> int:
    """How many traces like this one are held."""
    least, most = TRACES
    one = prediction.of_a_run(made.model.config, len(made.tokens), made.logits.itemsize)
    return max(least, min(most, HOLD // one))


def most_inside() -> int:
    """The bytes of blocks' insides that are held of one trace."""
    return min(HOLD, (fits.available() or HOLD) // 8)
