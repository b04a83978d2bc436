"""A run's loss over its whole validation text, by windows that do not overlap and by ones that do.

    python benchmarks/validation.py runs/quick-1 runs/baby-1

Of the best weights. Published losses are of either kind, and a strided one is lower: compare like with like.
"""

import argparse
from pathlib import Path

import handgrad
from handgrad import engines
from handgrad.engines.engine import State
from handgrad.training import evaluate, material, run_config


def losses(folder: Path) -> tuple[float, float]:
    """By windows that do not overlap, and by windows of which the later half counts."""
    config, model = run_config.read(folder), handgrad.load(folder)
    recipe = config.recipe
    tokens = material.read(folder, model.tokenizer, config.layout).validation.tokens
    training = engines.training(
        config.model, State(model.weights), recipe.optimizer_settings, batch_size=recipe.batch_size
    )
    return tuple(
        measure(training, tokens, recipe.batch_size) for measure in (evaluate.loss, evaluate.strided)
    )


def row(folder: Path) -> str:
    """Both losses of a run."""
    config = run_config.read(folder)
    cells = [f"{loss:.4f} ({config.bits_per_byte(loss):.4f} bits a byte)" for loss in losses(folder)]
    return f"| {' | '.join([str(folder), str(config.model.context_length), *cells])} |"


def main() -> None:
    options = argparse.ArgumentParser(description="Losses over whole validation texts.")
    options.add_argument("runs", nargs="+", type=Path, help="folders of runs")
    given = options.parse_args()
    print("| run | context | disjoint windows, nats a token | strided by half a context |\n|---|---|---|---|")
    for folder in given.runs:
        print(row(folder), flush=True)


if __name__ == "__main__":
    main()
