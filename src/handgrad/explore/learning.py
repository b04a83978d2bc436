"""A run as the page shows it: losses, diagnoses, samples, and each new row while it trains."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from handgrad.training import metrics, run_config
from handgrad.training.metrics import DiagnosisRow, EvaluationRow, Row, SkippedRow, StepRow

POINTS = 2000
"""Points of a curve on the page."""
PAUSE = 1.0
"""Seconds between two looks at the metrics."""
KINDS = {StepRow: "step", EvaluationRow: "evaluation", DiagnosisRow: "diagnosis", SkippedRow: "skipped"}


def describe(folder: Path) -> dict[str, Any]:
    """All that a run has measured so far; of its steps' losses at most `POINTS`, means of neighbours."""
    config, rows = run_config.read(folder), metrics.read(folder)
    steps = [row for row in rows if isinstance(row, StepRow)]
    evaluations = [row for row in rows if isinstance(row, EvaluationRow)]
    return {
        "steps": steps[-1].step if steps else 0,
        "expected_steps": config.recipe.steps,
        "minutes": config.recipe.minutes,
        "text": config.text,
        "baselines": config.baselines,
        "bits_a_nat": config.bits_per_byte(1.0),
        "losses": thinned([(row.step, row.loss) for row in steps]),
        "learning_rates": thinned([(row.step, row.learning_rate) for row in steps]),
        "gradient_norms": thinned([(row.step, row.gradient_norm) for row in steps]),
        "evaluations": [row._asdict() for row in evaluations],
        "diagnoses": [row._asdict() for row in rows if isinstance(row, DiagnosisRow)],
        "samples": [{"step": row.step, "text": row.sample} for row in evaluations],
    }


def thinned(points: list[tuple[int, float]]) -> list[tuple[float, float]]:
    """At most `POINTS` points: each the mean of neighbours."""
    n = -(-len(points) // POINTS) or 1
    groups = (points[i : i + n] for i in range(0, len(points), n))
    return [(group[-1][0], sum(y for _, y in group) / len(group)) for group in groups]


async def live(folder: Path) -> AsyncIterator[str]:
    """Server-sent events: the rows that are written from now on. Only what is new in the file is read."""
    path = folder / metrics.METRICS
    place = path.stat().st_size if path.exists() else 0
    yield ": listening\n\n"
    while True:
        await asyncio.sleep(PAUSE)
        size = path.stat().st_size if path.exists() else 0
        place = min(place, size)  # a run that goes on has written it anew
        whole = _whole_lines(path, place, size)
        place += len(whole)
        if not whole:
            yield ": waiting\n\n"
        for line in whole.splitlines():
            yield event(metrics.parsed(line, str(path)))


def _whole_lines(path: Path, first: int, last: int) -> bytes:
    """What stands between two places in a file, up to its last line end."""
    if first == last:
        return b""
    with path.open("rb") as file:
        file.seek(first)
        new = file.read(last - first)
    return new[: new.rfind(b"\n") + 1]


def event(row: Row) -> str:
    """One event, named by its kind."""
    return f"event: {KINDS[type(row)]}\ndata: {json.dumps(row._asdict())}\n\n"
