"""A run's loss over its whole validation text, by windows that do not overlap and by ones that do.

    python benchmarks/validation.py runs/nano-1 runs/baby-1

Of the best weights. Published losses are of either kind, and a strided one is lower: compare like with like.
"""

import argparse
import time
from pathlib import Path

import handgrad
from handgrad import engines
from handgrad.data import batches, token_file
from handgrad.engines.engine import State
from handgrad.training import evaluate, run_config
from handgrad.training.material import TOKENS


def row(folder: Path) -> str:
    """Both losses of a run, and how long they took."""
    config, model = run_config.read(folder), handgrad.load(folder)
    recipe, length = config.recipe, config.model.context_length
    tokens = token_file.read(folder / TOKENS, config.model.vocab_size, config.n_tokens)
    _, validation = batches.split(tokens, length)
    training = engines.training(
        config.model, State(model.weights), recipe.optimizer, batch_size=recipe.batch_size
    )
    cells = [str(folder), f"{length}"]
    for measured in (evaluate.loss, evaluate.strided):
        started = time.perf_counter()
        loss = measured(training, validation, recipe.batch_size)
        seconds = time.perf_counter() - started
        cells.append(f"{loss:.4f} ({config.bits_per_byte(loss):.4f} bits a byte), {seconds:.0f} s")
    return f"| {' | '.join(cells)} |"


def main() -> None:
    options = argparse.ArgumentParser(description="Losses over whole validation texts.")
    options.add_argument("runs", nargs="+", type=Path, help="folders of runs")
    given = options.parse_args()
    print("| run | context | disjoint windows, nats a token | strided by half a context |\n|---|---|---|---|")
    for folder in given.runs:
        print(row(folder), flush=True)


if __name__ == "__main__":
    main()
