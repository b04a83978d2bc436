"""Pictures of runs, from their metrics.jsonl: losses beside baselines or compared, and what layers do."""

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from handgrad.errors import UserError, require_known
from handgrad.formats import atomic
from handgrad.training import metrics
from handgrad.training.metrics import DiagnosisRow, EvaluationRow, Row, StepRow
from handgrad.training.pace import DIAGNOSED
from handgrad.training.run_config import RunConfig

if TYPE_CHECKING:  # matplotlib is imported when there is something to draw
    from handgrad.plots.curves import Curve
    from handgrad.plots.style import Picture

LOSS = "loss.png"
ALONG = ("steps", "tokens", "seconds")
FORMATS = ("png", "svg")
SHOWN = {"losses": "curves.png", "layers": "layers.png"}
"""What can be drawn, and into what if no name is given."""


def plot(
    runs: str | Path | Sequence[str | Path],
    *,
    show: str = "losses",
    by: str = "steps",
    out: str | Path | None = None,
) -> Path:
    """Draw the losses of `runs`, folders with a metrics.jsonl, over each other into `out`, and return it.

    With `show="layers"`, draw instead what one run did to each of its layers: see `diagnosis`. `by` is what
    they are drawn against: "steps", "tokens" trained on, or "seconds" of training and evaluating. `out` ends
    with .png or .svg. Losses are in nats a token, and in bits a byte where tokenizers
    differ. Raises `UserError` where a folder has no metrics, or damaged ones.
    """
    require_known("picture", show, SHOWN)
    require_known("axis", by, ALONG)
    out = Path(SHOWN[show] if out is None else out)
    kind = out.suffix.removeprefix(".").lower()
    if kind not in FORMATS:
        raise UserError(f"A picture's name ends with .png or .svg; got {out}. Try {out.with_suffix('.png')}.")
    folders = [runs] if isinstance(runs, str | Path) else list(runs)
    if not folders:
        raise UserError("A picture compares runs; got none. Name their folders, as runs/quick-1.")
    if show == "layers":
        _save(_draw_layers(folders, by), out, kind)
        return out
    found = {str(folder): _rows(Path(folder)) for folder in folders}
    with drawable("Unset MPLBACKEND."):
        from handgrad.plots import curves

    figure = curves.draw([_curve(name, rows, by) for name, rows in found.items()], by)
    _save(figure, out, kind)
    return out


def _draw_layers(folders: Sequence[str | Path], by: str) -> "Picture":
    if len(folders) > 1:
        raise UserError(f"Layers are drawn of one run at a time; got {len(folders)}. Name one of them.")
    (folder,) = map(Path, folders)
    rows = [row for row in _rows(folder) if isinstance(row, DiagnosisRow)]
    if not rows:
        raise UserError(
            f"There are no diagnoses to draw in {folder}: a run writes the first one at its first evaluation "
            f"after {DIAGNOSED} steps, or at its end. Train on, or draw its losses."
        )
    if len({_shape(row) for row in rows}) > 1:
        raise UserError(
            f"The diagnoses in {folder / metrics.METRICS} are of different models. {metrics.REMEDY}"
        )
    with drawable("Unset MPLBACKEND."):
        from handgrad.plots import layers

    norms, ratios = (
        {part: np.array([values.get(part, 0.0) for values in by_part]) for part in by_part[-1]}
        for by_part in ([row.gradient_norms for row in rows], [row.update_ratios for row in rows])
    )
    along = np.array([getattr(row, _field(by)) for row in rows], np.float64)
    of_layers = (np.array([row[field] for row in rows]) for field in (3, 4, 5))
    return layers.draw(layers.Diagnosed(along, norms, ratios, *of_layers), by)


def _shape(row: DiagnosisRow) -> tuple[object, ...]:
    """What is the same in all rows of a run."""
    n_heads = tuple(map(len, row.entropies))
    return n_heads, len(row.dead_units), len(row.residual_rms)


def draw_loss(folder: Path, config: RunConfig) -> None:
    """loss.png in a run's folder."""
    with drawable(f"The run is saved. Unset MPLBACKEND, and then: handgrad train --resume --out {folder}"):
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

    field = _field(by)
    training = [(getattr(row, field), row.loss) for row in rows if isinstance(row, StepRow)]
    evaluations = [row for row in rows if isinstance(row, EvaluationRow)]
    validation = [(getattr(row, field), row.validation_loss) for row in evaluations]
    return Curve(name, training, validation, _bits_per_nat(evaluations))


def _field(by: str) -> str:
    return "step" if by == "steps" else by


def _bits_per_nat(evaluations: list[EvaluationRow]) -> float:
    """Bits a byte of one nat a token; 1 where no evaluation says."""
    known = [row for row in evaluations if row.validation_loss > 0.0 and row.bits_per_byte > 0.0]
    return known[0].bits_per_byte / known[0].validation_loss if known else 1.0


@contextlib.contextmanager
def drawable(remedy: str) -> Iterator[None]:
    """Turn a backend that matplotlib does not know into a sentence with a remedy."""
    try:
        yield
    except ValueError as error:  # MPLBACKEND names none
        raise UserError(f"matplotlib cannot draw: {str(error).split(';')[0]}. {remedy}") from error


def _save(figure: "Picture", path: Path, kind: str) -> None:
    atomic.write(path, lambda partial: figure.savefig(partial, format=kind))
