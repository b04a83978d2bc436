"""Which kernels multiply matrices: float32 everywhere, bfloat16 with AMX, 16 bits with AVX2, 8 with VNNI."""

import contextlib
from collections.abc import Callable
from types import ModuleType
from typing import NamedTuple

from handgrad.errors import UserError, require_known
from handgrad.kernels import (
    PRECISIONS,
    attention,
    attention_bfloat16,
    machine,
    products,
    products_bfloat16,
    products_int16,
)


class Kernels(NamedTuple):
    """The kernels that multiply matrices. All others compute in float32."""

    products: ModuleType
    attention: ModuleType


FLOAT32 = Kernels(products, attention)
BFLOAT16 = Kernels(products_bfloat16, attention_bfloat16)
INT16 = Kernels(products_int16, attention)
"""Attention stays float32: its products are short."""
OF = {"float32": FLOAT32, "bfloat16": BFLOAT16, "int16": INT16}


class Fastest(NamedTuple):
    """A kind of processor, and its fastest precision of those that learn the same."""

    processor: str
    is_here: Callable[[], bool]
    precision: str


AUTO = (
    Fastest("AMX", lambda: machine.AMX == "hardware", "bfloat16"),
    Fastest("VNNI, no AMX", lambda: machine.INT16 == "vnni", "int16"),
    Fastest("AVX2, no VNNI", lambda: machine.INT16 == "madd", "int16"),
    Fastest("no AVX2", lambda: True, "float32"),
)
"""What "auto" takes: the first row that is here. What each learns is the same: docs/performance.md.

How many times as fast as float32 a step is, measured in one thread on a Xeon with AMX, limited to the
instructions of the row, not alone (`python benchmarks/steps.py --as ...`, 26 November 2026):

| processor | precision | `nano` | `baby` |
|---|---|---|---|
| AMX | bfloat16 | 1.51 | 2.65 |
| AMX | int16 | 1.34 | 1.62 |
| AVX-512, VNNI | int16 | 1.34 | 1.59 |
| AVX-512, no VNNI | int16 | 1.04 | 1.16 |
| AVX2 | int16 | 1.20 | 1.31 |
"""


def kernels_for(precision: str) -> Kernels:
    """The kernels of `precision`; "auto" takes the fastest that learns the same, see `AUTO`."""
    require_known("precision", precision, PRECISIONS)
    if precision == "bfloat16" and machine.AMX == "none":
        raise UserError(
            "precision bfloat16 needs AMX. This processor does not have it, or Linux does not allow it. Take "
            "float32, or auto."
        )
    if precision == "int16" and machine.INT16 == "none":
        raise UserError(
            "precision int16 needs an x86 processor with AVX2. This processor is none. Take float32, or auto."
        )
    return OF[name_of(precision)]


def available() -> list[str]:
    """The precisions that this machine has."""
    names = []
    for name in OF:
        with contextlib.suppress(UserError):
            kernels_for(name)
            names.append(name)
    return names


def name_of(precision: str) -> str:
    """What "auto" means on this machine."""
    return _fastest().precision if precision == "auto" else precision


def reason(precision: str) -> str:
    """Which precision is taken, and why."""
    if precision != "auto":
        return f"{precision}, as asked"
    chosen = _fastest()
    return f"{chosen.precision}, the fastest here that learns the same ({chosen.processor})"


def _fastest() -> Fastest:
    return next(row for row in AUTO if row.is_here())
