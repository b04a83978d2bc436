"""Runs with every part, killed again and again at random moments: what they end with.

    python benchmarks/kills.py tinyshakespeare.txt --kills 20          # some ten minutes on two cores

Each run trains on the cpu engine with dropout and keeps three checkpoints: Muon and warmup_stable_decay, by
characters and by BPE; and LoRA, from the first of them. SIGKILL ends it at random moments, half of them
counted from the process's start, half from the beginning of training; the same command, or --resume where the
folder is there, starts it again. At its end the weights and moments of each checkpoint and all rows of
metrics.jsonl, but for their seconds, must be those of a run that nothing disturbed, bit for bit.
"""

import argparse
import json
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from safetensors.numpy import load_file

from handgrad.formats.atomic import PARTIAL
from handgrad.training import metrics
from handgrad.training.run import about

HANDGRAD = [sys.executable, "-m", "handgrad", "train"]
SHARED = "--keep 3 --dropout 0.1 --context-length 32 --batch-size 4 --set eval_batches=2".split()
SMALL = "--n-layers 2 --n-heads 2 --d-model 32 --preset quick --optimizer muon".split()
SCHEDULE = "--set schedule=warmup_stable_decay --set warmup_steps=50 --set decay_share=0.5".split()
STEPS = ["--steps", "3000", "--eval-every", "50"]
STARTING = 3.0
"""Seconds of a process in which half of the kills come."""


class Outcome(NamedTuple):
    """Of one run that was killed."""

    kills: int
    training: int
    """How many of them came while it trained."""
    half_written: int
    """How many left files that were not whole yet."""
    differs: list[str]
    """What is not as in the run that nothing disturbed."""


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("text", type=Path, help="a file")
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args(arguments)
    random.seed(options.seed)
    print("| run | steps | kills | while training | left half-written files | differs at the end |")
    print("|---|---|---|---|---|---|")
    well = True
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        for name, command in commands(options.text, folder):
            calm, out = folder / f"{name}-calm", folder / name
            finish(command, calm)
            outcome = killed(command, out, options.kills, about(calm).progress.seconds)
            outcome = outcome._replace(differs=list(differing(calm, out)))
            kills, training, half_written, differs = outcome
            steps = about(out).steps_done
            shown = ", ".join(differs) or "nothing"
            print(f"| {name} | {steps} | {kills} | {training} | {half_written} | {shown} |", flush=True)
            well = well and not differs and kills == options.kills
    sys.exit(not well)


def commands(text: Path, folder: Path) -> Iterator[tuple[str, list[str]]]:
    """The runs, by name; the last begins from the first."""
    common = [*HANDGRAD, str(text), *SHARED, *STEPS]
    yield "characters", [*common, *SMALL, *SCHEDULE]
    yield "BPE", [*common, *SMALL, *SCHEDULE, "--tokenizer", "bpe", "--vocab-size", "300"]
    yield "LoRA", [*common, *SCHEDULE, "--from", str(folder / "characters-calm"), "--lora", "4"]


def start(command: list[str], out: Path) -> "subprocess.Popen[bytes]":
    """Begin the run, or go on with it."""
    resumes = (out / "config.json").exists()
    chosen = [*HANDGRAD, "--resume"] if resumes else command
    return subprocess.Popen([*chosen, "--out", str(out)], stdout=subprocess.DEVNULL)


def finish(command: list[str], out: Path) -> None:
    if start(command, out).wait():
        sys.exit(f"{out.name} failed.")


def killed(command: list[str], out: Path, n_kills: int, seconds: float) -> Outcome:
    """Have a run of so many seconds killed so often, then end it."""
    kills = training = half_written = 0
    for _ in range(n_kills):
        rows = _changed(out / metrics.METRICS)
        process = start(command, out)
        if in_training := random.random() < 0.5:
            while process.poll() is None and _changed(out / metrics.METRICS) == rows:
                time.sleep(0.001)
        time.sleep(random.uniform(0.0, 2 * seconds / n_kills if in_training else STARTING))
        if process.poll() is not None:
            break  # it is over
        process.kill()
        process.wait()
        kills += 1
        training += _changed(out / metrics.METRICS) != rows
        half_written += any(out.parent.rglob(f".*{PARTIAL}"))
    finish(command, out)
    return Outcome(kills, training, half_written, [])


def _changed(path: Path) -> tuple[int, ...]:
    """What is another one when a process has begun to write `path`."""
    return (path.stat().st_ino,) if path.exists() else ()


def differing(calm: Path, out: Path) -> Iterator[str]:
    """The files that are not the same in two runs."""
    for path in sorted({*_names(calm), *_names(out)}):
        if path not in _names(calm) or path not in _names(out):
            yield f"{path} is in one alone"
        elif path.endswith(".safetensors") and _arrays(calm / path) != _arrays(out / path):
            yield path
    if _rows(calm) != _rows(out):
        yield metrics.METRICS


def _names(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


def _arrays(checkpoint: Path) -> dict[str, bytes]:
    return {name: array.tobytes() for name, array in load_file(checkpoint).items()}


def _rows(folder: Path) -> list[dict[str, Any]]:
    lines = (folder / metrics.METRICS).read_text(encoding="utf-8").splitlines()
    return [json.loads(line) | {"seconds": None} for line in lines]


if __name__ == "__main__":
    main()
