"""Which kernels multiply matrices: float32 on every machine, bfloat16 with AMX, scaled integers with AVX2."""

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


def kernels_for(precision: str) -> Kernels:
    """The kernels of `precision`; "auto" takes bfloat16 where the processor has AMX."""
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


def name_of(precision: str) -> str:
    """What "auto" means on this machine."""
    if precision == "auto":
        return "bfloat16" if machine.AMX == "hardware" else "float32"
    return precision


def reason(precision: str) -> str:
    """Which precision is taken, and why."""
    chosen = name_of(precision)
    if precision != "auto":
        return f"{chosen}, as asked"
    return f"{chosen}, the processor has {'' if chosen == 'bfloat16' else 'no '}AMX"
