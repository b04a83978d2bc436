"""How much faster is a step in each precision? What "auto" takes is decided by this and by what is learned.

    python benchmarks/steps.py                # every precision that this processor has, as Markdown
    python benchmarks/steps.py --as avx2      # this processor, limited to AVX2: see processors.py

One thread; precisions take turns in one process, nine rounds, and the median of the rounds' ratios counts:
the processor's time, so that other processes disturb little. A minute, and another for compiling.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import processors

from handgrad.benchmark import ours, workload
from handgrad.engines import cpu
from handgrad.kernels import precision

SIZES = {"nano": (12, 4), "baby": (4, 1)}
"""A batch's sequences, and the steps of a turn."""
ROUNDS = 9


def main() -> None:
    options = argparse.ArgumentParser(description="How much faster a step is in each precision.")
    options.add_argument("--as", dest="limited_to", choices=processors.LIMITS, help="limit this processor")
    given = options.parse_args()
    if given.limited_to:
        processors.run_as(given.limited_to)
    precisions = precision.available()
    print(f"{processors.describe(given.limited_to)}\n")
    print(f"| model | {' | '.join(f'{name}, times as fast as float32' for name in precisions[1:])} |")
    print("|---|" + "---|" * len(precisions[1:]), flush=True)
    for preset in SIZES:
        ratios = speed(preset, precisions)
        print(f"| {preset} | {' | '.join(f'{ratios[name]:.2f}' for name in precisions[1:])} |", flush=True)


def speed(preset: str, precisions: list[str]) -> dict[str, float]:
    """How many times as fast as float32's each precision's step is."""
    config, (batch_size, n_steps) = workload.model(preset, dropout=0.0), SIZES[preset]
    steps = {}
    for name in precisions:
        cpu.compile_kernels(config, name, lambda kernel: None)
        steps[name] = ours.stepper(config, batch_size=batch_size, precision=name, n_workers=1)
        steps[name]()
    rounds = [{name: seconds(step, n_steps) for name, step in steps.items()} for _ in range(ROUNDS)]
    return {name: statistics.median(r["float32"] / r[name] for r in rounds) for name in precisions}


def seconds(step: Callable[[], object], n_steps: int) -> float:
    """Of the processor, for some steps."""
    start = time.process_time()
    for _ in range(n_steps):
        step()
    return time.process_time() - start


if __name__ == "__main__":
    main()
