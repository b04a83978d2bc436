"""What guessing ahead gains and costs: time a token, against writing without, interleaved, on the CPU engine.

    python benchmarks/speculation.py [TURNS]

The model has `baby`'s shape and random weights, with a vocabulary of 65. Greedily it soon repeats itself,
which lookup finds; drawn at temperature 2 it does not, and no guess is right. Two drafts: a model of two
layers with other weights, which is never of one mind with it, and the model's own first layers, sometimes.
Time is the processor's, of all threads: a busy machine counts less.
"""

import statistics
import sys
import time

import numpy as np

from handgrad import tree
from handgrad.formats.model_folder import Model
from handgrad.generation import speculation, stream
from handgrad.generation.batch import opened
from handgrad.generation.request import Request
from handgrad.generation.writer import Writer
from handgrad.model.config import PRESETS
from handgrad.model.init import init

CONFIG = PRESETS["baby"].replace(vocab_size=65, dropout=0.0)
N_TOKENS = 200


def random_model(n_layers: int, seed: int) -> Model:
    config, rng = CONFIG.replace(n_layers=n_layers), np.random.default_rng(seed)
    weights = tree.map(lambda w: w + 0.03 * rng.normal(size=w.shape).astype(np.float32), init(config, rng))
    return Model(config, weights)


def first_layers(model: Model, n_layers: int) -> Model:
    weights = model.weights._replace(blocks=model.weights.blocks[:n_layers])
    return Model(model.config.replace(n_layers=n_layers), weights)


def main(turns: int) -> None:
    model = random_model(CONFIG.n_layers, seed=1)
    decoding, prompt = opened(model, "cpu"), np.random.default_rng(2).integers(65, size=40)
    drafts = {"another model": random_model(2, seed=3), "its first layers": first_layers(model, 2)}
    opened_drafts = {name: opened(draft, "cpu") for name, draft in drafts.items()}
    ways = {"without": None, "lookup": speculation.Lookup}
    for name, draft in drafts.items():
        ways[name] = lambda draft=draft, name=name: speculation.DraftModel(draft, opened_drafts[name], 1 / 3)
    print("| text | way | ms a token | against without |\n|---|---|---|---|")
    for text, temperature in (("greedy", 0.0), ("drawn", 2.0)):
        request = Request.of(temperature=temperature, max_tokens=N_TOKENS)
        seconds = {name: [] for name in ways}
        for _ in range(turns):
            for name, way in ways.items():
                for held in (decoding, *opened_drafts.values()):
                    held.cut(0, 0)
                writer, started = Writer(model, prompt, request), time.process_time()
                written = (
                    speculation.pieces(decoding, writer, way()) if way else stream.pieces(decoding, writer)
                )
                ids = [piece.token_id for piece in written]
                seconds[name].append(time.process_time() - started)
                expected = ids if name == "without" else expected
                assert ids == expected, "guesses changed the text"
        base = statistics.median(seconds["without"])
        for name, each in seconds.items():
            median = statistics.median(each)
            print(f"| {text} | {name} | {1e3 * median / N_TOKENS:.2f} | {median / base:.3f} |", flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 5)
