"""The best loss in given minutes: `quick` on one text, from several seeds, as rows of a record.

    python benchmarks/speedrun.py tinyshakespeare.txt --minutes 2
    python benchmarks/speedrun.py tinyshakespeare.txt --minutes 10 --seeds 1

Each run is `handgrad train TEXT --minutes N`, from the command's start to its end. Losses are over the whole
validation text, the last tenth: by windows that do not overlap, and by windows of which the later half
counts. Run it alone: what else computes takes time from it.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import processors
from validation import losses

from handgrad.engines import cpu
from handgrad.model.count import count
from handgrad.training import run

HEAD = "| minutes | loss | strided | seconds | parameters | tokens | PFLOP |\n|---|---|---|---|---|---|---|"


class Result(NamedTuple):
    """Of one run."""

    loss: float
    strided: float
    seconds: float
    """Of the whole command."""
    parameters: int
    tokens: int
    flop: float


def main() -> None:
    options = argparse.ArgumentParser(description="The best loss in given minutes.")
    options.add_argument("text", type=Path, help="a file")
    options.add_argument("--minutes", type=float, nargs="+", default=[2.0])
    options.add_argument("--seeds", type=int, default=3)
    options.add_argument("--set", action="append", default=[], help="as of handgrad train")
    given = options.parse_args()
    print(f"{processors.describe(None)}; handgrad computes in {cpu.describe('auto')}\n\n{HEAD}")
    for minutes in given.minutes:
        results = [trained(given.text, minutes, seed, given.set) for seed in range(1, given.seeds + 1)]
        for result in results:
            print(row(f"{minutes:g}", result), flush=True)
        if len(results) > 1:
            print(row(f"**{minutes:g}, mean**", Result(*map(statistics.mean, zip(*results, strict=True)))))


def row(title: str, result: Result) -> str:
    return (
        f"| {title} | {result.loss:.4f} | {result.strided:.4f} | {result.seconds:.1f} | "
        f"{result.parameters:,.0f} | {result.tokens:,.0f} | {result.flop / 1e15:.2f} |"
    )


def trained(text: Path, minutes: float, seed: int, settings: list[str]) -> Result:
    """A run of the command, evaluated."""
    with tempfile.TemporaryDirectory() as parent:
        folder = Path(parent) / "run"
        command = [sys.executable, "-m", "handgrad", "train", text, "--minutes", minutes, "--seed", seed]
        command += ["--out", folder, *(part for setting in settings for part in ("--set", setting))]
        started = time.perf_counter()
        subprocess.run(list(map(str, command)), check=True, stdout=subprocess.DEVNULL)
        seconds = time.perf_counter() - started
        about = run.about(folder)
        model, tokens = about.config.model, about.progress.tokens
        return Result(
            *losses(folder), seconds, count(model).parameters, tokens,
            tokens * count(model).training_flops_per_token,
        )  # fmt: skip


if __name__ == "__main__":
    main()
