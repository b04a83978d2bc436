"""The README's performance table: training with handgrad and with PyTorch, side by side, as Markdown.

    python benchmarks/against_torch.py            # half an hour; leave the machine alone meanwhile
    python benchmarks/against_torch.py nano baby
    python benchmarks/against_torch.py --as avx2  # this processor, limited to AVX2: see processors.py

Each line is one run of `handgrad.benchmark.against`: processes that take turns, five rounds, medians, and the
ratio to the fastest of PyTorch's variants: eager and compiled, float32 and bfloat16, at several batch sizes.
All are tried on every machine; what a probe of two steps finds more than five times slower than the fastest
is left out, and the table says so.
"""

import argparse
import datetime
import platform
import sys

import numba
import numpy as np
import processors
import torch

from handgrad import engines
from handgrad.benchmark import against, workload
from handgrad.engines import parallel
from handgrad.kernels import machine
from handgrad.training.recipe import RECIPES

ROWS = {
    "nano": {"preset": "nano", "dropout": 0.0},
    "baby": {"preset": "baby", "dropout": 0.0},
    "baby, dropout 0.2": {"preset": "baby", "dropout": 0.2},
    "gpt2, context 256": {"preset": "gpt2", "dropout": 0.0},
}

INSTRUCTIONS = {
    "avx2": "AVX2",
    "avx512f": "AVX-512",
    "avx512bf16": "AVX-512 BF16",
    "avx512vnni": "AVX-512 VNNI",
    "avxvnni": "AVX-VNNI",
    "amx-bf16": "AMX BF16",
    "amx-int8": "AMX INT8",
}
"""LLVM's name of each, and its usual one."""


def main() -> None:
    options = argparse.ArgumentParser(description="Training with handgrad and with PyTorch, side by side.")
    presets = {row["preset"]: None for row in ROWS.values()}
    options.add_argument("presets", nargs="*", help=f"which of {', '.join(presets)}; default: all")
    options.add_argument("--as", dest="limited_to", choices=processors.LIMITS, help="limit this processor")
    given = options.parse_args()
    if unknown := set(given.presets) - set(presets):
        options.error(f"no such preset: {', '.join(unknown)}")
    if given.limited_to:
        processors.run_as(given.limited_to)
    print(heading(given.limited_to))
    print("| model | handgrad | PyTorch at its best | ratio | PyTorch's variants, tokens/s |")
    print("|---|---|---|---|---|", flush=True)
    for name, row in ROWS.items():
        if not given.presets or row["preset"] in given.presets:
            print(line(name, **row), flush=True)


def heading(limited_to: str | None) -> str:
    """When, on what, with what."""
    today, cores = datetime.datetime.now(datetime.UTC).date(), f"{parallel.n_cores()} cores"
    return (
        f"{today}, {processors.describe(limited_to)}, {cores}, {instructions()};\n"
        f"handgrad computes in {engines.get('cpu').describe('auto')};\n"
        f"Python {platform.python_version()}, NumPy {np.__version__}, Numba {numba.__version__}, "
        f"PyTorch {torch.__version__}\n"
    )


def line(name: str, preset: str, dropout: float) -> str:
    """One line of the table."""
    result = against.compare(
        workload.model(preset, dropout),
        against.torch_variants(against.PEER_BATCHES[preset]),
        batch_size=RECIPES[preset].batch_size,
        report=lambda what: print(what, file=sys.stderr, flush=True),
    )
    theirs = [entry for entry in result.entries if entry is not result.ours]
    best = min((e for e in theirs if e.ratio), key=lambda e: e.ratio, default=None)
    others = "; ".join(f"{e.variant}: {rate(e)}" for e in theirs)
    at_best, ratio = (rate(best), f"{best.ratio:.2f}") if best else ("-", "-")
    return f"| {name} | {rate(result.ours)} | {at_best} | **{ratio}** | {others} |"


def instructions() -> str:
    """The instruction sets that decide how fast matrices are multiplied, of those this processor has."""
    return ", ".join(said for name, said in INSTRUCTIONS.items() if machine.FEATURES.get(name)) or "no AVX2"


def rate(entry: against.Entry) -> str:
    return f"{entry.tokens_per_second:,.0f}" if entry.tokens_per_second else f"left out, {entry.failure}"


if __name__ == "__main__":
    main()
