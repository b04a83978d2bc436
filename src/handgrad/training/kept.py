"""The checkpoints that a run keeps: its last one, and earlier ones as RUN/checkpoints/STEP.safetensors.

The last one is then a second name of the newest of them, so that it takes no room of its own. The newest is
there before it becomes the last one, and older ones are removed after that: whenever a process is killed,
the run goes on from its last checkpoint, makes the same steps, and ends with the same files.
"""

from pathlib import Path

from handgrad.engines.engine import State
from handgrad.errors import UserError, require_whole, shown
from handgrad.formats import atomic
from handgrad.formats.model_folder import CHECKPOINTS, LAST, SAFETENSORS
from handgrad.training import checkpoint
from handgrad.training.checkpoint import Progress

ALL = "all"


def require(keep: int | str) -> int | str:
    """`keep`, how many checkpoints: a number from 1, or "all"; `UserError` where it is neither."""
    if keep == ALL:
        return ALL
    try:
        return require_whole("keep", int(keep) if isinstance(keep, str) and keep.isdecimal() else keep, 1)
    except UserError as error:
        raise UserError(
            f'A run keeps a number of checkpoints from 1, or "all"; got {shown(keep)}.'
        ) from error


def save(folder: Path, state: State, progress: Progress, keep: int | str) -> None:
    """Write the state as the last checkpoint, and keep it with so many in all."""
    if keep == 1:
        checkpoint.save(folder / LAST, state, progress)
        return
    newest = folder / CHECKPOINTS / f"{progress.step}{SAFETENSORS}"
    with atomic.explained(newest):
        newest.parent.mkdir(exist_ok=True)
    checkpoint.save(newest, state, progress)
    atomic.link(folder / LAST, newest)
    prune(folder, progress.step, keep)


def prune(folder: Path, step: int, keep: int | str) -> None:
    """Remove all checkpoints up to `step` but for the newest; later ones will be made again."""
    if not isinstance(keep, int) or keep == 1:
        return
    for old in [it for it in steps(folder) if it <= step][:-keep]:
        path = folder / CHECKPOINTS / f"{old}{SAFETENSORS}"
        with atomic.explained(path):
            path.unlink(missing_ok=True)


def steps(folder: Path) -> list[int]:
    """After which steps the kept checkpoints in `folder` are, ascending."""
    found = (folder / CHECKPOINTS).glob(f"*{SAFETENSORS}")
    return sorted(int(path.stem) for path in found if path.stem.isdecimal())
