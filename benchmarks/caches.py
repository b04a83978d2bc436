"""What keys and values are kept in: memory, error and speed of each kind of KV cache, as Markdown.

    python benchmarks/caches.py MODEL TEXT.txt [--rounds 5] [--precision auto] [--threads N]

The error is that of logits beside those with a cache in float32, float32 weights both times, over passages of
the text; root mean squares are those of a token's logits less their mean. Perplexity is that of the passages'
second halves. Speed is that of the model as it is written with (`--precision`): a prompt of 512 tokens, and
single tokens after a long prompt, of one text and of 16 at once; every kind in turn, medians of the rounds.
On a machine that does other things as well, one thread's figures are the steadier ones: threads wait for each
other.
"""

import argparse
import statistics
import time
from pathlib import Path

import numpy as np

from handgrad import load
from handgrad.engines import cpu, parallel
from handgrad.formats.model_folder import Model

KINDS = "float32", "bfloat16", "int8"
PASSAGES, LENGTH = 3, 1024
PROMPT, TEXTS, TOKENS = 512, 16, 16


def log_softmax(logits: np.ndarray) -> np.ndarray:
    logits = logits - logits.max(-1, keepdims=True)
    return logits - np.log(np.exp(logits).sum(-1, keepdims=True))


def errors(model: Model, token_ids: np.ndarray) -> dict[str, list[str]]:
    """Root mean square, the largest error, mean KL divergence, and perplexity of each kind."""
    n, length = token_ids.shape
    sums = {kind: np.zeros(4) for kind in KINDS}
    largest = dict.fromkeys(KINDS, 0.0)
    texts = {
        kind: cpu.decoding(model.config, model.weights, precision="float32", cache=kind, capacity=length)
        for kind in KINDS
    }
    for ids in token_ids:
        exact = None
        for kind, decoding in texts.items():
            decoding.cut(0, 0)
            logits = decoding.read([ids], every=True).astype(float)
            likely = log_softmax(logits)
            if exact is None:
                exact, expected = logits, likely
            error = logits - exact
            halves = np.arange(length // 2, length - 1)
            sums[kind] += (
                np.mean((error - error.mean(-1, keepdims=True)) ** 2),
                np.mean((exact - exact.mean(-1, keepdims=True)) ** 2),
                np.mean(np.sum(np.exp(expected) * (expected - likely), -1)),
                -np.mean(likely[halves, ids[halves + 1]]),
            )
            largest[kind] = max(largest[kind], np.abs(error).max())
    rows = {}
    for kind, (square, whole, divergence, loss) in sums.items():
        share = np.sqrt(square / whole)
        rows[kind] = [
            f"{share:.2%}", f"{largest[kind]:.3f}", f"{divergence / n:.1e}", f"{np.exp(loss / n):.3f}"
        ]  # fmt: skip
    return rows


def seconds(decoding: cpu.Decoding, pieces: list[np.ndarray], lengths: list[int]) -> float:
    """Of reading once, after which texts are as long as before."""
    start = time.perf_counter()
    decoding.read(pieces)
    passed = time.perf_counter() - start
    for text, length in enumerate(lengths):
        decoding.cut(text, length)
    return passed


def repeat_first_text(decoding: cpu.Decoding) -> None:
    """All texts' caches become the first one's: reading a long prompt as often takes minutes."""
    cache, memory = decoding._kept.cache, decoding._keys_and_values
    first, of_a_head = 0, (cache.key_head, cache.value_head)
    for n_bytes in of_a_head:
        size = decoding.config.n_layers * cache.n_texts * decoding.config.kv_heads * n_bytes
        rows = memory[first : first + size].reshape(decoding.config.n_layers, cache.n_texts, -1)
        rows[:, 1:] = rows[:, :1]
        first += size
    decoding.lengths[:] = decoding.lengths[0]


def speeds(
    model: Model, token_ids: np.ndarray, precision: str, n_cached: int, rounds: int, n_threads: int
) -> dict[str, list[str]]:
    """Tokens a second of each kind: a prompt, one text, many."""
    texts = {
        kind: cpu.Decoding(
            model.config, model.weights, precision, TEXTS, n_cached + TOKENS,
            blocks=model.blocks, cache=kind, n_threads=n_threads,
        )
        for kind in KINDS
    }  # fmt: skip
    prompt, one = token_ids[:n_cached], token_ids[:1]
    found: dict[str, list[list[float]]] = {kind: [[], [], []] for kind in KINDS}
    for _ in range(rounds):
        for kind, decoding in texts.items():
            found[kind][0].append(PROMPT / seconds(decoding, [prompt[:PROMPT]], [0]))
    for decoding in texts.values():
        decoding.read([prompt], [0])
        repeat_first_text(decoding)
    for _ in range(rounds):
        for kind, decoding in texts.items():
            for column, n in (1, 1), (2, TEXTS):
                lengths = decoding.lengths.tolist()
                passed = [seconds(decoding, [one] * n, lengths) for _ in range(TOKENS)]
                found[kind][column].append(n / statistics.median(passed))
    return {
        kind: [f"{statistics.median(rates):,.0f}" for rates in columns] for kind, columns in found.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("model")
    parser.add_argument("text", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--threads", type=int, default=parallel.n_cores())
    parser.add_argument("--no-errors", action="store_true")
    options = parser.parse_args()
    model = load(options.model)
    assert model.tokenizer is not None
    ids = np.array(model.tokenizer.encode(options.text.read_text()[: 16 * PASSAGES * LENGTH]))
    n_cached = model.config.context_length - TOKENS
    length = min(LENGTH, model.config.context_length)
    told = {} if options.no_errors else errors(model, ids[: PASSAGES * length].reshape(PASSAGES, length))
    rates = speeds(model, ids, options.precision, n_cached, options.rounds, options.threads)
    for kind in KINDS:
        n_bytes = cpu.cache_bytes(model.config, model.weights, cache=kind) // model.config.context_length
        print(f"| {kind} | {n_bytes:,} | {' | '.join([*told.get(kind, []), *rates[kind]])} |", flush=True)


if __name__ == "__main__":
    main()
