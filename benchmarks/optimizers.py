"""What does Muon cost beside a step, and what does it learn? AdamW and Muon on the same batches, as Markdown.

    python benchmarks/optimizers.py                       # milliseconds a step; two minutes
    python benchmarks/optimizers.py tinyshakespeare.txt   # validation losses after equally long; two minutes

Steps of 4,096 tokens. For the time of a step, optimizers take turns in one thread, and the medians of the
processor's time count: other processes disturb little. For losses each optimizer has the learning rates that
were best for it of three, and Muon has so many steps less as it is slower.
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import processors

import handgrad
from handgrad.benchmark import ours, workload
from handgrad.engines import cpu
from handgrad.engines.engine import OPTIMIZERS, OptimizerSettings
from handgrad.training import loop

TOKENS = 4096
ROUNDS = {"nano": 15, "baby": 5}
SHORT = {
    "schedule": "warmup_stable_decay", "decay_share": 2 / 3, "final_share": 0.0,
    "momentum": 0.8, "beta1": 0.8, "beta2": 0.95,
}  # fmt: skip
"""Of runs this short: a straight line down, and a short memory."""
MODERN = {
    "position": "rope", "norm": "rms_norm", "qk_norm": True, "activation": "relu_squared", "tied": False,
}  # fmt: skip
ADAMW = {"optimizer": "adamw", "learning_rate": 4e-3, "steps": 320}
MUON = {"optimizer": "muon", "learning_rate": 4e-3, "matrix_learning_rate": 2e-2, "steps": 300}
RUNS = {"AdamW": ADAMW, "Muon": MUON, "AdamW, `MODERN`": ADAMW | MODERN, "Muon, `MODERN`": MUON | MODERN}


def main() -> None:
    options = argparse.ArgumentParser(description="AdamW and Muon: what a step costs, and what is learned.")
    options.add_argument("text", nargs="?", help="what is trained on: a file")
    given = options.parse_args()
    print(f"{processors.describe(None)}; handgrad computes in {cpu.describe('auto')}\n")
    if given.text:
        print("| `nano`, 64 x 64 tokens a step | steps | validation loss | seconds |\n|---|---|---|---|")
        for name, recipe in RUNS.items():
            loss, seconds = learned(given.text, **recipe)
            print(f"| {name} | {recipe['steps']} | {loss:.3f} | {seconds:.0f} |", flush=True)
        return
    print("| ms a step of 4,096 tokens, one thread | AdamW | Muon |\n|---|---|---|")
    for preset in ROUNDS:
        adamw, muon = milliseconds(preset)
        print(f"| {preset} | {adamw:.1f} | {muon:.1f} |", flush=True)


def milliseconds(preset: str) -> list[float]:
    """A step with each optimizer."""
    config = workload.model(preset)
    batch_size, steps = TOKENS // config.context_length, []
    for optimizer in OPTIMIZERS:
        settings = OptimizerSettings(optimizer=optimizer)
        cpu.compile_kernels(config, "auto", lambda kernel: None, settings)
        steps.append(ours.stepper(config, batch_size=batch_size, n_workers=1, settings=settings))
        steps[-1]()
    rounds: list[list[float]] = [[] for _ in steps]
    for _ in range(ROUNDS[preset]):
        for step, found in zip(steps, rounds, strict=True):
            start = time.process_time()
            step()
            found.append(1e3 * (time.process_time() - start))
    return [statistics.median(found) for found in rounds]


def learned(text: str, **recipe: object) -> tuple[float, float]:
    """The loss over the whole validation text at the end, and how long that took."""
    evaluations: list[loop.Evaluated] = []

    def report(event: loop.Event) -> None:
        if isinstance(event, loop.Evaluated):
            evaluations.append(event)

    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        handgrad.train(
            text, preset="nano", out=Path(folder) / "run", report=report,
            batch_size=64, eval_every=1000, eval_batches=5, **SHORT, **recipe,
        )  # fmt: skip
    return evaluations[-1].validation_loss, time.perf_counter() - start


if __name__ == "__main__":
    main()
