"""`nano`'s whole recipe with its evaluations, by handgrad and by PyTorch: seconds, as Markdown.

    python benchmarks/recipe.py tinyshakespeare.txt     # ten minutes; leave the machine alone meanwhile

Both make the recipe's steps on its batches, with its learning rates, and evaluate on the same windows at the
same steps, at the end on all of the validation text. PyTorch runs in the variant that is fastest here: eager
or compiled, float32 or bfloat16. The clock covers steps and evaluations; compiling and reading the text come
before it. Runs are processes that take turns; medians count.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import processors

import handgrad
from handgrad import tokenizer as tokenizers
from handgrad.benchmark import against, workload
from handgrad.benchmark.against import COMPILED, OURS, Variant
from handgrad.data import batches, corpus
from handgrad.engines import cpu
from handgrad.model.config import preset
from handgrad.training import evaluate, loop, run
from handgrad.training.recipe import RECIPES

PRESET, ROUNDS, SEED = "nano", 3, 1337
Outcome = dict[str, float]


def main() -> None:
    options = argparse.ArgumentParser(description="nano's whole recipe, by handgrad and by PyTorch.")
    options.add_argument("text", help="what is trained on: a file")
    options.add_argument("--as", dest="limited_to", choices=processors.LIMITS, help="limit this processor")
    options.add_argument("--run", nargs=2, metavar=("ENGINE", "PRECISION"), help="one run only, as JSON")
    given = options.parse_args()
    if given.run:
        print(json.dumps(outcome(given.text, *given.run)))
        return
    if given.limited_to:
        processors.run_as(given.limited_to)
    print(
        f"{processors.describe(given.limited_to)}; handgrad computes in {cpu.describe('auto')}\n", flush=True
    )
    config = preset(PRESET)
    cpu.compile_kernels(config, "auto", lambda kernel: None)
    ours, theirs = Variant(OURS, "auto", RECIPES[PRESET].batch_size), best_of_torch()
    runs: dict[Variant, list[Outcome]] = {ours: [], theirs: []}
    for n_round in range(ROUNDS):
        for variant, outcomes in runs.items():
            tell(f"round {n_round + 1} of {ROUNDS}: {variant}")
            outcomes.append(in_a_process(given.text, variant))
    print("| | seconds | validation loss | rounds |\n|---|---|---|---|")
    for variant, outcomes in runs.items():
        seconds = [outcome["seconds"] for outcome in outcomes]
        rounds = ", ".join(f"{s:.1f}" for s in seconds)
        print(f"| {variant} | {statistics.median(seconds):.1f} | {outcomes[-1]['loss']:.3f} | {rounds} |")
    pairs = zip(*runs.values(), strict=True)
    share = statistics.median(mine["seconds"] / peer["seconds"] for mine, peer in pairs)
    print(f"\nhandgrad takes {share:.2f} of PyTorch's time.")


def best_of_torch() -> Variant:
    """PyTorch's fastest variant of the recipe's batches."""
    batch_size = RECIPES[PRESET].batch_size
    config, variants = workload.model(PRESET), against.torch_variants([batch_size])
    compared = against.compare(config, variants, batch_size=batch_size, n_rounds=3, report=tell)
    return next(e.variant for e in compared.entries if e is not compared.ours and not e.failure)


def in_a_process(text: str, variant: Variant) -> Outcome:
    command = [sys.executable, __file__, text, "--run", variant.engine, variant.precision]
    environment = os.environ | ({} if variant.engine == OURS else against.ENVIRONMENT)
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout)


def outcome(text: str, engine: str, precision: str) -> Outcome:
    """The seconds of steps and evaluations, and the loss over all of the validation text."""
    if engine == OURS:
        with tempfile.TemporaryDirectory() as folder:
            out = handgrad.train(
                text, preset=PRESET, seed=SEED, precision=precision, out=Path(folder) / "run",
                report=lambda event: None,
            )  # fmt: skip
            last = run.about(out).evaluations[-1]
        return {"seconds": last.seconds, "loss": last.validation_loss}
    return of_torch(text, precision, compiled=engine == COMPILED)


def of_torch(text: str, precision: str, *, compiled: bool) -> Outcome:
    """The same by PyTorch, whose two first steps come before the clock, with a learning rate of zero."""
    from handgrad.benchmark.torch_peer import Training

    recipe, pieces = RECIPES[PRESET], list(corpus.open_corpus([text]).pieces())
    tokenizer = tokenizers.train("characters", pieces)
    config = preset(PRESET).replace(vocab_size=tokenizer.vocab_size)
    train, validation = batches.split(tokenizer.encode("".join(pieces)), config.context_length)
    training = Training(config, recipe.optimizer_settings, precision=precision, compiled=compiled)

    def step(learning_rate: float, number: int) -> None:
        rng = np.random.default_rng((SEED, number, loop.BATCH))
        training.step(*batches.draw(train, recipe.batch_size, config.context_length, rng), learning_rate)

    def loss(n_windows: int | None = None) -> float:
        return evaluate.loss(training, validation, recipe.batch_size, n_windows)

    step(0.0, 0)
    step(0.0, 0)
    loss()  # with the last batch, which is smaller
    started = time.perf_counter()
    for number in range(recipe.steps):
        if number % recipe.eval_every == 0:
            loss(recipe.eval_batches * recipe.batch_size)
        step(recipe.learning_rate_at(number), number)
    last = loss()
    return {"seconds": time.perf_counter() - started, "loss": last}


def tell(what: str) -> None:
    print(what, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
