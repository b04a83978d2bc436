"""This processor limited to the instructions of another, for handgrad and for PyTorch alike.

`run_as("avx2")` starts the script anew with environment variables that each engine reads: Numba's for our
kernels, oneDNN's and MKL's for PyTorch's products, ATen's for its loops and those of its compiler, whose C++
is compiled for a processor of that kind. It is this processor still: its clock, caches and memory, and how
fast it computes what it is left with.
"""

import os
import platform
import sys
from pathlib import Path
from typing import NamedTuple

from llvmlite import binding

AMX_AND_LATER = ("amx", "avx10", "avx512fp16")


class Limit(NamedTuple):
    """What a processor without newer instructions is to each engine."""

    without: tuple[str, ...]
    """How the features are called, in LLVM, that are taken away."""
    needs: str
    onednn: str
    aten: str
    mkl: str
    gcc: str
    said: str


LIMITS = {
    "avx2": Limit(("avx512", "avxvnni", *AMX_AND_LATER), "avx2", "AVX2", "avx2", "AVX2", "haswell", "AVX2"),
    "avx2-vnni": Limit(
        ("avx512", *AMX_AND_LATER), "avxvnni", "AVX2_VNNI", "avx2", "AVX2", "alderlake", "AVX2 and AVX-VNNI"
    ),
    "avx512": Limit(
        ("avx512vnni", "avx512bf16", "avxvnni", *AMX_AND_LATER),
        "avx512f", "AVX512_CORE", "avx512", "AVX512", "skylake-avx512", "AVX-512, without VNNI and BF16",
    ),
    "avx512-vnni": Limit(
        ("avx512bf16", *AMX_AND_LATER),
        "avx512vnni", "AVX512_CORE_VNNI", "avx512", "AVX512", "icelake-server", "AVX-512 and VNNI",
    ),
    "avx512-bf16": Limit(
        AMX_AND_LATER,
        "avx512bf16", "AVX512_CORE_BF16", "avx512", "AVX512", "cooperlake", "AVX-512, VNNI and BF16",
    ),
}  # fmt: skip


def run_as(name: str) -> None:
    """Start this script anew, limited, unless it is already."""
    variables = environment(name, dict(binding.get_host_cpu_features()))
    if any(os.environ.get(variable) != value for variable, value in variables.items()):
        os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, **variables})


def environment(name: str, features: dict[str, bool]) -> dict[str, str]:
    """The variables of `LIMITS[name]` on a processor with these features, by LLVM's names."""
    limit = LIMITS[name]
    if not features.get(limit.needs):
        sys.exit(f"--as {name} needs a processor with {limit.said}; this one has no {limit.needs}.")
    left = {
        feature: has and not feature.startswith(limit.without) for feature, has in sorted(features.items())
    }
    return {
        "NUMBA_CPU_FEATURES": ",".join(f"{'+' if has else '-'}{feature}" for feature, has in left.items()),
        "ONEDNN_MAX_CPU_ISA": limit.onednn,
        "ATEN_CPU_CAPABILITY": limit.aten,
        "MKL_ENABLE_INSTRUCTIONS": limit.mkl,
        "TORCHINDUCTOR_CPP_MARCH": limit.gcc,
    }


def describe(limited_to: str | None) -> str:
    """The processor's name and, where it is limited, to what."""
    if limited_to is None:
        return model_name()
    said = LIMITS[limited_to].said
    return f"{model_name()} limited to {said} (its clock, caches and memory are its own)"


def model_name() -> str:
    """As Linux tells it."""
    try:
        with Path("/proc/cpuinfo").open(encoding="utf-8") as file:
            names = [row.partition(":")[2].strip() for row in file if row.startswith("model name")]
    except OSError:
        names = []
    return names[0] if names else platform.processor() or platform.machine()
