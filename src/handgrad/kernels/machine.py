"""What this processor can do, as the numbers the kernels are built from.

Environment variables choose otherwise, so that one machine can test the code of another:

- `HANDGRAD_LANES`: float32 numbers in a vector, 4, 8 or 16;
- `HANDGRAD_AMX`: auto, off, or emulate (the tile layouts, computed without tiles);
- `HANDGRAD_INT16`: auto, or how pairs of 16-bit integers are multiplied: vnni, madd, or emulate (by plain
  arithmetic). Whether the processor has the instruction is not checked;
- `NUMBA_CPU_FEATURES`: the instructions that Numba compiles for, `+avx2,+fma`. What is not there is not used.

They are read once, before anything is compiled.
"""

import ctypes
import os
import platform
import sys
from typing import Literal

from llvmlite import binding
from numba import config

from handgrad.errors import UserError

ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA, SYS_ARCH_PRCTL = 0x1023, 18, 158

Amx = Literal["hardware", "emulate", "none"]
Int16 = Literal["vnni", "madd", "emulate", "none"]


def _choice(variable: str, choices: tuple[str, ...]) -> str:
    value = os.environ.get(variable, choices[0])
    if value not in choices:
        raise UserError(f"{variable} must be one of {', '.join(choices)}; got {value!r}.")
    return value


def _features() -> dict[str, bool]:
    """Those that kernels are compiled for: the processor's, unless Numba is told others."""
    if config.CPU_FEATURES is not None:
        chosen = config.CPU_FEATURES.split(",")
        return {feature[1:]: feature.startswith("+") for feature in chosen if feature}
    try:
        return dict(binding.get_host_cpu_features())
    except RuntimeError:  # a processor LLVM cannot ask
        return {}


def _lanes(features: dict[str, bool]) -> int:
    chosen = _choice("HANDGRAD_LANES", ("auto", "4", "8", "16"))
    if chosen != "auto":
        return int(chosen)
    if features.get("avx512f"):
        return 16
    return 8 if features.get("avx2") else 4


def _amx(features: dict[str, bool]) -> Amx:
    chosen = _choice("HANDGRAD_AMX", ("auto", "off", "emulate"))
    if chosen == "emulate":
        return "emulate"
    has = features.get("amx-tile") and features.get("amx-bf16")
    return "hardware" if has and chosen == "auto" and _request_tiles() else "none"


def _int16(features: dict[str, bool], lanes: int) -> Int16:
    chosen = _choice("HANDGRAD_INT16", ("auto", "vnni", "madd", "emulate"))
    if chosen in ("vnni", "madd", "emulate"):
        return chosen  # type: ignore[return-value]
    has = features.get
    if not has("avx2"):
        return "none"
    if (has("avx512vnni") and has("avx512vl")) or (has("avxvnni") and lanes < 16):
        return "vnni"
    return "madd" if has("avx512bw" if lanes == 16 else "avx2") else "emulate"


def _request_tiles() -> bool:
    """Ask Linux, once per process, for the right to use tile registers; it may refuse."""
    if not sys.platform.startswith("linux") or platform.machine() != "x86_64":
        return False
    return ctypes.CDLL(None).syscall(SYS_ARCH_PRCTL, ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA) == 0


FEATURES = _features()
LANES = _lanes(FEATURES)
"""float32 numbers in a vector register."""
MICRO_ROWS = 12 if LANES == 16 else 6
MICRO_COLUMNS = 2 * LANES
"""A microkernel computes so many rows and columns of a product in registers: 12 accumulators of 16 registers,
or 24 of 32."""
AMX: Amx = _amx(FEATURES)
"""Whether bfloat16 products run on AMX tiles."""
INT16: Int16 = _int16(FEATURES, LANES)
"""What multiplies pairs of 16-bit integers and adds them up: one instruction, two, or plain arithmetic.
"none" is the last of them too, and says that float32 is faster."""


def describe() -> str:
    """The vector instructions the kernels use, in words."""
    vectors = f"{LANES} float32 a vector"
    return {
        "hardware": f"AMX bfloat16 tiles, {vectors}",
        "emulate": f"AMX emulated, {vectors}",
        "none": f"no AMX, {vectors}",
    }[AMX]
