"""Does an engine change what is learned? `nano` by each of them, as Markdown: losses in nats a character.

    python benchmarks/precisions.py tinyshakespeare.txt                         # all that run on this machine
    python benchmarks/precisions.py tinyshakespeare.txt "cpu, int16"
    HANDGRAD_AMX=emulate python benchmarks/precisions.py tinyshakespeare.txt    # bfloat16 too, without AMX

The last evaluation reads all of the validation text. Some minutes a run; emulated, more.
"""

import statistics
import sys
import tempfile
from pathlib import Path

import handgrad
from handgrad.kernels import precision
from handgrad.training import run
from handgrad.training.metrics import EvaluationRow

SEEDS = (1337, 1, 2)
ENGINES = {
    "reference": {"engine": "reference"},
    **{f"cpu, {name}": {"precision": name} for name in precision.available()},
}


def main(text: str, *names: str) -> None:
    print(f"| engine | {' | '.join(f'seed {seed}' for seed in SEEDS)} | mean | seconds |")
    print("|---|" + "---|" * (len(SEEDS) + 2), flush=True)
    for name in names or ENGINES:
        ends = [last_evaluation(text, seed, **ENGINES[name]) for seed in SEEDS]
        losses = [end.validation_loss for end in ends]
        cells = [f"{loss:.4f}" for loss in (*losses, statistics.mean(losses))]
        seconds = statistics.median(end.seconds for end in ends)
        print(f"| {name} | {' | '.join(cells)} | {seconds:.0f} |", flush=True)


def last_evaluation(text: str, seed: int, **choices: str) -> EvaluationRow:
    with tempfile.TemporaryDirectory() as folder:
        path = handgrad.train(
            text, preset="nano", seed=seed, out=Path(folder) / "run", report=lambda _: None, **choices
        )
        return run.about(path).evaluations[-1]


if __name__ == "__main__":
    main(*sys.argv[1:])
