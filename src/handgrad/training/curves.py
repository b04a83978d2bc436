"""Pictures of runs' losses, from their metrics.jsonl: one run beside its baselines, and several compared."""

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from handgrad.errors import UserError, require_known
from handgrad.formats import atomic
from handgrad.training import metrics
from handgrad.training.metrics import EvaluationRow, Row, StepRow
from handgrad.training.run_config import RunConfig

if TYPE_CHECKING:  # matplotlib is imported when there is something to draw
    from handgrad.plots.curves import Curve
    from handgrad.plots.style import Picture

LOSS = "loss.png"
ALONG = ("steps", "tokens", "seconds")
FORMATS = ("png", "svg")


def plot(
    runs: str | Path | Sequence[str | Path], *, by: str = "steps", out: str | Path = "curves.png"
) -> Path:
    """Draw the losses of `runs`, folders with a metrics.jsonl, over each other into `out`, and return it.

    `by` is what they are drawn against: "steps", "tokens" trained on, or "seconds" of training and
    evaluating. `out` ends with .png or .svg. Losses are in nats a token, and in bits a byte where tokenizers
    differ. Raises `UserError` where a folder has no metrics, or damaged ones.
    """
    out = Path(out)
    require_known("axis", by, ALONG)
    kind = out.suffix.removeprefix(".").lower()
    if kind not in FORMATS:
        raise UserError(f"A picture's name ends with .png or .svg; got {out}. Try {out.with_suffix('.png')}.")
    folders = [runs] if isinstance(runs, str | Path) else list(runs)
    if not folders:
        raise UserError("A picture compares runs; got none. Name their folders, as runs/quick-1.")
    found = {str(folder): _rows(Path(folder)) for folder in folders}
    with _drawable("Unset MPLBACKEND."):
        from handgrad.plots import curves

    figure = curves.draw([_curve(name, rows, by) for name, rows in found.items()], by)
    _save(figure, out, kind)
    return out


def draw_loss(folder: Path, config: RunConfig) -> None:
    """loss.png in a run's folder."""
    with _drawable(f"The run is saved. Unset MPLBACKEND, and then: handgrad train --resume --out {folder}"):
        from handgrad.plots import loss_curve

    losses = metrics.losses(metrics.read(folder))
    figure = loss_curve.draw(*losses, config.baselines, config.bits_per_byte(1.0))
    _save(figure, folder / LOSS, "png")


def _rows(folder: Path) -> list[Row]:
    rows = metrics.read(folder)
    if not rows:
        raise UserError(
            f"There are no losses to draw in {folder}: it has no {metrics.METRICS}, or an empty one. Name "
            f"the folder of a run, as runs/quick-1."
        )
    return rows


def _curve(name: str, rows: list[Row], by: str) -> "Curve":
    from handgrad.plots.curves import Curve

    field = "step" if by == "steps" else by
    training = [(getattr(row, field), row.loss) for row in rows if isinstance(row, StepRow)]
    evaluations = [row for row in rows if isinstance(row, EvaluationRow)]
    validation = [(getattr(row, field), row.validation_loss) for row in evaluations]
    return Curve(name, training, validation, _bits_per_nat(evaluations))


def _bits_per_nat(evaluations: list[EvaluationRow]) -> float:
    """Bits a byte of one nat a token; 1 where no evaluation says."""
    known = [row for row in evaluations if row.validation_loss > 0.0 and row.bits_per_byte > 0.0]
    return known[0].bits_per_byte / known[0].validation_loss if known else 1.0


@contextlib.contextmanager
def _drawable(remedy: str) -> Iterator[None]:
    try:
        yield
    except ValueError as error:  # MPLBACKEND names none
        raise UserError(f"matplotlib cannot draw: {str(error).split(';')[0]}. {remedy}") from error


def _save(figure: "Picture", path: Path, kind: str) -> None:
    atomic.write(path, lambda partial: figure.savefig(partial, format=kind))
