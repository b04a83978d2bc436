"""Arrays as a kernel sees them whose caller keeps them: their references are not counted.

Numba counts a reference wherever an array is taken out of a tuple, by an atomic addition: threads that share
arrays would spend more time on the counters than on short rows.
"""

from collections.abc import Sequence
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic


@intrinsic
def borrowed(typing_context: Any, value: Any) -> Any:
    """An array, or a nested tuple of arrays and numbers, whose arrays have no owner."""

    def without_owner(context: Any, builder: ir.IRBuilder, kind: Any, value: ir.Value) -> ir.Value:
        if isinstance(kind, types.Array):
            array = context.make_array(kind)(context, builder, value)
            array.meminfo = cgutils.get_null_value(array.meminfo.type)
            array.parent = cgutils.get_null_value(array.parent.type)
            return array._getvalue()
        if isinstance(kind, types.BaseTuple):
            parts = zip(kind.types, cgutils.unpack_tuple(builder, value, len(kind.types)), strict=True)
            return context.make_tuple(
                builder, kind, [without_owner(context, builder, each, part) for each, part in parts]
            )
        return value

    def emit(context: Any, builder: ir.IRBuilder, signature: Any, args: Sequence[ir.Value]) -> Any:
        return without_owner(context, builder, signature.return_type, args[0])

    return value(value), emit
