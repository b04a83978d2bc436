"""The CPU engine as a worker: `python -m handgrad.benchmark.ours --config-json JSON --batch 16`."""

import argparse
from collections.abc import Callable

import numpy as np

from handgrad.benchmark import worker, workload
from handgrad.engines import cpu
from handgrad.engines.engine import OptimizerSettings, State
from handgrad.model.config import ModelConfig
from handgrad.model.init import init


def stepper(
    config: ModelConfig,
    *,
    batch_size: int,
    precision: str = "auto",
    n_workers: int | None = None,
    settings: OptimizerSettings = cpu.DEFAULTS,
) -> Callable[[], object]:
    """A function that makes one training step at each call, on the next batch of the workload."""
    training = cpu.Training(
        config,
        State(init(config, workload.SEED)),
        settings,
        precision=precision,
        n_workers=n_workers,
        batch_size=batch_size,
    )
    batches = workload.batches(config, batch_size)
    rng = np.random.default_rng(workload.SEED)
    return lambda: training.step(*next(batches), workload.LEARNING_RATE, rng)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--config-json", required=True, type=workload.from_json)
    options.add_argument("--batch", required=True, type=int)
    options.add_argument("--precision", default="auto")
    given = options.parse_args()
    worker.serve(stepper(given.config_json, batch_size=given.batch, precision=given.precision))


if __name__ == "__main__":
    main()
