"""What a compiled call works with, written down once: a table of numbers, and of arrays' addresses.

Numba takes tuples apart at every call, array by array: thirty of them take twenty microseconds, more than a
layer of a small model. A call that is given the table's address reads them in none. References are not
counted: who makes a table keeps the arrays.

A `NamedTuple` says by its annotations what it holds: `int`, `bool`, `np.float32`, arrays as
`Annotated[np.ndarray, dtype, axes]`, and tuples of that kind.
"""

import itertools
from collections.abc import Callable, Iterator
from typing import Annotated, Any, get_args, get_origin, get_type_hints

import numpy as np
from llvmlite import ir
from numba import from_dtype, types
from numba.extending import intrinsic
from numba.np.arrayobj import make_array, populate_array

from handgrad.kernels.vector import F32, I32, I64, at_address, i64

NUMBERS = {int: types.int64, bool: types.boolean, np.float32: types.float32}


def table(value: Any) -> np.ndarray:
    """The words of a tuple, in order: a number is one, an array its address and shape."""
    return np.array(list(_words(type(value), value)), np.int64)


def reader(kind: Any) -> Any:
    """The function of kernels that reads such a tuple from the table at an address."""
    result = _type_of(kind)

    @intrinsic
    def kept(typing_context: Any, at: Any) -> Any:
        def emit(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> Any:
            places = itertools.count(0, 8)
            return _emit(context, builder, result, lambda: _word(builder, args[0], next(places)))

        return result(types.int64), emit

    return kept


def _fields(kind: Any) -> list[Any]:
    hints = get_type_hints(kind, include_extras=True)
    return [hints[name] for name in kind._fields]


def _words(kind: Any, value: Any) -> Iterator[int]:
    if get_origin(kind) is Annotated:
        _, dtype, n_axes = get_args(kind)
        if value.dtype != dtype or value.ndim != n_axes or not value.flags.c_contiguous:
            raise TypeError(f"not an array of {n_axes} axes of {np.dtype(dtype)}, in C's order")
        yield value.ctypes.data
        yield from value.shape
    elif kind in NUMBERS:
        yield int(np.float32(value).view(np.uint32)) if kind is np.float32 else int(value)
    else:
        for field, part in zip(_fields(kind), value, strict=True):
            yield from _words(field, part)


def _type_of(kind: Any) -> types.Type:
    """Numba's type."""
    if get_origin(kind) is Annotated:
        _, dtype, n_axes = get_args(kind)
        return types.Array(from_dtype(np.dtype(dtype)), n_axes, "C")
    if kind in NUMBERS:
        return NUMBERS[kind]
    return types.BaseTuple.from_types([_type_of(field) for field in _fields(kind)], kind)


def _word(builder: ir.IRBuilder, at: ir.Value, offset: int) -> ir.Value:
    """A word that nobody writes while a kernel runs: it need not be held in a register."""
    word = builder.load(at_address(builder, at, offset, I64), align=8)
    word.set_metadata("invariant.load", builder.module.add_metadata([]))
    return word


def _emit(context: Any, builder: ir.IRBuilder, kind: types.Type, word: Callable[[], ir.Value]) -> Any:
    if isinstance(kind, types.BaseTuple):
        parts = [_emit(context, builder, each, word) for each in kind.types]
        return context.make_tuple(builder, kind, parts)
    if isinstance(kind, types.Array):
        return _emit_array(context, builder, kind, word(), [word() for _ in range(kind.ndim)])
    if kind == types.float32:
        return builder.bitcast(builder.trunc(word(), I32), F32)
    return builder.trunc(word(), ir.IntType(1)) if kind == types.boolean else word()


def _emit_array(
    context: Any, builder: ir.IRBuilder, kind: types.Array, address: ir.Value, shape: list[ir.Value]
) -> Any:
    array, size = (
        make_array(kind)(context, builder),
        context.get_abi_sizeof(context.get_data_type(kind.dtype)),
    )
    strides = [i64(size)]
    for length in reversed(shape[1:]):
        strides.insert(0, builder.mul(strides[0], length))
    data = builder.inttoptr(address, array.data.type)
    populate_array(array, data, shape, strides, i64(size), None)
    return array._getvalue()
