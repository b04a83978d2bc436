"""Training GPT-2 on a GPU: the xla engine, and the same model in PyTorch, as Markdown.

    python benchmarks/gpu.py                                            # some minutes, on a GPU
    python benchmarks/gpu.py --preset nano --batch 2 --steps 1          # anywhere: to see that it runs

Both train the same model on the same batches in bfloat16, with weights and AdamW in float32: PyTorch
compiled, with its fused attention, its fused AdamW and autocast. Each is a process that waits for its turn;
in each of five rounds each makes the same number of steps. Neither waits for a step before it prepares the
next, as `handgrad train` does not; the line "loss read each step" waits. Operations are those of
`model.count`, so attention counts as if nothing were masked. They are divided by what a large product in
bfloat16 reaches in this run.
"""

import argparse
import contextlib
import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from handgrad.benchmark import workload
from handgrad.benchmark.worker import Worker
from handgrad.model.config import ModelConfig, preset
from handgrad.model.count import count

ROOT = Path(__file__).resolve().parents[1]
ROUNDS, PRODUCTS = 5, 30
LIMIT = 400.0
"""Seconds for a warm-up: both compile in it."""
WAITING = {"xla": "waiting", "torch": "torch-waiting"}
VOCABULARY = 50_304
"""GPT-2's, rounded up to a multiple of 128: for both."""
NAMES = {
    "xla": "handgrad, engine xla",
    "waiting": "handgrad, loss read each step",
    "torch": "PyTorch, compiled",
    "torch-waiting": "PyTorch, loss read each step",
}
ENVIRONMENT = {"PYTHONPATH": f"{ROOT / 'src'}:{ROOT}", "XLA_PYTHON_CLIENT_PREALLOCATE": "false"}


def main() -> None:
    given = arguments()
    if given.serve:
        return serve(*SERVED[given.serve](given))
    config = configured(given)
    tokens = given.batch * config.context_length
    with Worker("benchmarks.gpu", ["--serve", "peak", *sys.argv[1:]], ENVIRONMENT) as worker:
        worker.run(1, LIMIT)
        peak = max(PRODUCTS * 2 * given.size**3 / worker.run(1, LIMIT)[0] for _ in range(ROUNDS))
    rates = measured(given, tokens)
    operations = count(config).training_flops_per_token
    print(f"{given.preset}, {count(config).parameters:,} parameters, batches of {given.batch} x ", end="")
    print(f"{config.context_length}, dropout {given.dropout:g}, bfloat16; peak {peak / 1e12:.3g} TFLOP/s\n")
    print("| | tokens/s | ms a step | of the peak |\n|---|---|---|---|")
    for name, each in rates.items():
        rate = statistics.median(each)
        cells = f"{rate:,.0f} | {1e3 * tokens / rate:.2f} | {rate * operations / peak:.1%}"
        print(f"| {NAMES[name]} | {cells} |")
    if "torch" in rates:
        ratio = statistics.median(a / b for a, b in zip(rates["xla"], rates["torch"], strict=True))
        print(f"\nratio, round by round, median: {ratio:.3f}")


def measured(given: argparse.Namespace, tokens: int) -> dict[str, list[float]]:
    """Tokens per second of each, round by round. A process serves both ways to run: -1 steps mean waiting."""
    peers = ("xla",) if given.alone else ("xla", "torch")
    with contextlib.ExitStack() as stack:
        workers = {}
        for name in peers:
            start = time.perf_counter()
            options = ["--serve", name, *sys.argv[1:]]
            workers[name] = stack.enter_context(Worker("benchmarks.gpu", options, ENVIRONMENT))
            workers[name].run(3, LIMIT)
            print(f"{name}: ready after {time.perf_counter() - start:.0f} s", file=sys.stderr)
        rates: dict[str, list[float]] = {}
        for _ in range(ROUNDS):
            for name, worker in workers.items():
                for waits, sign in ((False, 1), (True, -1)):
                    seconds = worker.run(sign * given.steps, LIMIT)
                    key = name if not waits else WAITING[name]
                    rates.setdefault(key, []).append(len(seconds) * tokens / sum(seconds))
        return rates


def arguments() -> argparse.Namespace:
    options = argparse.ArgumentParser(description="The xla engine beside PyTorch.")
    options.add_argument("--preset", default="gpt2")
    options.add_argument("--batch", type=int, default=16)
    options.add_argument("--context", type=int, help="by default the preset's")
    options.add_argument("--dropout", type=float, default=0.0)
    options.add_argument("--steps", type=int, default=20, help="of a round")
    options.add_argument("--size", type=int, default=8192, help="of the product that measures the peak")
    options.add_argument("--alone", action="store_true", help="without PyTorch")
    options.add_argument("--serve", choices=SERVED, help=argparse.SUPPRESS)
    return options.parse_args()


def configured(given: argparse.Namespace) -> ModelConfig:
    config = preset(given.preset).replace(dropout=given.dropout)
    if given.preset == "gpt2":
        config = config.replace(vocab_size=VOCABULARY)
    return config.replace(context_length=given.context or config.context_length)


def serve(step: Callable[[], Any], wait: Callable[[Any], Any]) -> None:
    """For every line with a number, run that many steps; answer with the seconds of each, on average.

    A negative number: wait for every step before the next.
    """
    for line in sys.stdin:
        n_steps, start = abs(int(line)), time.perf_counter()
        last = step()
        for _ in range(n_steps - 1):
            if int(line) < 0:
                wait(last)
            last = step()
        wait(last)
        print(json.dumps([(time.perf_counter() - start) / n_steps] * n_steps), flush=True)


def xla(given: argparse.Namespace) -> tuple[Callable[[], Any], Callable[[Any], Any]]:
    from handgrad.engines import xla as engine
    from handgrad.engines.engine import OptimizerSettings, State
    from handgrad.model.init import init

    config = configured(given)
    state, settings = State(init(config, workload.SEED)), OptimizerSettings()
    training = engine.training(config, state, settings, precision="bfloat16", batch_size=given.batch)
    batches, rng = workload.batches(config, given.batch), np.random.default_rng(workload.SEED)
    return lambda: training.begin(*next(batches), workload.LEARNING_RATE, rng), lambda begun: begun()


def torch(given: argparse.Namespace) -> tuple[Callable[[], Any], Callable[[Any], Any]]:
    from torch import cuda, set_float32_matmul_precision

    from handgrad.benchmark import torch_peer
    from handgrad.engines.engine import OptimizerSettings

    set_float32_matmul_precision("high")
    device = "cuda" if cuda.is_available() else "cpu"
    config = configured(given)
    training = torch_peer.Training(
        config, OptimizerSettings(), precision="bfloat16", compiled=True, device=device
    )
    batches = workload.batches(config, given.batch)
    return lambda: training.begin(*next(batches), workload.LEARNING_RATE), float


def peak(given: argparse.Namespace) -> tuple[Callable[[], Any], Callable[[Any], Any]]:
    """PRODUCTS products of random matrices, one after the other, make a step."""
    import jax
    import jax.numpy as jnp

    x, y = (jax.random.normal(jax.random.key(i), (given.size, given.size), jnp.bfloat16) for i in range(2))
    multiply = jax.jit(jnp.matmul)
    return lambda: [multiply(x, y) for _ in range(PRODUCTS)][-1], lambda last: last.block_until_ready()


SERVED = {"xla": xla, "torch": torch, "peak": peak}

if __name__ == "__main__":
    main()
