"""The README's performance table: training with handgrad and with PyTorch, side by side, as Markdown.

    python benchmarks/against_torch.py            # a quarter of an hour; leave the machine alone meanwhile
    python benchmarks/against_torch.py nano

Each line is one run of `handgrad.benchmark.against`: processes that take turns, five rounds, medians, and the
ratio to the fastest of PyTorch's variants: eager and compiled, float32 and bfloat16, at several batch sizes.
Where the processor has no instruction for bfloat16, PyTorch's is tried with `nano` only: it is many times
slower there, and would take an hour.
"""

import datetime
import platform
import sys
from pathlib import Path

import numba
import numpy as np
import torch

from handgrad import engines
from handgrad.benchmark import against, workload
from handgrad.benchmark.against import COMPILED, EAGER, Variant
from handgrad.engines import parallel
from handgrad.kernels import machine
from handgrad.training.recipe import RECIPES

ROWS = {
    "nano": {"preset": "nano", "dropout": 0.0, "batches": (12,)},
    "baby": {"preset": "baby", "dropout": 0.0, "batches": (4, 16, 64)},
    "baby, dropout 0.2": {"preset": "baby", "dropout": 0.2, "batches": (4, 16)},
    "gpt2, context 256": {"preset": "gpt2", "dropout": 0.0, "batches": (4,)},
}

BFLOAT16 = ("avx512bf16", "amx-bf16")
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


def main(wanted: list[str]) -> None:
    cores, ours = f"{parallel.n_cores()} cores", engines.get("cpu").describe("auto")
    print(f"{datetime.datetime.now(datetime.UTC).date()}, {processor()}, {cores}, {instructions()};")
    print(f"handgrad computes in {ours};")
    print(f"Python {platform.python_version()}, NumPy {np.__version__}, Numba {numba.__version__}, ", end="")
    print(f"PyTorch {torch.__version__}\n")
    print("| model | handgrad | PyTorch at its best | ratio | PyTorch's variants, tokens/s |")
    print("|---|---|---|---|---|", flush=True)
    for name, row in ROWS.items():
        if not wanted or row["preset"] in wanted:
            print(line(name, **row), flush=True)


def line(name: str, preset: str, dropout: float, batches: tuple[int, ...]) -> str:
    """One line of the table."""
    config = workload.model(preset, dropout)
    native = any(machine.FEATURES.get(name) for name in BFLOAT16)
    precisions = ["float32", *(["bfloat16"] if native else [])]
    peers = [Variant(e, p, b) for b in batches for p in precisions for e in (EAGER, COMPILED)]
    if not native and preset == "nano":
        peers.append(Variant(EAGER, "bfloat16", min(batches)))
    result = against.compare(
        config, peers, batch_size=RECIPES[preset].batch_size, report=lambda what: print(what, file=sys.stderr)
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
    return f"{entry.tokens_per_second:,.0f}" if entry.tokens_per_second else entry.failure or "-"


def processor() -> str:
    """Its name, as Linux tells it."""
    try:
        with Path("/proc/cpuinfo").open(encoding="utf-8") as file:
            names = [row.partition(":")[2].strip() for row in file if row.startswith("model name")]
    except OSError:
        names = []
    return names[0] if names else platform.processor() or platform.machine()


if __name__ == "__main__":
    main(sys.argv[1:])
